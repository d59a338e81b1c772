"""Canonical values from JSON, text and query literals, and back to Python. Changes with what a type accepts.

All of these take one value (an element of a multi-valued field) and pass None through; whether a field may be null is
its reader's matter. A value that doesn't fit raises ValueTypeError, whose reason never contains the value.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from functools import lru_cache
from operator import index
from typing import TYPE_CHECKING, Any, TypeAlias

from bucketdex.definition.kinds import Canonical, FieldType, ValueTypeError
from bucketdex.definition.numerals import (
    decimal_value,
    float_from_text,
    float_value,
    int_from_text,
    int_value,
)
from bucketdex.definition.timestamps import (
    EPOCH_UNITS,
    date_text,
    datetime_text,
    epoch_text,
    strptime_value,
    timestamp_text,
)
from bucketdex.definition.zones import zone
from bucketdex.errors import QueryError

if TYPE_CHECKING:
    from bucketdex.definition.fields import Field

__all__ = [
    "Canonical",
    "FieldType",
    "PythonValue",
    "ValueTypeError",
    "canonicalizer",
    "from_json",
    "from_literal",
    "from_text",
    "python_converter",
    "text_canonicalizer",
    "to_python",
]

PythonValue: TypeAlias = str | int | float | Decimal | bool | datetime | date | None


def from_json(field: Field, value: object) -> Canonical:
    """The canonical form of a value parsed from JSON.

    A number of an int or decimal field must come as int or Decimal, or as a float that nothing was lost in. Only
    decimals, timestamps and dates may be strings. 3.0 is an int; true is none.
    """
    return canonicalizer(field)(value)


def from_text(field: Field, text: str | None) -> Canonical:
    """The canonical form of a text: a CSV column, a part of a key, metadata, a tag.

    Strict: no blanks, no "1_000", no "yes".
    """
    return text_canonicalizer(field)(text)


def to_python(kind: FieldType, value: Canonical) -> PythonValue:
    """The Python value of a canonical one: Decimal, datetime with UTC, date, or as it is."""
    convert = python_converter(kind)
    return value if value is None or convert is None else convert(value)


def python_converter(kind: FieldType) -> Callable[[Any], PythonValue] | None:
    """What turns a canonical value that is not None into its Python value; None where they are the same."""
    return _TO_PYTHON.get(kind)


@lru_cache(maxsize=4096)
def canonicalizer(field: Field) -> Callable[[object], Canonical]:
    """`from_json` of one field as a function specialised to its type; keep it, the look-up costs more than the call."""
    if field.type in _JSON:
        return _JSON[field.type]
    read = text_canonicalizer(field)
    numeric = field.format in EPOCH_UNITS
    expected = "not a number or a number's text" if numeric else "not a string"
    unit_us = EPOCH_UNITS.get(field.format or "", 0)

    def from_calendar(value: object) -> Canonical:
        if type(value) is str:
            return read(value)
        if value is None:
            return None
        if numeric and type(value) in (int, float, Decimal):
            return epoch_text(value, unit_us)
        raise ValueTypeError(expected)

    return from_calendar


@lru_cache(maxsize=4096)
def text_canonicalizer(field: Field) -> Callable[[str | None], Canonical]:
    """`from_text` of one field as a function specialised to its type."""
    read = _text_reader(field)
    return lambda text: None if text is None else read(text)


def from_literal(field: Field, value: object) -> Canonical:
    """The canonical form of a literal in a query; QueryError, naming the field, when it doesn't fit the field's type.

    Timestamps take a datetime or ISO text (naive ones in the field's timezone, if it has one), and a date or its text
    as midnight there, or in UTC.
    """
    if value is None:
        return None
    try:
        return _literal(field, value)
    except ValueTypeError as error:
        shown = type(value).__name__ if field.sensitive else repr(value)[:80]
        raise QueryError(f'field "{field.name}" ({field.type}): {shown}: {error.reason}') from error


def _string(value: object) -> Canonical:
    if type(value) is str:
        if value.isascii():
            return value
        return _unicode(value)
    if value is None:
        return None
    raise ValueTypeError("not a string")


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueTypeError("not valid Unicode (half a surrogate pair)") from None
    return text


def _int(value: object) -> Canonical:
    return None if value is None else int_value(value)


def _float(value: object) -> Canonical:
    return None if value is None else float_value(value)


def _decimal(value: object) -> Canonical:
    return None if value is None else decimal_value(value)


def _bool(value: object) -> Canonical:
    if value is None or value is True or value is False:
        return value
    raise ValueTypeError("not true or false")


_JSON: dict[FieldType, Callable[[object], Canonical]] = {
    FieldType.STRING: _string,
    FieldType.INT: _int,
    FieldType.FLOAT: _float,
    FieldType.DECIMAL: _decimal,
    FieldType.BOOL: _bool,
}
_BOOL_TEXTS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TO_PYTHON: dict[FieldType, Callable[[Any], PythonValue]] = {
    FieldType.DECIMAL: Decimal,
    FieldType.TIMESTAMP: datetime.fromisoformat,
    FieldType.DATE: date.fromisoformat,
}


def _bool_from_text(text: str) -> bool:
    if text in _BOOL_TEXTS:
        return _BOOL_TEXTS[text]
    raise ValueTypeError("not true or false")


def _text_reader(field: Field) -> Callable[[str], Canonical]:
    if field.type is FieldType.TIMESTAMP:
        return _timestamp_reader(field.format, None if field.timezone is None else zone(field.timezone))
    if field.type is FieldType.DATE:
        return date_text if field.format is None else _date_reader(field.format)
    readers: dict[FieldType, Callable[[str], Canonical]] = {
        FieldType.STRING: lambda text: text if text.isascii() else _unicode(text),
        FieldType.INT: int_from_text,
        FieldType.FLOAT: float_from_text,
        FieldType.DECIMAL: decimal_value,
        FieldType.BOOL: _bool_from_text,
    }
    return readers[field.type]


def _timestamp_reader(layout: str | None, local: tzinfo | None) -> Callable[[str], Canonical]:
    if layout is None:
        return lambda text: timestamp_text(text, local)
    if layout in EPOCH_UNITS:
        unit_us = EPOCH_UNITS[layout]
        return lambda text: epoch_text(text, unit_us)
    return lambda text: datetime_text(strptime_value(text, layout), local)


def _date_reader(layout: str) -> Callable[[str], Canonical]:
    return lru_cache(maxsize=20_000)(lambda text: strptime_value(text, layout).date().isoformat())


def _literal(field: Field, value: object) -> Canonical:
    if field.type is FieldType.TIMESTAMP:
        return _timestamp_literal(None if field.timezone is None else zone(field.timezone), value)
    if field.type is FieldType.DATE:
        if type(value) is date:
            return value.isoformat()
        if isinstance(value, str):
            return date_text(value)
        raise ValueTypeError("not a date or its text")
    if field.type is FieldType.INT and isinstance(value, float) and value.is_integer():
        return int_value(int(value))  # a Python float is exact; only one read from a file may have been rounded
    return _JSON[field.type](_builtin(value))


def _builtin(value: object) -> object:
    """A scalar of a subclass or of NumPy as the built-in type that it stands for."""
    for kind in (bool, str, float, Decimal):
        if isinstance(value, kind):
            return kind(value)
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        return value


def _timestamp_literal(local: tzinfo | None, value: object) -> str:
    if isinstance(value, datetime):
        return datetime_text(value, local)
    if isinstance(value, str):
        if len(value) != 10:
            return timestamp_text(value, local)
        value = date.fromisoformat(date_text(value))
    if isinstance(value, date):
        midnight = datetime.combine(value, time())
        return datetime_text(midnight, local or UTC)
    raise ValueTypeError("not a datetime, a date or the text of one")
