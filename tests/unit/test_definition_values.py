"""Canonical values: what each type accepts, refuses and stores."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.definition import Field, FieldType, ValueTypeError, from_json, from_literal, from_text, to_python
from bucketdex.errors import QueryError


def field(kind: str, **properties: Any) -> Field:
    return Field("amount", FieldType(kind), **properties)


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other and str(one) == str(other)


JSON_ACCEPTED = [
    ("string", "", ""),
    ("string", "a\x00ß\U0001f600", "a\x00ß\U0001f600"),
    ("int", 3, 3),
    ("int", 3.0, 3),
    ("int", -0.0, 0),
    ("int", Decimal("1E+3"), 1000),
    ("int", Decimal("0E+999999999"), 0),
    ("int", 2**63 - 1, 2**63 - 1),
    ("int", -(2**63), -(2**63)),
    ("int", Decimal(-(2**63)), -(2**63)),
    ("float", 1.5, 1.5),
    ("float", -0.0, 0.0),
    ("float", 2, 2.0),
    ("float", Decimal("-0"), 0.0),
    ("float", Decimal("1e-999999999"), 0.0),
    ("float", 5e-324, 5e-324),
    ("decimal", Decimal("12.50"), "12.5"),
    ("decimal", Decimal("-0.000"), "0"),
    ("decimal", Decimal("0E-999999999"), "0"),
    ("decimal", Decimal("1E+38"), "1" + "0" * 38),
    ("decimal", Decimal("-1E-38"), "-0." + "0" * 37 + "1"),
    ("decimal", Decimal("100"), "100"),
    ("decimal", Decimal("100.00"), "100"),
    ("decimal", Decimal("1." + "0" * 200), "1"),
    ("decimal", Decimal("9" * 38), "9" * 38),
    ("decimal", Decimal("9" * 38 + "E38"), "9" * 38 + "0" * 38),
    ("decimal", 10**76 - 10**38, "9" * 38 + "0" * 38),
    ("decimal", 0.1, "0.1"),
    ("decimal", 1e22, "1" + "0" * 22),
    ("decimal", -0.0, "0"),
    ("decimal", 7, "7"),
    ("decimal", "007.50", "7.5"),
    ("decimal", "+1e2", "100"),
    ("decimal", ".5", "0.5"),
    ("decimal", "-0.0", "0"),
    ("bool", True, True),
    ("bool", False, False),
    ("date", "2024-02-29", "2024-02-29"),
    ("timestamp", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
]

JSON_REFUSED = [
    ("string", 1),
    ("string", True),
    ("string", []),
    ("string", {}),
    ("string", "\ud800"),
    ("int", True),
    ("int", "3"),
    ("int", 3.5),
    ("int", 2**63),
    ("int", -(2**63) - 1),
    ("int", 10**5000),
    ("int", 9007199254740994.0),
    ("int", math.nan),
    ("int", math.inf),
    ("int", Decimal("1e999999999")),
    ("int", Decimal("1e-999999999")),
    ("int", Decimal("NaN")),
    ("int", Decimal("0.5")),
    ("int", [1]),
    ("float", True),
    ("float", "1.5"),
    ("float", math.nan),
    ("float", -math.inf),
    ("float", 10**400),
    ("float", Decimal("1e999999999")),
    ("float", Decimal("sNaN")),
    ("float", Decimal("Infinity")),
    ("decimal", True),
    ("decimal", math.nan),
    ("decimal", math.inf),
    ("decimal", Decimal("NaN")),
    ("decimal", Decimal("sNaN12")),
    ("decimal", Decimal("-Infinity")),
    ("decimal", Decimal("1e999999999")),
    ("decimal", Decimal("1e-999999999")),
    ("decimal", "1e999999999"),
    ("decimal", "1e99999999999999999999999"),
    ("decimal", Decimal("1E+39")),
    ("decimal", Decimal("1E-39")),
    ("decimal", Decimal("1" * 39)),
    ("decimal", 10**39),
    ("decimal", 10**100000),
    ("decimal", "1_000"),
    ("decimal", " 1"),
    ("decimal", "1\n"),
    ("decimal", "١"),
    ("decimal", "NaN"),
    ("decimal", ""),
    ("decimal", "."),
    ("decimal", "1e"),
    ("bool", 1),
    ("bool", 0),
    ("bool", "true"),
    ("date", 20260102),
    ("date", "2023-02-29"),
    ("date", "2026-1-2"),
    ("date", "2026-W01-1"),
    ("date", "20260102"),
    ("date", "0000-01-01"),
    ("date", "2026-01-02T00:00:00Z"),
    ("date", "2026-01-02\n"),
    ("timestamp", 1767323045),
    ("timestamp", True),
]


@pytest.mark.parametrize(("kind", "value", "canonical"), JSON_ACCEPTED)
def test_a_json_value_that_fits_has_one_form(kind: str, value: Any, canonical: Any) -> None:
    assert same(from_json(field(kind), value), canonical)


@pytest.mark.parametrize(("kind", "value"), JSON_REFUSED, ids=lambda v: repr(v)[:30] if not isinstance(v, int) else "n")
def test_a_json_value_that_does_not_fit_is_refused_with_a_reason(kind: str, value: Any) -> None:
    with pytest.raises(ValueTypeError) as caught:
        from_json(field(kind), value)
    assert 0 < len(caught.value.reason) < 80


@pytest.mark.parametrize("kind", list(FieldType))
def test_null_stays_null(kind: FieldType) -> None:
    assert from_json(field(kind), None) is None
    assert from_text(field(kind), None) is None
    assert from_literal(field(kind), None) is None
    assert to_python(kind, None) is None


TEXT_ACCEPTED = [
    ("string", " a ", " a "),
    ("int", "007", 7),
    ("int", "-7", -7),
    ("int", "+7", 7),
    ("int", "3.0", 3),
    ("int", "9223372036854775807", 2**63 - 1),
    ("int", "-9223372036854775808", -(2**63)),
    ("int", "0" * 5000 + "1", 1),
    ("float", "1e3", 1000.0),
    ("float", "-0", 0.0),
    ("float", "1.", 1.0),
    ("decimal", "12.500", "12.5"),
    ("bool", "true", True),
    ("bool", "FALSE", False),
    ("date", "2026-01-02", "2026-01-02"),
]

TEXT_REFUSED = [
    ("string", "\udc80"),
    ("int", ""),
    ("int", " 1"),
    ("int", "1_0"),
    ("int", "0x1F"),
    ("int", "٣"),
    ("int", "²"),
    ("int", "9223372036854775808"),
    ("int", "9" * 100_000),
    ("int", "1.5"),
    ("int", "1e999999999"),
    ("float", "nan"),
    ("float", "inf"),
    ("float", "Infinity"),
    ("float", "1e999"),
    ("float", "1_0.0"),
    ("float", "0x1p3"),
    ("float", "1,5"),
    ("decimal", "1,5"),
    ("bool", "1"),
    ("bool", "yes"),
    ("bool", "tRUE"),
    ("bool", ""),
]


@pytest.mark.parametrize(("kind", "text", "canonical"), TEXT_ACCEPTED, ids=lambda v: str(v)[:20])
def test_a_text_that_fits_has_one_form(kind: str, text: str, canonical: Any) -> None:
    assert same(from_text(field(kind), text), canonical)


@pytest.mark.parametrize(("kind", "text"), TEXT_REFUSED, ids=lambda v: repr(v)[:20])
def test_a_text_that_does_not_fit_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ValueTypeError) as caught:
        from_text(field(kind), text)
    assert not text or text not in caught.value.reason


def test_huge_exponents_are_refused_before_anything_is_expanded() -> None:
    started = time.perf_counter()
    for sign in ("", "-"):
        for kind in ("int", "float", "decimal"):
            for exponent in ("999999999", "9" * 30):
                with pytest.raises(ValueTypeError):
                    from_text(field(kind), f"{sign}1e{exponent}")
        for epoch in ("epoch_s", "epoch_ms"):
            with pytest.raises(ValueTypeError):
                from_text(field("timestamp", format=epoch), f"{sign}1e999999999")
            assert from_text(field("timestamp", format=epoch), "1e-999999999") == "1970-01-01T00:00:00.000000Z"
    assert time.perf_counter() - started < 2


EXACT = Context(prec=200)
DECIMALS = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(map(int, str(digits))), exponent)),
    st.integers(0, 1),
    st.integers(0, 10**38 - 1),
    st.integers(-38, 38),
).filter(lambda number: not number or number.normalize(EXACT).as_tuple().exponent <= 38)


@given(DECIMALS, st.integers(0, 5))
def test_equal_decimals_have_equal_text(number: Decimal, zeros: int) -> None:
    text = from_json(field("decimal"), number)
    assert isinstance(text, str)
    assert Decimal(text) == number
    assert from_json(field("decimal"), number.quantize(Decimal((0, (1,), -38 - zeros)), context=EXACT)) == text
    assert from_json(field("decimal"), text) == text
    assert from_text(field("decimal"), str(number)) == text
    assert "e" not in text.lower()
    assert text == "0" or not text.startswith(("-0.0" + "0" * 38, "+"))


@given(st.text(alphabet="0123456789+-.eE ", max_size=12))
def test_a_number_means_the_same_as_json_number_and_as_text(text: str) -> None:
    """Where a text is also a JSON number, `from_text` agrees with `from_json` of the exact number."""
    try:
        number = json.loads(text, parse_float=Decimal)
    except ValueError:
        return
    for kind in ("int", "float", "decimal"):
        outcomes = []
        for read, value in ((from_json, number), (from_text, text.strip())):
            try:
                outcomes.append(read(field(kind), value))
            except ValueTypeError:
                outcomes.append("refused")
        assert same(outcomes[0], outcomes[1])


JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(),
    st.decimals(),
    st.datetimes().map(datetime.isoformat),
    st.datetimes().map(lambda d: d.isoformat() + "Z"),
    st.dates().map(date.isoformat),
    st.lists(st.integers()),
)


@given(st.sampled_from(list(FieldType)), JSON_VALUES)
def test_canonical_values_are_their_own_canonical_form_and_survive_python(kind: FieldType, value: Any) -> None:
    try:
        canonical = from_json(field(kind), value)
    except ValueTypeError:
        return
    assert same(from_json(field(kind), canonical), canonical)
    assert same(json.loads(json.dumps(canonical)), canonical)
    python = to_python(kind, canonical)
    assert same(from_literal(field(kind), python), canonical)


def test_python_values() -> None:
    assert to_python(FieldType.TIMESTAMP, "2026-01-02T03:04:05.000006Z") == datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    assert same(to_python(FieldType.DECIMAL, "1.5"), Decimal("1.5"))
    assert same(to_python(FieldType.DATE, "2026-01-02"), date(2026, 1, 2))
    assert same(to_python(FieldType.INT, 5), 5)


@pytest.mark.parametrize(
    ("kind", "value", "canonical"),
    [
        ("int", 1e18, 10**18),
        ("decimal", 100, "100"),
        ("decimal", "1.50", "1.5"),
        ("date", date(2026, 1, 2), "2026-01-02"),
        ("date", "2026-01-02", "2026-01-02"),
        ("timestamp", datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:00:00.000000Z"),
        ("timestamp", "2026-01-02T03:00:00+02:00", "2026-01-02T01:00:00.000000Z"),
        ("timestamp", "2026-01-02", "2026-01-02T00:00:00.000000Z"),
        ("timestamp", date(2026, 1, 2), "2026-01-02T00:00:00.000000Z"),
    ],
)
def test_literals(kind: str, value: Any, canonical: Any) -> None:
    assert same(from_literal(field(kind), value), canonical)


def test_literals_of_subclasses_and_numpy_scalars() -> None:
    numpy = pytest.importorskip("numpy")
    assert same(from_literal(field("int"), numpy.int64(5)), 5)
    assert same(from_literal(field("float"), numpy.float64(1.5)), 1.5)
    assert same(from_literal(field("string"), numpy.str_("x")), "x")
    assert same(from_literal(field("string"), FieldType.INT), "int")
    assert same(from_literal(field("decimal"), numpy.uint8(5)), "5")
    for kind in ("int", "float", "decimal", "string"):
        with pytest.raises(QueryError):
            from_literal(field(kind), numpy.bool_(True))


def test_naive_literals_are_local_to_the_fields_zone() -> None:
    berlin = field("timestamp", timezone="Europe/Berlin")
    assert from_literal(berlin, datetime(2026, 7, 1, 12)) == "2026-07-01T10:00:00.000000Z"
    assert from_literal(berlin, date(2026, 7, 1)) == "2026-06-30T22:00:00.000000Z"
    assert from_literal(berlin, "2026-07-01") == "2026-06-30T22:00:00.000000Z"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", 5),
        ("int", "5"),
        ("int", True),
        ("int", 5.5),
        ("int", 2**63),
        ("float", math.nan),
        ("float", "1"),
        ("decimal", "x"),
        ("bool", 1),
        ("date", datetime(2026, 1, 2)),
        ("date", 5),
        ("timestamp", datetime(2026, 1, 2)),
        ("timestamp", 5),
        ("timestamp", datetime.min.replace(tzinfo=timezone(timedelta(hours=2)))),
        ("string", object()),
    ],
)
def test_a_literal_that_does_not_fit_names_the_field(kind: str, value: Any) -> None:
    with pytest.raises(QueryError, match=f'"amount" \\({kind}\\)'):
        from_literal(field(kind), value)


def test_a_sensitive_literal_is_not_repeated() -> None:
    with pytest.raises(QueryError) as caught:
        from_literal(field("int", sensitive=True), "top secret")
    assert "secret" not in str(caught.value)
