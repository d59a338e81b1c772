"""Key templates, and whether two tables can claim one key."""

from __future__ import annotations

import re
import time
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bucketdex.definition import KeyTemplate, ValueTypeError
from bucketdex.definition.template import common_key, minimal_prefixes


@pytest.mark.parametrize(
    ("template", "key", "found"),
    [
        ("orders/{region}/{id}.json", "orders/eu/17.json", {"region": "eu", "id": "17"}),
        ("orders/{region}/{id}.json", "orders/eu/a.json.json", {"region": "eu", "id": "a.json"}),
        ("orders/{region}/{id}.json", "orders/eu/x/17.json", None),
        ("orders/{region}/{id}.json", "orders//17.json", None),
        ("orders/{region}/{id}.json", "orders/eu/.json", None),
        ("orders/{region}/{id}.json", "orders/eu/17.jsonl", None),
        ("orders/{region}/{id}.json", "orders/eu/17xjson", None),
        ("orders/{region}/{id}.json", "x/orders/eu/17.json", None),
        ("logs/day={day}/{name}", "logs/day=2026-01-02/a b+c%20é", {"day": "2026-01-02", "name": "a b+c%20é"}),
        ("{a}-{b}", "1-2-3", {"a": "1", "b": "2-3"}),
        ("{a}-{b}.x", "-.x-y.x", {"a": "-.x", "b": "y"}),
        ("{a}--{b}", "----x", {"a": "-", "b": "-x"}),
        ("{odd name!}.csv", "line\nbreak.csv", {"odd name!": "line\nbreak"}),
        ("{x}.csv", "a.csv\n", None),
        ("settings.json", "settings.json", {}),
        ("settings.json", "settings.json2", None),
        ("(a|b)*{x}", "(a|b)*1", {"x": "1"}),
    ],
)
def test_match(template: str, key: str, found: dict[str, str] | None) -> None:
    assert KeyTemplate(template).match(key) == found


@pytest.mark.parametrize("template", ["", "a/{", "a/}", "{}", "{a/b}", "{a}{b}", "{a}/{a}", "{{a}}", "x{a}{b}y"])
def test_templates_that_cannot_be_read(template: str) -> None:
    with pytest.raises(ValueTypeError):
        KeyTemplate(template)


def test_literal_prefix() -> None:
    assert KeyTemplate("logs/day={day}/x").literal_prefix == "logs/day="
    assert KeyTemplate("{day}/x").literal_prefix == ""
    assert KeyTemplate("a/b.json").literal_prefix == "a/b.json"


def test_a_hostile_key_takes_no_time() -> None:
    template = KeyTemplate("-".join(f"{{p{i}}}" for i in range(12)) + ".json")
    started = time.perf_counter()
    assert template.match("-" * 1024) is None
    assert template.match("a-" * 511 + "x") is None
    assert time.perf_counter() - started < 0.5


PIECES = st.sampled_from(["a", "b", "/", "ab", "a/", "{}", "{}", "{}"])


@st.composite
def templates(draw: st.DrawFn) -> KeyTemplate:
    parts = draw(st.lists(PIECES, min_size=1, max_size=5))
    text = "".join(part if part != "{}" else f"{{p{i}}}" for i, part in enumerate(parts))
    assume("}{" not in text)
    return KeyTemplate(text)


PATTERNS = st.one_of(templates(), st.text(alphabet="ab/", max_size=3))
KEYS = ["".join(letters) for length in range(7) for letters in product("ab/", repeat=length)]


def matches(pattern: KeyTemplate | str, key: str) -> bool:
    return key.startswith(pattern) if isinstance(pattern, str) else pattern.match(key) is not None


@given(templates(), st.text(alphabet="ab/", max_size=9))
def test_matching_agrees_with_a_backtracking_expression(template: KeyTemplate, key: str) -> None:
    expression = re.sub(r"\{[^{}]+\}", "([^/]+?)", template.text)
    expected = re.fullmatch(expression, key)
    found = template.match(key)
    assert (None if found is None else tuple(found.values())) == (None if expected is None else expected.groups())


@given(PATTERNS, PATTERNS)
def test_overlap_is_decided_exactly(one: KeyTemplate | str, other: KeyTemplate | str) -> None:
    key = common_key(one, other)
    assert (key is None) == (common_key(other, one) is None)
    if key is None:
        assert not any(matches(one, k) and matches(other, k) for k in KEYS)
    else:
        assert matches(one, key)
        assert matches(other, key)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("orders/", "orders/eu/", True),
        ("orders/", "orders-archive/", False),
        ("", "anything", True),
        ("{a}/x.json", "orders/{b}.json", True),
        ("flights/{origin}/{day}.csv", "flights/{origin}/{day}.ndjson", False),
        ("flights/{origin}/{day}.csv", "flights/{origin}/{day}.csv.gz", False),
        ("{a}.gz", "{b}.csv.gz", True),
        ("a/{x}", "a/{x}/{y}", False),
        ("a{x}a", "ab", True),
        ("a{x}a", "b", False),
        ("{x}-2026", "2026-{y}", True),
    ],
)
def test_overlaps(one: str, other: str, overlap: bool) -> None:
    left, right = (KeyTemplate(text) if "{" in text else text for text in (one, other))
    assert (common_key(left, right) is not None) is overlap


def test_overlap_of_long_patterns_is_quick() -> None:
    long = KeyTemplate("a" * 400 + "/{x}/" + "b" * 400 + "{y}")
    started = time.perf_counter()
    assert common_key(long, KeyTemplate("{p}/{q}/" + "b" * 300 + "{r}.json")) is not None
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("prefixes", "minimal"),
    [
        ([], ()),
        (["a/", "a/b/", "a/bc"], ("a/",)),
        (["b", "a", "a"], ("a", "b")),
        (["a/b", "a", "", "z"], ("",)),
        (["orders/", "orders-eu/", "orders/eu"], ("orders-eu/", "orders/")),
    ],
)
def test_minimal_prefixes(prefixes: list[str], minimal: tuple[str, ...]) -> None:
    assert minimal_prefixes(prefixes) == minimal


@given(st.lists(st.text(alphabet="ab/é", max_size=4), max_size=8))
def test_minimal_prefixes_cover_all_and_never_overlap(prefixes: list[str]) -> None:
    kept = minimal_prefixes(prefixes)
    assert all(sum(prefix.startswith(k) for k in kept) == 1 for prefix in prefixes)
    assert set(kept) <= set(prefixes)
    assert not any(a != b and a.startswith(b) for a in kept for b in kept)
