"""Exact numbers: sums that come out the same, to the last bit, in any order. Ints as they are, decimals as Decimals of
ample precision, floats as dyadic rationals.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, Overflow
from fractions import Fraction
from typing import Any, Protocol

from bucketdex.definition import FieldType

# 38 digits and exponents of +-38, squared, summed 10**60 times: no rounding can happen, and if it did it would raise.
EXACT = Context(prec=400, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, Overflow, InvalidOperation])
ROUNDED = Context(prec=38)  # how a decimal mean or variance is given: 38 significant digits, half even

FLOAT_SHIFT = 1074  # the smallest float is 2**-1074, so every float is a whole number of these
_FLOAT_UNIT_BITS = FLOAT_SHIFT + 1


class Arithmetic(Protocol):
    """How the values of one type are added up exactly. `sum` states are Any: int, Decimal, or an int that counts
    2**-1074 or 2**-2148.
    """

    zero: Any

    def number(self, canonical: Any) -> Any:
        """The number of a stored value."""

    def encode(self, total: Any, *, squares: bool) -> Any:
        """A sum as JSON."""

    def decode(self, plain: Any, *, squares: bool) -> Any:
        """The sum of a JSON value."""

    def fraction(self, total: Any, *, squares: bool) -> Fraction:
        """A sum as a rational number."""

    def result(self, exact: Fraction) -> Any:
        """A mean or variance, rounded once."""


class IntArithmetic:
    """Ints of any size; beyond 64 bits they are written as text. Means and variances are the nearest floats."""

    zero: Any = 0

    def number(self, canonical: Any) -> Any:
        return canonical

    def encode(self, total: Any, *, squares: bool) -> Any:
        return total if -(2**63) <= total < 2**63 else str(total)

    def decode(self, plain: Any, *, squares: bool) -> Any:
        return int(plain)

    def fraction(self, total: Any, *, squares: bool) -> Fraction:
        return Fraction(total)

    def result(self, exact: Fraction) -> Any:
        return float(exact)


class DecimalArithmetic:
    """Decimals, exactly. Means and variances have 38 significant digits, half even."""

    zero: Any = Decimal(0)
    number = Decimal

    def encode(self, total: Any, *, squares: bool) -> Any:
        return decimal_text(total)

    def decode(self, plain: Any, *, squares: bool) -> Any:
        return Decimal(plain)

    def fraction(self, total: Any, *, squares: bool) -> Fraction:
        return Fraction(total)

    def result(self, exact: Fraction) -> Any:
        return ROUNDED.divide(Decimal(exact.numerator), Decimal(exact.denominator))


class FloatArithmetic:
    """Floats as whole numbers of 2**-1074 (squares: 2**-2148), written as [odd mantissa, exponent]. Results are the
    nearest floats.
    """

    zero: Any = 0

    def number(self, canonical: Any) -> Any:
        numerator, denominator = canonical.as_integer_ratio()
        return numerator << (_FLOAT_UNIT_BITS - denominator.bit_length())

    def encode(self, total: Any, *, squares: bool) -> Any:
        if total == 0:
            return ["0", 0]
        zeros = (total & -total).bit_length() - 1
        return [str(total >> zeros), zeros - (2 * FLOAT_SHIFT if squares else FLOAT_SHIFT)]

    def decode(self, plain: Any, *, squares: bool) -> Any:
        mantissa, exponent = plain
        shift = exponent + (2 * FLOAT_SHIFT if squares else FLOAT_SHIFT)
        return int(mantissa) << shift if mantissa != "0" else 0

    def fraction(self, total: Any, *, squares: bool) -> Fraction:
        return Fraction(total, 1 << (2 * FLOAT_SHIFT if squares else FLOAT_SHIFT))

    def result(self, exact: Fraction) -> Any:
        return to_float(exact)


ARITHMETIC: dict[FieldType, Arithmetic] = {
    FieldType.INT: IntArithmetic(),
    FieldType.DECIMAL: DecimalArithmetic(),
    FieldType.FLOAT: FloatArithmetic(),
}


def to_float(exact: Fraction) -> float:
    """The nearest float; past the largest one an infinity, as adding floats would give."""
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")


def decimal_text(value: Decimal) -> str:
    """Plain notation without trailing zeros: equal decimals have equal text."""
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def comparable(kind: FieldType) -> Callable[[Any], Any]:
    """What makes stored values of a type comparable by `<`."""
    return Decimal if kind is FieldType.DECIMAL else _same


def _same(value: Any) -> Any:
    return value
