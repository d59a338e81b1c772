"""Groups and measures: expressions, calendar units, time zones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.definition import FieldType, GroupTerm, Measure, ValueTypeError, parse_group, parse_measure
from bucketdex.definition.groups import TZDATA_VERSION, UNITS, quote_name
from bucketdex.definition.measures import FUNCTIONS

MOMENT = "2025-12-31T23:30:00.000000Z"


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("country", GroupTerm("country", "country")),
        (" country ", GroupTerm("country", "country")),
        ("first name", GroupTerm("first name", "first name")),
        ('"size (kg)"', GroupTerm("size (kg)", "size (kg)")),
        ("day(created_at)", GroupTerm("created_at_day", "created_at", "day")),
        ('day( created_at , "Europe/Berlin" )', GroupTerm("created_at_day", "created_at", "day", "Europe/Berlin")),
        ('year("a, b")', GroupTerm("a, b_year", "a, b", "year")),
    ],
)
def test_terms(text: str, term: GroupTerm) -> None:
    assert parse_group(text) == term
    assert parse_group(term.text()) == term


@pytest.mark.parametrize(
    "text",
    [
        "",
        "day()",
        "day(a",
        "day(a,b)",
        "day(a, Europe/Berlin)",
        'day(a, "Nowhere")',
        "dya(a)",
        "Day(a)",
        "a(b)c",
        '"a',
        "a,b",
    ],
)
def test_terms_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueTypeError):
        parse_group(text)


@pytest.mark.parametrize(
    ("expression", "group"),
    [
        ("year(t)", "2025"),
        ("month(t)", "2025-12"),
        ("week(t)", "2026-W01"),
        ("day(t)", "2025-12-31"),
        ("hour(t)", "2025-12-31T23"),
        ('year(t, "Europe/Berlin")', "2026"),
        ('month(t, "Europe/Berlin")', "2026-01"),
        ('week(t, "Europe/Berlin")', "2026-W01"),
        ('day(t, "Europe/Berlin")', "2026-01-01"),
        ('hour(t, "Europe/Berlin")', "2026-01-01T00"),
        ('hour(t, "Asia/Kolkata")', "2026-01-01T05"),
        ("t", MOMENT),
    ],
)
def test_groups_of_a_moment(expression: str, group: str) -> None:
    assert parse_group(expression).value(MOMENT) == group
    assert parse_group(expression).value(None) is None


def test_groups_of_a_date() -> None:
    assert [parse_group(f"{unit}(d)").value("2021-01-03") for unit in UNITS[:4]] == [
        "2021",
        "2021-01",
        "2020-W53",
        "2021-01-03",
    ]


@pytest.mark.parametrize(
    ("moment", "zone", "group"),
    [
        ("9999-12-31T23:00:00.000000Z", "Asia/Tokyo", "9999-12-31T23"),
        ("0001-01-01T00:00:00.000000Z", "America/New_York", "0001-01-01T00"),
    ],
)
def test_the_ends_of_the_calendar_have_groups(moment: str, zone: str, group: str) -> None:
    for unit in UNITS:
        value = parse_group(f'{unit}(t, "{zone}")').value(moment)
        assert isinstance(value, str)
        assert value[:4] == group[:4]
    assert parse_group(f'hour(t, "{zone}")').value(moment) == group


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"]),
)
def test_groups_are_those_of_the_calendar_there(naive: datetime, zone: str) -> None:
    canonical = naive.isoformat(timespec="microseconds") + "Z"
    there = naive.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    layouts = {"year": "%Y", "month": "%Y-%m", "week": "%G-W%V", "day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
    for unit in UNITS:
        term = parse_group(f'{unit}(t, "{zone}")')
        assert term.value(canonical) == there.strftime(layouts[unit])
        if zone == "UTC":
            assert parse_group(f"{unit}(t)").value(canonical) == there.strftime(layouts[unit])


def test_the_type_of_a_plain_term_needs_its_table() -> None:
    assert parse_group("day(t)").type is FieldType.STRING
    with pytest.raises(ValueError, match="table"):
        _ = parse_group("t").type


def test_the_zone_data_has_a_version() -> None:
    assert TZDATA_VERSION[:4].isdigit()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_measures(function: Any) -> None:
    assert parse_measure(f"{function}(amount)") == Measure(f"{function}_amount", function, "amount")
    assert parse_measure(f" {function}( amount ) ", "x") == Measure("x", function, "amount")
    odd = Measure("x", function, "size (kg), gross")
    assert parse_measure(odd.text(), "x") == odd


def test_count_alone_needs_no_field() -> None:
    assert parse_measure("count()") == Measure("count", "count")
    assert parse_measure("count()").text() == "count()"
    for function in FUNCTIONS[1:]:
        with pytest.raises(ValueTypeError, match="needs a field"):
            parse_measure(f"{function}()")


@pytest.mark.parametrize("text", ["", "count", "count(", "median(a)", "COUNT()", "sum(a, b)", "sum(a) + 1", "sum((a))"])
def test_measures_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueTypeError):
        parse_measure(text)


@given(st.text(min_size=1, max_size=8).filter(lambda name: '"' not in name))
def test_every_field_name_can_be_written(name: str) -> None:
    assert parse_group(quote_name(name)).field == name
    assert parse_group(GroupTerm("x", name, "day", "UTC").text()).field == name
    assert parse_measure(Measure("x", "max", name).text()).field == name
