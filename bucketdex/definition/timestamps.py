"""Canonical timestamps and dates. Changes when the forms of time that a source may write do.

A timestamp is "YYYY-MM-DDTHH:MM:SS.ffffffZ", always 27 characters, so its text order is its time order. Parsing never
asks `datetime.fromisoformat`, which takes other forms in every Python release (week dates, "24:00", commas); one
grammar is written here instead: RFC 3339, with seconds optional, a blank for the T, and +HHMM or +HH as offsets.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_FLOOR, Context, Decimal

from bucketdex.definition.kinds import ValueTypeError
from bucketdex.definition.numerals import parse_decimal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000}  # microseconds each
KNOWN_DAYS_MAX = 20_000

_WIDE = Context(prec=40)
OUTSIDE = "outside the calendar (years 0001 to 9999)"
_MICROSECONDS_MIN = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
_MICROSECONDS_MAX = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})").fullmatch
_TIMESTAMP = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<minute>[0-9]{2}:[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?:(?P<utc>[Zz])|(?P<sign>[+-])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-9]{2}))?)?"
).fullmatch

# The common forms are put together from parts looked up here: no calendar arithmetic, no regular expression.
_known_days: set[str] = set()
_MINUTES = {
    f"{mark}{hour:02d}:{minute:02d}": f"T{hour:02d}:{minute:02d}"
    for mark in "T "
    for hour in range(24)
    for minute in range(60)
}
_SECONDS = frozenset(f":{second:02d}" for second in range(60))
_SECONDS_UTC = {second + zone: f"{second}.000000Z" for second in _SECONDS for zone in ("Z", "+00:00")}


def date_text(text: str) -> str:
    """The text itself, once it is known to be a day of the calendar written YYYY-MM-DD."""
    if text in _known_days:
        return text
    match = _DATE(text)
    if match is None:
        raise ValueTypeError("not a date like 2026-01-31")
    try:
        date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        raise ValueTypeError("no such day in the calendar") from None
    if len(_known_days) >= KNOWN_DAYS_MAX:
        _known_days.clear()
    _known_days.add(text)
    return text


def timestamp_text(text: str, zone: tzinfo | None = None) -> str:
    """The canonical form of an RFC 3339 timestamp. Digits past microseconds are cut.

    A text without a zone is local time in `zone`: of a time that occurs twice the first, of one that a clock change
    skips as if the clock hadn't changed yet (RFC 5545). Without `zone` it is an error.
    """
    day = text[:10]
    if day in _known_days and (minute := _MINUTES.get(text[10:16])) is not None:
        if (second := _SECONDS_UTC.get(text[16:])) is not None:
            return day + minute + second
        if text[16:19] in _SECONDS and text[19:20] == ".":
            fraction = text[20:-1] if text[-1] == "Z" else text[20:-6] if text[-6:] == "+00:00" else ""
            if fraction.isascii() and fraction.isdigit():
                return f"{day}{minute}{text[16:19]}.{fraction[:6]:0<6}Z"
    return _timestamp_text(text, zone)


def epoch_text(value: object, unit_us: int) -> str:
    """The canonical form of a number of units since 1970, of `unit_us` microseconds each; finer parts are cut.

    The number comes as int, float, Decimal or text.
    """
    if type(value) is str:
        value = parse_decimal(value)
    if type(value) is float:
        value = Decimal(repr(value))
    if type(value) is int:
        microseconds = value * unit_us
    elif type(value) is Decimal:
        if not value.is_finite():
            raise ValueTypeError("not a finite number")
        if value.adjusted() > 18:
            raise ValueTypeError(OUTSIDE)
        microseconds = _floor_units(value, unit_us)
    else:
        raise ValueTypeError("not a number")
    if not _MICROSECONDS_MIN <= microseconds <= _MICROSECONDS_MAX:
        raise ValueTypeError(OUTSIDE)
    return utc_text(EPOCH + timedelta(microseconds=microseconds))


def strptime_value(text: str, layout: str) -> datetime:
    """A text read by a strptime layout; a fraction's digits past microseconds are cut."""
    if not text.isascii() and any(c.isdigit() and not c.isascii() for c in text):
        raise ValueTypeError(f"not of the form {layout}")
    if ".%f" in layout:
        text = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text)
    try:
        return datetime.strptime(text, layout)
    except (ValueError, OverflowError):
        raise ValueTypeError(f"not of the form {layout}") from None


def datetime_text(value: datetime, zone: tzinfo | None) -> str:
    """The canonical form of a datetime; a naive one is local time in `zone`, or an error without it."""
    if value.tzinfo is None:
        if zone is None:
            raise ValueTypeError("no time zone: write Z or an offset, or declare the field's timezone")
        value = value.replace(tzinfo=zone)
    try:
        return utc_text(value.astimezone(UTC))
    except (OverflowError, ValueError):
        raise ValueTypeError(OUTSIDE) from None


def utc_text(value: datetime) -> str:
    """The canonical form of a datetime in UTC."""
    return value.isoformat(timespec="microseconds")[:26] + "Z"


def _timestamp_text(text: str, zone: tzinfo | None) -> str:
    match = _TIMESTAMP(text)
    if match is None:
        raise ValueTypeError("not a timestamp like 2026-01-31T23:59:59Z")
    day, minute = date_text(match["day"]), match["minute"]
    second, fraction = match["second"] or "00", match["fraction"] or ""
    if second == "60":
        raise ValueTypeError("a leap second")
    if f"T{minute}" not in _MINUTES or second > "59":
        raise ValueTypeError("no such time of day")
    local = f"{day}T{minute}:{second}.{fraction[:6]:0<6}"
    if match["utc"]:
        return f"{local}Z"
    moment = datetime.fromisoformat(local)  # of the one form that every release reads alike
    if match["sign"] is None:
        return datetime_text(moment, zone)
    hours, minutes = int(match["hours"]), int(match["minutes"] or 0)
    if hours > 23 or minutes > 59:
        raise ValueTypeError("no such offset from UTC")
    offset = timedelta(hours=hours, minutes=minutes)
    try:
        return utc_text(moment - offset if match["sign"] == "+" else moment + offset)
    except OverflowError:
        raise ValueTypeError(OUTSIDE) from None


def _floor_units(value: Decimal, unit_us: int) -> int:
    if value.adjusted() < -7:  # finer than a microsecond: don't expand it
        return -1 if value < 0 else 0
    millionths = value.quantize(Decimal("0.000001"), ROUND_FLOOR, _WIDE).scaleb(6, _WIDE)  # at most 19 + 6 digits
    return int(millionths) * unit_us // 1_000_000
