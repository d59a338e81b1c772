"""Paths of the index bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.storage import (
    base_generation,
    delta_path,
    descriptor_path,
    manifest_path,
    table_of,
    table_prefix,
    tables_prefix,
    view_path,
)

TABLES = st.from_regex(r"\A[a-z][a-z0-9_-]{0,20}\Z")
TOKENS = st.from_regex(r"\A[0-9a-f]{16}\Z")


@given(TABLES, st.integers(0, 10**13), TOKENS)
def test_generation_and_table_come_back_from_every_immutable_path(table: str, base: int, token: str) -> None:
    paths = [
        delta_path(table, base, token),
        view_path(table, "by_day-12ab", base, token),
        descriptor_path(table, base, token),
    ]
    for path in paths:
        assert base_generation(path) == base
        assert table_of(path) == table
        assert path.startswith(table_prefix(table))
    assert len(set(paths)) == 3


def test_layout_is_the_documented_one() -> None:
    assert tables_prefix() == "tables/"
    assert manifest_path("orders") == "tables/orders/manifest.json"
    assert delta_path("orders", 7, "ab") == "tables/orders/deltas/000000000007-ab.ndjson.zst"
    assert view_path("orders", "by_day-9f", 7, "ab") == "tables/orders/views/by_day-9f/000000000007-ab.ndjson.zst"
    assert descriptor_path("orders", 7, "ab") == "tables/orders/descriptors/000000000007-ab.json.zst"


def test_files_of_later_generations_sort_later() -> None:
    paths = [delta_path("t", base, "ff") for base in (0, 9, 10, 99, 100, 123456)]
    assert paths == sorted(paths)


@pytest.mark.parametrize(
    "path", ["tables/orders/manifest.json", "x/000000000007-ab.zst", "tables/t/deltas/7-ab", "", "tables/t/deltas/-ab"]
)
def test_other_paths_have_no_generation(path: str) -> None:
    with pytest.raises(ValueError, match="not an immutable file"):
        base_generation(path)


@pytest.mark.parametrize("path", ["orders/manifest.json", "tables/", "tables/orders", "tables//manifest.json"])
def test_other_paths_have_no_table(path: str) -> None:
    with pytest.raises(ValueError, match="not a path of an index"):
        table_of(path)
