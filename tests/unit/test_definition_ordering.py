"""Sort keys: their text orders as the typed values do, and gives the values back."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bucketdex.definition import Field, FieldType, from_json, to_python
from bucketdex.definition.ordering import component, component_function, escape, prefix_end, unescape, value

EXACT = Context(prec=200)
ODD_TEXT = st.text(
    alphabet=st.sampled_from('\x00\x01\x02\x03 "#=a~é\ud7ff\ue000\uffff\U00010000\U0010ffff'), max_size=6
)
TEXT = st.one_of(ODD_TEXT, st.text(max_size=8))
DECIMALS = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(map(int, str(digits))), exponent)),
    st.integers(0, 1),
    st.one_of(st.integers(0, 1200), st.integers(0, 10**38 - 1)),
    st.one_of(st.integers(-4, 4), st.integers(-38, 38)),
).filter(lambda number: not number or number.normalize(EXACT).as_tuple().exponent <= 38)
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.STRING: TEXT,
    FieldType.INT: st.one_of(
        st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1])
    ),
    FieldType.FLOAT: st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 1.0, -1.0]),
    ),
    FieldType.DECIMAL: DECIMALS,
    FieldType.BOOL: st.booleans(),
    FieldType.TIMESTAMP: st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    FieldType.DATE: st.dates().map(lambda day: day.isoformat()),
}


def canonical(kind: FieldType, raw: Any) -> Any:
    return from_json(Field("x", kind), raw)


def pairs(kind: FieldType) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.tuples(VALUES[kind], VALUES[kind]).map(lambda pair: (canonical(kind, pair[0]), canonical(kind, pair[1])))


TYPED_PAIRS = st.sampled_from(list(FieldType)).flatmap(lambda kind: st.tuples(st.just(kind), pairs(kind)))


def sign(a: Any, b: Any) -> int:
    return (a > b) - (a < b)


@pytest.mark.parametrize("kind", list(FieldType))
def test_components_order_as_values_do_and_give_them_back(kind: FieldType) -> None:
    @given(pairs(kind))
    def check(pair: tuple[Any, Any]) -> None:
        a, b = pair
        text_a, text_b = component(kind, a), component(kind, b)
        assert sign(text_a + "\x00", text_b + "\x00") == sign(to_python(kind, a), to_python(kind, b))
        assert sign((text_a + "\x00").encode(), (text_b + "\x00").encode()) == sign(text_a + "\x00", text_b + "\x00")
        assert text_a >= "\x02"
        assert "\x00" not in text_a
        assert value(kind, text_a) == a
        assert type(value(kind, text_a)) is type(a)

    check()


@given(st.lists(st.tuples(TYPED_PAIRS, st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_keys_of_several_components_order_as_tuples_with_nulls_first(
    columns: list[tuple[tuple[FieldType, tuple[Any, Any]], bool, bool]],
) -> None:
    keys, tuples = ["", ""], [[], []]  # type: ignore[var-annotated]
    for (kind, pair), *nulls in columns:
        for side in (0, 1):
            item = None if nulls[side] else pair[side]
            keys[side] += component(kind, item) + "\x00"
            tuples[side].append((item is not None, 0 if item is None else to_python(kind, item)))
    assert sign(keys[0], keys[1]) == sign(tuples[0], tuples[1])


@pytest.mark.parametrize("kind", list(FieldType))
def test_null_comes_first(kind: FieldType) -> None:
    assert component_function(kind)(None) == ""
    assert value(kind, "") is None


@pytest.mark.parametrize(
    "ascending",
    [
        ["-1E+38", "-99999999999999999999999999999999999999", "-1000", "-12", "-1.5", "-1.2", "-1.19", "-1", "-0.1"],
        ["-0.01", "-1E-38", "0", "1E-38", "0.01", "0.0100001", "0.1", "1", "1.19", "1.2", "9", "10", "100"],
        ["9.9E+38", "99999999999999999999999999999999999999E+38"],
    ],
)
def test_decimals_of_all_sizes(ascending: list[str]) -> None:
    keys = [component(FieldType.DECIMAL, canonical(FieldType.DECIMAL, text)) for text in ascending]
    assert keys == sorted(set(keys))


@given(TEXT, TEXT)
@example("", "\x00")
@example("a\x00", "a\x01")
@example("a", "a\x00")
def test_escaping_keeps_order_and_is_undone(a: str, b: str) -> None:
    assert "\x00" not in escape(a)
    assert unescape(escape(a)) == a
    assert sign(escape(a) + "\x00", escape(b) + "\x00") == sign(a, b)


@given(TEXT, TEXT)
@example("\U0010ffff", "")
@example("a\ud7ff", "\U0010ffff")
def test_prefix_end_is_past_all_that_start_so_and_no_further(prefix: str, rest: str) -> None:
    end = prefix_end(prefix)
    if end is None:
        assert not prefix.strip("\U0010ffff")
        return
    end.encode()
    assert prefix + rest < end
    for other in (rest, prefix[:-1] + rest):
        if not other.startswith(prefix) and other > prefix:
            assert other >= end


@given(st.text(max_size=4), st.text(max_size=4))
def test_a_prefix_of_a_text_is_a_prefix_of_its_component(prefix: str, rest: str) -> None:
    assert component(FieldType.STRING, prefix + rest).startswith("=" + escape(prefix))
