from hypothesis import given
from hypothesis import strategies as st

from bucketdex.query.keyset import CLOSE, EMPTY, NOT_NULL, NULL, KeySet, Range, point, span, union

COMPONENTS = ["", "=", "=a", "=a\x01\x01", "=aa", "=b", "=\U0010ffff", "0", "1", "ff"]
values = st.sampled_from(COMPONENTS)
real = st.sampled_from(COMPONENTS[1:])
ranges = st.one_of(
    st.builds(point, values),
    st.builds(span, st.none() | real, st.none() | real, low_included=st.booleans(), high_included=st.booleans()),
)
keysets = st.lists(ranges, max_size=5).map(lambda items: union(tuple(items)))


def members(keys: KeySet) -> set[str]:
    return {
        c for c in COMPONENTS if any(r.low <= c + CLOSE and (r.high is None or c + CLOSE < r.high) for r in keys.ranges)
    }


@given(keysets, keysets)
def test_algebra_is_that_of_sets(a: KeySet, b: KeySet) -> None:
    assert members(a & b) == members(a) & members(b)
    assert members(a | b) == members(a) | members(b)
    assert members(a.complement()) == set(COMPONENTS) - members(a) - {""}


@given(keysets)
def test_ranges_are_disjoint_and_ascending_and_contain_what_they_say(keys: KeySet) -> None:
    for earlier, later in zip(keys.ranges, keys.ranges[1:], strict=False):
        assert earlier.high is not None and earlier.high < later.low
    assert {c for c in COMPONENTS if c in keys} == members(keys)


@given(real, real, st.booleans(), st.booleans())
def test_a_span_means_its_comparison(low: str, high: str, low_in: bool, high_in: bool) -> None:
    found = members(union((span(low, high, low_included=low_in, high_included=high_in),)))
    assert found == {
        c for c in COMPONENTS[1:] if (low <= c if low_in else low < c) and (c <= high if high_in else c < high)
    }


def test_points() -> None:
    assert point("=a").is_point and NULL.is_point and not NOT_NULL.is_point
    assert union((span("=a", "=a"),)).all_points
    assert not Range("=a\x00", "=b\x01").is_point
    assert EMPTY.all_points and not EMPTY.ranges
    assert members(union((NULL, NOT_NULL))) == set(COMPONENTS)
