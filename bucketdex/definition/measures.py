"""What a summary measures of its groups. Changes with the list of functions."""

from __future__ import annotations

import re
from typing import Literal, get_args

import msgspec

from bucketdex.definition.entries import suggestion
from bucketdex.definition.groups import parse_name, quote_name
from bucketdex.definition.kinds import NUMERIC, FieldType, ValueTypeError

Function = Literal["count", "sum", "avg", "min", "max", "count_distinct", "var", "stddev"]
FUNCTIONS: tuple[Function, ...] = get_args(Function)
ARITHMETIC = frozenset({"sum", "avg", "var", "stddev"})  # of numbers only
_CALL = re.compile(r"\s*(\w+)\(\s*(.*?)\s*\)\s*", re.DOTALL).fullmatch


class Measure(msgspec.Struct, frozen=True):
    """A named function of a group's rows, with SQL's meaning: nulls don't count, var and stddev are those of a sample.

    count() counts rows, count(field) its non-null values. The others are null for a group without non-null values (var
    and stddev also for one with a single value), but count_distinct is 0.
    """

    name: str
    function: Function
    field: str | None = None

    def text(self) -> str:
        """The expression that parses as this measure."""
        return f"{self.function}({'' if self.field is None else quote_name(self.field)})"


def parse_measure(text: str, name: str = "") -> Measure:
    """The measure of an expression such as `count()` or `sum(amount)`.

    Without a name it's named by the expression, as sum_amount.

    ValueTypeError says what is wrong with it. The field isn't looked up: `TableDefinition.measure` does that.
    """
    call = _CALL(text)
    if call is None:
        raise ValueTypeError("can't be read; write it like count() or sum(amount)")
    function = next((known for known in FUNCTIONS if known == call[1]), None)
    if function is None:
        raise ValueTypeError(
            f'"{call[1]}" is no measure; {suggestion(call[1], FUNCTIONS)} Known: {", ".join(FUNCTIONS)}'
        )
    field = parse_name(call[2]) if call[2] else None
    if field is None and function != "count":
        raise ValueTypeError(f"{function}() needs a field; write it like {function}(amount)")
    return Measure(name or (function if field is None else f"{function}_{field}"), function, field)


def check_measure(measure: Measure, kind: FieldType) -> None:
    """ValueTypeError unless the function fits the field's type."""
    if measure.function in ARITHMETIC and kind not in NUMERIC:
        raise ValueTypeError(
            f"{measure.function}() needs an int, float or decimal; {measure.field} is a {kind}: use count, min or max"
        )
