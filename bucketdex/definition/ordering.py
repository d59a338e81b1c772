"""Order-preserving text of typed values: what sort keys are made of. Changes only together with every view's identity.

A sort key joins components, each closed by U+0000, and compares as Python text does: by code point, which is also the
byte order of UTF-8. A null is the empty component. Every other component starts above U+0001 and holds no U+0000.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from bucketdex.definition.kinds import Canonical, FieldType
from bucketdex.definition.numerals import plain_text

ComponentFunction = Callable[[Any], str]

_INT_OFFSET = 2**63
_SIGN, _ALL_BITS = 1 << 63, (1 << 64) - 1
_EXPONENT_OFFSET = 100  # a decimal's exponent lies within -38 and 75
_COMPLEMENT = str.maketrans("0123456789", "9876543210")
_LAST_CODE_POINT, _LAST_BEFORE_SURROGATES = "\U0010ffff", "\ud7ff"
_pack, _unpack = struct.Struct(">d").pack, struct.Struct(">d").unpack


def component(kind: FieldType, value: Canonical) -> str:
    """The text of one value; two of a kind compare as their values do, nulls before all."""
    return component_function(kind)(value)


def component_function(kind: FieldType) -> ComponentFunction:
    """`component` of one type, for use in compiled loops."""
    return _COMPONENTS[kind]


def value(kind: FieldType, text: str) -> Canonical:
    """The value that a component stands for."""
    return _VALUES[kind](text) if text else None


def escape(text: str) -> str:
    """Text without U+0000 that orders as the original does, also when it's closed by U+0000."""
    if "\x01" in text or "\x00" in text:
        return text.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")
    return text


def unescape(text: str) -> str:
    """What `escape` was given."""
    return text.replace("\x01\x01", "\x00").replace("\x01\x02", "\x01")


def prefix_end(prefix: str) -> str | None:
    """The smallest text greater than all that start with `prefix`.

    None when there is none. Never half a surrogate pair.
    """
    stem = prefix.rstrip(_LAST_CODE_POINT)
    if not stem:
        return None
    last = stem[-1]
    return stem[:-1] + ("\ue000" if last == _LAST_BEFORE_SURROGATES else chr(ord(last) + 1))


def _string(text: str | None) -> str:
    return "" if text is None else "=" + escape(text)


def _int(number: int | None) -> str:
    return "" if number is None else "%016x" % (number + _INT_OFFSET)


def _float(number: float | None) -> str:
    if number is None:
        return ""
    bits = int.from_bytes(_pack(number), "big")
    return "%016x" % (bits ^ _ALL_BITS if bits & _SIGN else bits | _SIGN)


def _decimal(text: str | None) -> str:
    if text is None:
        return ""
    if text == "0":
        return "1"
    negative = text[0] == "-"
    whole, _, fraction = text[negative:].partition(".")
    if whole == "0":
        digits = fraction.lstrip("0")
        exponent = len(digits) - len(fraction) - 1
    else:
        digits = (whole + fraction).rstrip("0")
        exponent = len(whole) - 1
    magnitude = f"{exponent + _EXPONENT_OFFSET:03d}{digits}"
    # A larger magnitude is a smaller negative number; "~" makes up for a prefix sorting first.
    return f"0{magnitude.translate(_COMPLEMENT)}~" if negative else f"2{magnitude}"


def _bool(flag: bool | None) -> str:
    return "" if flag is None else "1" if flag else "0"


def _text(text: str | None) -> str:
    return text or ""


def _float_value(text: str) -> float:
    bits = int(text, 16)
    number: float = _unpack((bits ^ _SIGN if bits & _SIGN else bits ^ _ALL_BITS).to_bytes(8, "big"))[0]
    return number


def _decimal_value(text: str) -> str:
    if text == "1":
        return "0"
    negative = text[0] == "0"
    magnitude = text[1:-1].translate(_COMPLEMENT) if negative else text[1:]
    digits = magnitude[3:]
    return plain_text(negative, digits, int(magnitude[:3]) - _EXPONENT_OFFSET - len(digits) + 1)


_COMPONENTS: dict[FieldType, ComponentFunction] = {
    FieldType.STRING: _string,
    FieldType.INT: _int,
    FieldType.FLOAT: _float,
    FieldType.DECIMAL: _decimal,
    FieldType.BOOL: _bool,
    FieldType.TIMESTAMP: _text,
    FieldType.DATE: _text,
}
_VALUES: dict[FieldType, Callable[[str], Canonical]] = {
    FieldType.STRING: lambda text: unescape(text[1:]),
    FieldType.INT: lambda text: int(text, 16) - _INT_OFFSET,
    FieldType.FLOAT: _float_value,
    FieldType.DECIMAL: _decimal_value,
    FieldType.BOOL: lambda text: text == "1",
    FieldType.TIMESTAMP: str,
    FieldType.DATE: str,
}
