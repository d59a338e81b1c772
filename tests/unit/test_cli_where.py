"""The grammar of --where."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.cli.where import Condition, parse, where
from bucketdex.definition import Field, FieldType
from bucketdex.errors import QueryError
from bucketdex.query.expression import Comparison, Operator

FIELDS = {
    field.name: field
    for field in (
        Field("amount", FieldType.DECIMAL),
        Field("country", FieldType.STRING),
        Field("first", FieldType.STRING),
        Field("first name", FieldType.STRING),
        Field("a=b", FieldType.INT),
        Field("in", FieldType.INT),
        Field("ratio", FieldType.FLOAT),
        Field("paid", FieldType.BOOL),
        Field("day", FieldType.DATE),
        Field("at", FieldType.TIMESTAMP),
        Field("pin", FieldType.INT, sensitive=True),
    )
}


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("amount >= 100", ("amount", ">=", "100")),
        ("country=DE", ("country", "==", "DE")),
        ("  country   ==   New Zealand  ", ("country", "==", "New Zealand")),
        ("country <> DE", ("country", "!=", "DE")),
        ("country!='it''s'", ("country", "!=", "it's")),
        ('country = "a ""b"" c"', ("country", "==", 'a "b" c')),
        ("country = ''", ("country", "==", "")),
        ("country = a=b", ("country", "==", "a=b")),
        ("country = it's", ("country", "==", "it's")),
        ("country in (DE, 'a, b', FR)", ("country", "in", "DE", "a, b", "FR")),
        ("country IN DE,FR", ("country", "in", "DE", "FR")),
        ("country not  in(DE)", ("country", "not in", "DE")),
        ("amount between 1 and 2.5", ("amount", "between", "1", "2.5")),
        ("country BETWEEN 'rock and roll' AND z", ("country", "between", "rock and roll", "z")),
        ("country like D%", ("country", "like", "D%")),
        ("country startswith D", ("country", "startswith", "D")),
        ("country contains in", ("country", "contains", "in")),
        ("country is null", ("country", "is null")),
        ("country Is  Not  Null ", ("country", "is not null")),
        ("first name = Ann", ("first name", "==", "Ann")),
        ("first = name", ("first", "==", "name")),
        ('"first name"=Ann', ("first name", "==", "Ann")),
        ("a=b = 1", ("a=b", "==", "1")),
        ("in in 1", ("in", "in", "1")),
        ("_key startswith orders/", ("_key", "startswith", "orders/")),
    ],
)
def test_conditions(text: str, condition: tuple[str, ...]) -> None:
    field, operator, *values = condition
    assert parse(text, FIELDS) == Condition(field, operator, tuple(values))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has to start with a field"),
        ("= 3", "has to start with a field"),
        ("amout > 3", "no field 'amout'; did you mean 'amount'?"),
        ("country.name = x", "no field 'country.name'"),
        ("zzz > 3", "there are amount, country"),
        ("amount", "no operator after 'amount'; there are ="),
        ("amount ~ 3", "'~' is no operator"),
        ("amount isnull", "'isnull' is no operator"),
        ("amount is null or 1", "'is' is no operator"),
        ("amount inside 3", "'inside' is no operator"),
        ("amount >=", "no value after '>='"),
        ("country in (DE, FR", "a parenthesis is open"),
        ("country in DE)", "a parenthesis is open"),
        ("country in (DE,,FR)", "a value is missing"),
        ("country in ()", "a value is missing"),
        ("country in (DE,)", "a value is missing"),
        ("amount between 1", "between takes two values"),
        ("amount between 1 and 2 and 3", "between takes two values"),
        ("country = 'DE", "don't match"),
        ("country = 'DE' x", "don't match"),
        ("country = 'a'b'", "don't match"),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str) -> None:
    with pytest.raises(QueryError) as caught:
        where(text, FIELDS)
    assert complaint in str(caught.value)
    known = not complaint.startswith(("has to start", "no field", "there are"))
    assert (repr(text) in str(caught.value)) == known, "pin may have been meant, whose values aren't repeated"
    plain = {name: field for name, field in FIELDS.items() if not field.sensitive}
    with pytest.raises(QueryError) as caught:
        where(text, plain)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("amount = 1.50", Decimal("1.50")),
        ("amount = -3", Decimal("-3")),
        ("in = -7", -7),
        ("ratio = 1e3", 1000.0),
        ("paid = TRUE", True),
        ("paid = false", False),
        ("day = 2026-01-02", date(2026, 1, 2)),
        ("at = 2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("at = 2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("at = 2026-01-02 03:04+02:00", datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))),
        ("country = 12", "12"),
        ("_key = 12", "12"),
    ],
)
def test_values_have_the_type_of_the_field(text: str, value: object) -> None:
    expression = where(text, FIELDS)
    assert isinstance(expression, Comparison)
    assert expression.operands == (value,)
    assert type(expression.operands[0]) is type(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("amount > ten", "--where on 'amount': 'ten' is no decimal"),
        ("in = 1.5", "is no int"),
        ("ratio = x", "is no float"),
        ("paid = yes", "is no bool (true or false)"),
        ("day = 2026-13-01", "is no date (as 2026-01-02)"),
        ("at between 2026-01-01 and later", "'later' is no timestamp (as 2026-01-02 or"),
    ],
)
def test_a_value_of_another_type(text: str, complaint: str) -> None:
    with pytest.raises(QueryError) as caught:
        where(text, FIELDS)
    assert complaint in str(caught.value)


def test_a_sensitive_value_is_not_repeated() -> None:
    with pytest.raises(QueryError) as caught:
        where("pin = 12x4", FIELDS)
    assert "12x4" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("text", "operator", "operands"),
    [
        ("amount == 1", Operator.EQ, (Decimal(1),)),
        ("amount != 1", Operator.NE, (Decimal(1),)),
        ("amount < 1", Operator.LT, (Decimal(1),)),
        ("amount <= 1", Operator.LE, (Decimal(1),)),
        ("amount > 1", Operator.GT, (Decimal(1),)),
        ("amount >= 1", Operator.GE, (Decimal(1),)),
        ("amount in 1, 2", Operator.IN, (Decimal(1), Decimal(2))),
        ("amount not in 1", Operator.NOT_IN, (Decimal(1),)),
        ("amount between 1 and 2", Operator.BETWEEN, (Decimal(1), Decimal(2))),
        ("country like D_", Operator.LIKE, ("D_", None)),
        ("country startswith D", Operator.STARTSWITH, ("D",)),
        ("country contains D", Operator.CONTAINS, ("D",)),
        ("country is null", Operator.IS_NULL, ()),
        ("country is not null", Operator.IS_NOT_NULL, ()),
    ],
)
def test_operators(text: str, operator: Operator, operands: tuple[object, ...]) -> None:
    expression = where(text, FIELDS)
    assert isinstance(expression, Comparison)
    assert (expression.operator, expression.operands) == (operator, operands)


@given(st.lists(st.text(), min_size=1, max_size=4), st.sampled_from("'\""))
def test_every_value_can_be_quoted(values: list[str], quote: str) -> None:
    quoted = [quote + value.replace(quote, quote * 2) + quote for value in values]
    assert parse(f"country in ({', '.join(quoted)})", FIELDS).values == tuple(values)
    assert parse(f"country = {quoted[0]}", FIELDS).values == (values[0],)
    assert parse(f"country between {quoted[0]} and {quoted[-1]}", FIELDS).values == (values[0], values[-1])


@given(st.sampled_from(["", "country ", "country in ", "amount between "]), st.text())
def test_any_text_is_a_condition_or_a_query_error(start: str, text: str) -> None:
    with contextlib.suppress(QueryError):
        where(start + text, FIELDS)
