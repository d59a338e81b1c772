"""What a summary groups by: a field, or a calendar unit of one. Changes with the units and the expression's grammar."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec

from bucketdex.definition.entries import suggestion
from bucketdex.definition.kinds import CALENDAR, Canonical, FieldType, ValueTypeError
from bucketdex.definition.zones import TZDATA_VERSION, zone, zone_names

__all__ = ["TZDATA_VERSION", "UNITS", "GroupTerm", "parse_group", "parse_name"]

Unit = Literal["year", "month", "week", "day", "hour"]
UNITS: tuple[Unit, ...] = ("year", "month", "week", "day", "hour")
_TEXT_LENGTH = {"year": 4, "month": 7, "day": 10, "hour": 13}  # of a canonical timestamp's start

_NAME = r'"[^"]+"|[^"(),]+'
_PLAIN_NAME = re.compile(rf"\s*({_NAME})\s*").fullmatch
_CALL = re.compile(rf'\s*(\w+)\(\s*({_NAME})\s*(?:,\s*"([^"]*)"\s*)?\)\s*').fullmatch
_LOOKS_LIKE_CALL = re.compile(r"\s*(\w+)\(.*\)\s*", re.DOTALL).fullmatch


class GroupTerm(msgspec.Struct, frozen=True, omit_defaults=True):
    """One term of a grouping.

    `value` of a row's field is the group; a unit's groups are text ("2026-01", ISO weeks "2026-W01").
    """

    name: str
    field: str
    unit: Unit | None = None
    timezone: str | None = None
    field_type: FieldType | None = None

    @property
    def type(self) -> FieldType:
        """The type of the groups: text for a unit, else the field's.

        Known once the term is resolved against a table.
        """
        if self.unit is not None:
            return FieldType.STRING
        if self.field_type is None:
            raise ValueError(f"the type of {self.name} is known only to its table")
        return self.field_type

    def value(self, canonical: Canonical) -> Canonical:
        """The group that a canonical value of the field belongs to; null is a group of its own."""
        return self.function()(canonical)

    def function(self) -> Callable[[Any], Canonical]:
        """`value` as a function made once, for loops."""
        return _function(self.unit, self.timezone)

    def text(self) -> str:
        """The expression that parses as this term."""
        if self.unit is None:
            return quote_name(self.field)
        zone_text = "" if self.timezone is None else f', "{self.timezone}"'
        return f"{self.unit}({quote_name(self.field)}{zone_text})"


def parse_group(text: str) -> GroupTerm:
    """The term of an expression: `country`, `day(created_at)`, `day(created_at, "Europe/Berlin")`.

    Odd field names go in double quotes.

    ValueTypeError says what is wrong with it. The field isn't looked up: `TableDefinition.group` does that.
    """
    call = _CALL(text)
    if call is None:
        if _LOOKS_LIKE_CALL(text):
            raise ValueTypeError('can\'t be read; write it like day(created_at) or day(created_at, "Europe/Berlin")')
        name = parse_name(text)
        return GroupTerm(name, name)
    unit, field, timezone = call[1], _unquoted(call[2]), call[3]
    if unit not in UNITS:
        raise ValueTypeError(f'"{unit}" is no unit; {suggestion(unit, UNITS)} Known: {", ".join(UNITS)}')
    if timezone is not None and timezone not in zone_names():
        hint = suggestion(timezone, zone_names()) or "names are as Europe/Berlin"
        raise ValueTypeError(f'unknown time zone "{timezone}"; {hint}')
    return GroupTerm(f"{field}_{unit}", field, unit, timezone)


def resolve(term: GroupTerm, kind: FieldType) -> GroupTerm:
    """The term with its field's type; ValueTypeError where the unit doesn't fit it."""
    if term.unit is not None and kind not in CALENDAR:
        raise ValueTypeError(f"{term.unit}() needs a timestamp or date, and {term.field} is a {kind}")
    if kind is FieldType.DATE and (term.unit == "hour" or term.timezone is not None):
        raise ValueTypeError(f"{term.field} is a date, which has no hours and no time zone")
    return msgspec.structs.replace(term, field_type=kind)


def parse_name(text: str) -> str:
    """A field's name as expressions write it: as it is, or in double quotes."""
    match = _PLAIN_NAME(text)
    if match is None:
        raise ValueTypeError('is no field name; put odd names in double quotes, such as "size (kg)"')
    return _unquoted(match[1])


def quote_name(name: str) -> str:
    """What `parse_name` reads as this name."""
    return name if name == name.strip() and _PLAIN_NAME(name) else f'"{name}"'


def _unquoted(text: str) -> str:
    return text[1:-1] if text.startswith('"') else text.strip()


@lru_cache(maxsize=256)
def _function(unit: Unit | None, timezone: str | None) -> Callable[[Any], Canonical]:
    if unit is None:
        return lambda value: value
    if timezone is None:
        if unit == "week":
            return lambda value: None if value is None else _week(date.fromisoformat(value[:10]))
        length = _TEXT_LENGTH[unit]
        return lambda value: None if value is None else value[:length]
    local = zone(timezone)

    def grouped(value: str | None) -> str | None:
        if value is None:
            return None
        moment = datetime.fromisoformat(value)
        try:
            moment = moment.astimezone(local)
        except OverflowError:  # a day past the calendar's end: its last hours stay on its last day
            moment = moment.replace(tzinfo=None)
        return _week(moment.date()) if unit == "week" else moment.isoformat()[: _TEXT_LENGTH[unit]]

    return grouped


def _week(day: date) -> str:
    year, week, _ = day.isocalendar()
    return f"{year:04d}-W{week:02d}"
