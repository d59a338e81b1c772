"""Notification filters: S3 refuses prefixes of which one begins another; emulators take them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.definition import TableDefinition
from infra.notifications import CONFIGURATIONS_MAX, EVENTS, UNENCODED, filter_prefixes, subscriptions
from tests.infra.test_infra_template import one


def table(name: str, *, prefix: str | None = None, key: str | None = None, tag: bool = False) -> TableDefinition:
    source: dict[str, Any] = {"format": "json", **({"prefix": prefix} if prefix is not None else {"key": key})}
    field: dict[str, Any] = {"type": "string", "from": "tag"} if tag else {"type": "string"}
    return TableDefinition.from_dict(name, {"source": source, "fields": {"a": field}}, origin=name)


def test_prefixes_are_the_literal_beginnings_of_what_tables_claim() -> None:
    tables = [table("a", prefix="orders/"), table("b", key="logs/day={day}/{name}"), table("c", prefix="plain")]
    assert filter_prefixes(tables) == ["logs/day", "orders/", "plain"]  # "=" would have to be encoded


def test_a_prefix_that_begins_another_covers_it() -> None:
    assert filter_prefixes([table("a", prefix="a/"), table("b", prefix="a/b/"), table("c", prefix="ab/")]) == [
        "a/",
        "ab/",
    ]


def test_cutting_may_make_prefixes_meet() -> None:
    assert filter_prefixes([table("a", prefix="x/ä/"), table("b", prefix="x/b/")]) == ["x/"]
    assert filter_prefixes([table("a", key="{any}.json"), table("b", prefix="b/")]) == [""]


@given(st.lists(st.text("ab/ +ü=", min_size=1, max_size=6), min_size=1, max_size=8))
def test_no_filter_overlaps_another_and_every_key_is_covered(prefixes: list[str]) -> None:
    tables = [table(f"t{number}", prefix=prefix) for number, prefix in enumerate(prefixes)]
    kept = filter_prefixes(tables)
    assert not [pair for pair in combinations(kept, 2) if pair[1].startswith(pair[0]) or pair[0].startswith(pair[1])]
    assert all(any(prefix.startswith(short) for short in kept) for prefix in prefixes)
    assert all(set(short) <= UNENCODED for short in kept)


def test_tagging_is_announced_only_where_a_tag_is_a_field() -> None:
    pairs = subscriptions([table("a", prefix="a/"), table("b", prefix="b/", tag=True)])
    by_prefix = {prefix: {event.name for event, other in pairs if other == prefix} for _, prefix in pairs}
    assert by_prefix["b/"] - by_prefix["a/"] == {"OBJECT_TAGGING"}
    assert by_prefix["a/"] == {event.name for event in EVENTS}


@pytest.mark.parametrize("count", [25, 26])
def test_past_the_limit_of_s3_the_whole_bucket_is_announced(count: int) -> None:
    pairs = subscriptions([table(f"t{number}", prefix=f"p{number:02}/") for number in range(count)])
    assert len(pairs) <= CONFIGURATIONS_MAX
    assert ({prefix for _, prefix in pairs} == {""}) == (count * len(EVENTS) > CONFIGURATIONS_MAX)


def test_the_template_announces_all_that_changes_an_object(template: dict[str, Any]) -> None:
    _, notifications = one(template, "Custom::S3BucketNotifications", "DataBucket")
    configurations = notifications["Properties"]["NotificationConfiguration"]["TopicConfigurations"]
    announced: dict[str, set[str]] = {}
    for item in configurations:
        assert "Events" in str(item["TopicArn"])
        (rule,) = item["Filter"]["Key"]["FilterRules"]
        assert rule["Name"] == "prefix"
        announced.setdefault(rule["Value"], set()).update(item["Events"])
    always = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed"}
    assert announced == {"logs/day": always, "orders/": always, "photos/": always | {"s3:ObjectTagging:*"}}


def test_the_tables_of_the_checkout_have_filters_s3_takes() -> None:
    from bucketdex.definition import load_tables

    assert filter_prefixes(load_tables(Path(__file__).resolve().parents[2] / "tables"))
