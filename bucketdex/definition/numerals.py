"""Canonical ints, floats and decimals. Changes when the bounds or the text form of a number do."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from bucketdex.definition.kinds import ValueTypeError

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
FLOAT_EXACT_MAX = 2**53  # whole floats beyond may already have been rounded
DECIMAL_DIGITS_MAX = 38
DECIMAL_EXPONENT_MAX = 38
INFINITY = float("inf")

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?").fullmatch
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?").fullmatch
_ADJUSTED_MAX = DECIMAL_EXPONENT_MAX + DECIMAL_DIGITS_MAX - 1


def int_value(value: object) -> int:
    """A 64-bit int from an int, or from a float or Decimal without a fraction. Never from a bool or a string."""
    if type(value) is int:
        if INT_MIN <= value <= INT_MAX:
            return value
        raise ValueTypeError("beyond 64 bits")
    if type(value) is float:
        if not value.is_integer():
            raise ValueTypeError("not a whole number")
        if not -FLOAT_EXACT_MAX <= value <= FLOAT_EXACT_MAX:
            raise ValueTypeError("a float beyond 2**53 is not exact")
        return int(value)
    if type(value) is Decimal:
        return _int_from_decimal(value)
    raise ValueTypeError("not a number")


def int_from_text(text: str) -> int:
    """A 64-bit int from a number's text; "3.0" and "3e0" are 3."""
    if len(text) < 20 and text.isascii() and text.isdigit():
        return int_value(int(text))
    return _int_from_decimal(parse_decimal(text))


def float_value(value: object) -> float:
    """A finite float from a float, int or Decimal (to the nearest float). -0.0 becomes 0.0."""
    if type(value) is float:
        if -INFINITY < value < INFINITY:
            return value + 0.0
        raise ValueTypeError("not a finite number")
    if type(value) is int or (type(value) is Decimal and value.is_finite()):
        try:
            return _finite(float(value))
        except OverflowError:
            raise ValueTypeError("beyond the range of a float") from None
    raise ValueTypeError("not a finite number" if type(value) is Decimal else "not a number")


def float_from_text(text: str) -> float:
    """A finite float from a number's text."""
    if _NUMBER(text) is None:
        raise ValueTypeError("not a number")
    return _finite(float(text))


def decimal_value(value: object) -> str:
    """The text of a decimal: plain notation without trailing zeros, so equal decimals have equal text.

    Takes an int, a Decimal, a number's text, or a float (the shortest decimal that reads back as it). At most 38
    digits, and 10**-38 to 10**38 as the unit of the last one; checked before anything is expanded.
    """
    if type(value) is Decimal:
        return decimal_text(value)
    if type(value) is str:
        if len(value) <= DECIMAL_DIGITS_MAX and _PLAIN(value):
            return _trimmed(value)
        return decimal_text(parse_decimal(value))
    if type(value) is int:
        if -(10**DECIMAL_DIGITS_MAX) < value < 10**DECIMAL_DIGITS_MAX:
            return str(value)
        if value.bit_length() > 256:  # past 10**77
            raise ValueTypeError("beyond 38 digits or an exponent of 38")
        return decimal_text(Decimal(value))
    if type(value) is float:
        return decimal_text(Decimal(repr(value)))
    raise ValueTypeError("not a number")


def decimal_text(value: Decimal) -> str:
    """The canonical text of a Decimal."""
    text = str(value)
    if len(text) <= DECIMAL_DIGITS_MAX and "E" not in text and value.is_finite():
        return _trimmed(text)
    return _unusual_decimal_text(value)


def plain_text(negative: bool, digits: str, exponent: int) -> str:
    """Plain notation of digits * 10**exponent; digits neither start nor end with a zero."""
    if exponent >= 0:
        text = digits + "0" * exponent
    elif (point := len(digits) + exponent) > 0:
        text = f"{digits[:point]}.{digits[point:]}"
    else:
        text = f"0.{'0' * -point}{digits}"
    return f"-{text}" if negative else text


def parse_decimal(text: str) -> Decimal:
    """A number's text as an exact Decimal: ASCII digits, a point, an exponent.

    No spaces, underscores, NaN or infinity.
    """
    if _NUMBER(text) is None:
        raise ValueTypeError("not a number")
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent past the decimal module's own bound
        raise ValueTypeError("beyond 38 digits or an exponent of 38") from None


def _trimmed(text: str) -> str:
    if "." in text:
        text = text.rstrip("0")
        if text[-1] == ".":
            text = text[:-1]
    return "0" if text == "-0" else text


def _unusual_decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueTypeError("not a finite number")
    if not value:
        return "0"
    if not -DECIMAL_EXPONENT_MAX <= value.adjusted() <= _ADJUSTED_MAX:
        raise ValueTypeError("beyond 38 digits or an exponent of 38")
    sign, figures, power = value.as_tuple()
    assert isinstance(power, int)
    digits = "".join(map(str, figures))
    significant = digits.rstrip("0")
    exponent = power + len(digits) - len(significant)
    if len(significant) > DECIMAL_DIGITS_MAX or not -DECIMAL_EXPONENT_MAX <= exponent <= DECIMAL_EXPONENT_MAX:
        raise ValueTypeError("beyond 38 digits or an exponent of 38")
    return plain_text(sign == 1, significant, exponent)


def _int_from_decimal(value: Decimal) -> int:
    if not value.is_finite():
        raise ValueTypeError("not a finite number")
    if not value:
        return 0
    if value.adjusted() > 18:
        raise ValueTypeError("beyond 64 bits")
    if value.adjusted() < 0:
        raise ValueTypeError("not a whole number")
    whole = int(value)
    if whole != value:
        raise ValueTypeError("not a whole number")
    return int_value(whole)


def _finite(value: float) -> float:
    if -INFINITY < value < INFINITY:
        return value + 0.0
    raise ValueTypeError("beyond the range of a float")
