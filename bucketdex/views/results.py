"""What the partial state of a group comes to: the measures that a user asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from bucketdex.definition import FieldType, Measure
from bucketdex.definition.types import to_python
from bucketdex.views.exact import ARITHMETIC, ROUNDED, to_float
from bucketdex.views.summary import State, SummaryFold


def group_values(fold: SummaryFold, group: tuple[Any, ...]) -> dict[str, Any]:
    """The group by name, as Python values."""
    return {name: to_python(kind, value) for name, kind, value in zip(fold.terms, fold.term_types, group, strict=True)}


def measure_values(fold: SummaryFold, state: State, distinct: Mapping[str, int]) -> dict[str, Any]:
    """All measures of a settled state. `distinct` holds the number of distinct values of each field that is counted so.

    Nulls are left out, as in SQL: a sum, mean, min or max of nothing is None, a variance of fewer than two values too.
    Sums are exact; a sum of floats is rounded once. `avg`, `var` and `stddev` are rounded once from the exact
    rational: the nearest float, or 38 digits half even for decimals.
    """
    return {measure.name: _value(fold, state, measure, distinct) for measure in fold.summary.measures}


def _value(fold: SummaryFold, state: State, measure: Measure, distinct: Mapping[str, int]) -> Any:
    field, function = measure.field, measure.function
    if field is None:
        return state[0]
    if function == "count_distinct":
        return distinct[field]
    count = state[fold.place["n", field]]
    if function == "count":
        return count
    if count == 0:
        return None
    if function in ("min", "max"):
        place = fold.place[function, field]
        return to_python(fold.slots[place - 1].kind, state[place])
    place = fold.place["sum", field]
    kind = fold.slots[place - 1].kind
    arithmetic = ARITHMETIC[kind]
    total = arithmetic.fraction(state[place], squares=False)
    if function == "sum":
        return to_float(total) if kind is FieldType.FLOAT else state[place]
    if function == "avg":
        return arithmetic.result(total / count)
    if count < 2:
        return None
    squares = arithmetic.fraction(state[fold.place["sq", field]], squares=True)
    variance = (squares - total * total / count) / (count - 1)
    return arithmetic.result(variance) if function == "var" else _root(kind, variance)


def _root(kind: FieldType, variance: Fraction) -> Any:
    """The square root, rounded once: by integer square root to well past the precision of the result."""
    if kind is FieldType.DECIMAL:
        scale = 10**80
        root = math.isqrt(variance.numerator * scale * scale // variance.denominator)
        return ROUNDED.divide(ROUNDED.create_decimal(root), ROUNDED.create_decimal(scale))
    if variance == 0:
        return 0.0
    bits = max(0, 2 * 80 - (variance.numerator.bit_length() - variance.denominator.bit_length()))
    bits += bits % 2
    root = math.isqrt((variance.numerator << bits) // variance.denominator)
    return to_float(Fraction(root, 1 << (bits // 2)))
