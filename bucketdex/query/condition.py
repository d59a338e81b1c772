"""Conditions bound to a table: names and literals checked, negation pushed down to the leaves, three-valued logic
settled.

SQL's logic has a third value, unknown. Once every `~` stands at a leaf (De Morgan's laws hold for the three values
too), a condition holds exactly if its parts do, and only a leaf has to know about nulls: it holds neither as it is nor
negated. So evaluation needs two values only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bucketdex.definition.ordering import prefix_end
from bucketdex.errors import QueryError
from bucketdex.query.columns import BoundColumn, Columns
from bucketdex.query.expression import And, Comparison, Expression, Not, Operator, Or
from bucketdex.query.keyset import NOT_NULL, NULL, KeySet, Range, point, span, union

PATTERN_CHARS_MAX = 1_000
DEPTH_MAX = 50
VALUES_SHOWN_MAX = 5

Predicate = Callable[[Any], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One operator on one column.

    `keys` holds every value that passes and, where `exact`, no other; None: any value may pass.
    """

    column: BoundColumn
    holds: Predicate  # of a row
    keys: KeySet | None
    exact: bool
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class AllOf:
    """Holds where every part holds; without parts everywhere."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AnyOf:
    """Holds where any part holds; without parts nowhere."""

    parts: tuple[Condition, ...]


Condition = Leaf | AllOf | AnyOf
EVERYWHERE = AllOf(())
NOWHERE = AnyOf(())


def bind(expression: Expression | None, columns: Columns) -> Condition:
    """The condition for rows with these columns. Raises QueryError for unknown columns and for literals of a wrong
    type.
    """
    return EVERYWHERE if expression is None else _bind(expression, columns, negated=False, depth=0)


def all_of(parts: Iterable[Condition]) -> Condition:
    """The conjunction, with nested ones made one; of nothing, EVERYWHERE itself."""
    flat: list[Condition] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, AllOf) else (part,))
    if any(isinstance(part, AnyOf) and not part.parts for part in flat):
        return NOWHERE
    if not flat:
        return EVERYWHERE
    return flat[0] if len(flat) == 1 else AllOf(tuple(flat))


def any_of(parts: Iterable[Condition]) -> Condition:
    """The disjunction, with nested ones made one; of nothing, NOWHERE itself."""
    flat: list[Condition] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, AnyOf) else (part,))
    if any(isinstance(part, AllOf) and not part.parts for part in flat):
        return EVERYWHERE
    if not flat:
        return NOWHERE
    return flat[0] if len(flat) == 1 else AnyOf(tuple(flat))


def predicate(condition: Condition) -> Predicate | None:
    """The condition as a function of a row; None where it holds everywhere."""
    if isinstance(condition, Leaf):
        return condition.holds
    if condition is EVERYWHERE:
        return None
    tests = [test for part in condition.parts if (test := predicate(part)) is not None]
    if isinstance(condition, AllOf):
        if len(tests) == 2:
            first, second = tests
            return lambda row: first(row) and second(row)
        return lambda row: all(test(row) for test in tests)
    return lambda row: any(test(row) for test in tests)


def describe(condition: Condition) -> str:
    """The condition as text, the values of sensitive columns left out."""
    if isinstance(condition, Leaf):
        return condition.text
    joiner, empty = (" & ", "everything") if isinstance(condition, AllOf) else (" | ", "nothing")
    parts = [describe(part) if isinstance(part, Leaf) else f"({describe(part)})" for part in condition.parts]
    return joiner.join(parts) or empty


def column_names(condition: Condition) -> set[str]:
    """The names of all columns that it looks at."""
    if isinstance(condition, Leaf):
        return {condition.column.name}
    return {name for part in condition.parts for name in column_names(part)}


def _bind(expression: Expression, columns: Columns, *, negated: bool, depth: int) -> Condition:
    if depth > DEPTH_MAX:
        raise QueryError(f"conditions nest at most {DEPTH_MAX} deep")
    if isinstance(expression, Not):
        return _bind(expression.part, columns, negated=not negated, depth=depth + 1)
    if isinstance(expression, And | Or):
        parts = [_bind(part, columns, negated=negated, depth=depth + 1) for part in expression.parts]
        return all_of(parts) if isinstance(expression, And) != negated else any_of(parts)
    assert isinstance(expression, Comparison)
    return _leaf(expression, columns[expression.column], negated=negated)


_OPPOSITES = {
    Operator.NE: Operator.EQ,
    Operator.NOT_IN: Operator.IN,
    Operator.IS_NOT_NULL: Operator.IS_NULL,
}


def _leaf(comparison: Comparison, column: BoundColumn, *, negated: bool) -> Condition:
    operator = comparison.operator
    text = _text(comparison, column, negated=negated)
    if operator in _OPPOSITES:
        operator, negated = _OPPOSITES[operator], not negated
    if operator is Operator.IS_NULL:
        return _null_leaf(column, text, negated=negated)
    if operator is Operator.IN and not comparison.operands:
        return EVERYWHERE if negated else NOWHERE
    test, keys, exact = _test(operator, comparison.operands, column)
    if negated:
        if not column.multi:
            keys = keys.complement() if keys is not None and exact else None
        else:  # the entry of one value says nothing of a record's other values
            keys, exact = None, False
    return Leaf(column, _row_predicate(column, test, negated=negated), keys, exact, text)


def _null_leaf(column: BoundColumn, text: str, *, negated: bool) -> Leaf:
    get = column.get
    keys = KeySet((NOT_NULL,) if negated else (NULL,))
    if column.multi:
        return Leaf(column, (lambda row: bool(get(row))) if negated else (lambda row: not get(row)), keys, True, text)
    return Leaf(
        column,
        (lambda row: get(row) is not None) if negated else (lambda row: get(row) is None),
        keys,
        True,
        text,
    )


def _row_predicate(column: BoundColumn, test: Predicate, *, negated: bool) -> Predicate:
    """Of a row, from the test of one value that is not null."""
    get = column.get
    if column.multi:

        def multi(row: Any) -> bool:
            values = get(row)
            return bool(values) and any(test(value) for value in values) != negated

        return multi
    if negated:
        return lambda row: (value := get(row)) is not None and not test(value)
    return lambda row: (value := get(row)) is not None and test(value)


def _test(
    operator: Operator, operands: tuple[object, ...], column: BoundColumn
) -> tuple[Predicate, KeySet | None, bool]:
    """Of one value that is not null: the test, the values that may pass, whether these are exactly they."""
    if operator in (Operator.EQ, Operator.IN):
        stored = frozenset(_literal(column, operator, operand) for operand in operands)
        keys = union(tuple(point(column.component(value)) for value in stored))
        if len(stored) == 1:
            (only,) = stored
            return (lambda value: value == only), keys, True
        return stored.__contains__, keys, True
    if operator in _COMPARISONS or operator is Operator.BETWEEN:
        return *_comparison(operator, [_literal(column, operator, operand) for operand in operands], column), True
    if not column.is_text:
        raise QueryError(f"{operator}() is for text; column {column.name!r} is {column.type or 'a pair'}")
    pattern = operands[0]
    if not isinstance(pattern, str):
        raise QueryError(f"{operator}() of {column.name!r} takes text, not a {type(pattern).__name__}")
    if operator is Operator.STARTSWITH:
        return (lambda value: value.startswith(pattern)), KeySet((_prefix(column, pattern),)), True
    if operator is Operator.CONTAINS:
        return (lambda value: pattern in value), None, False
    if len(pattern) > PATTERN_CHARS_MAX:
        raise QueryError(f"the pattern of {operator}() is longer than {PATTERN_CHARS_MAX} characters")
    if operator is Operator.LIKE:
        return _like(column, pattern, operands[1])
    try:
        search = re.compile(pattern).search
    except (re.error, RecursionError, OverflowError) as error:
        problem = f"regexp_match() of {column.name!r}: the pattern is no regular expression"
        if column.sensitive:  # the rest may quote the pattern
            raise QueryError(problem) from None
        raise QueryError(f"{problem}: {error}") from error
    return (lambda value: search(value) is not None), None, False


_COMPARISONS = (Operator.LT, Operator.LE, Operator.GT, Operator.GE)


def _comparison(operator: Operator, stored: list[Any], column: BoundColumn) -> tuple[Predicate, KeySet]:
    components = [column.component(value) for value in stored]
    bounds = [column.comparable(value) for value in stored]
    typed = column.comparable
    first = bounds[0]
    tests: dict[Operator, tuple[Predicate, Range]] = {
        Operator.LT: (lambda value: typed(value) < first, span(None, components[0], high_included=False)),
        Operator.LE: (lambda value: typed(value) <= first, span(None, components[0])),
        Operator.GT: (lambda value: typed(value) > first, span(components[0], None, low_included=False)),
        Operator.GE: (lambda value: typed(value) >= first, span(components[0], None)),
        Operator.BETWEEN: (lambda value: first <= typed(value) <= bounds[-1], span(components[0], components[-1])),
    }
    test, keys = tests[operator]
    return test, union((keys,))


def _like(column: BoundColumn, pattern: str, escape: object) -> tuple[Predicate, KeySet | None, bool]:
    """LIKE without backtracking: after each `%` the first place where the next piece fits is as good as any later."""
    pieces = _like_pieces(column, pattern, escape)
    literal = ""  # what every match starts with
    for kind, character in pieces:
        if kind != "text":
            break
        literal += character
    runs: list[str] = [""]
    for kind, character in pieces:
        if kind == "any":
            runs.append("")
        else:
            runs[-1] += "." if kind == "one" else re.escape(character)
    *middle, last = runs[1:] or [""]
    source = runs[0] + "".join(f"(?>.*?{run})" for run in middle if run) + (f".*{last}" if len(runs) > 1 else "")
    match = re.compile(source, re.DOTALL).fullmatch
    keys = KeySet((_prefix(column, literal),)) if literal else None
    if all(kind == "text" for kind, _ in pieces):
        return (lambda value: value == literal), union((point(column.component(literal)),)), True
    return (lambda value: match(value) is not None), keys, False


def _like_pieces(column: BoundColumn, pattern: str, escape: object) -> list[tuple[str, str]]:
    if escape is not None and (not isinstance(escape, str) or len(escape) != 1):
        raise QueryError(f"like() of {column.name!r}: escape is one character")
    pieces: list[tuple[str, str]] = []
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            literal = next(characters, None)
            if literal is None:
                raise QueryError(f"like() of {column.name!r}: the pattern ends with its escape character")
            pieces.append(("text", literal))
        else:
            pieces.append(({"%": "any", "_": "one"}.get(character, "text"), character))
    return pieces


def _prefix(column: BoundColumn, text: str) -> Range:
    start = column.text_prefix(text)
    return Range(start, prefix_end(start)) if text else NOT_NULL


def _literal(column: BoundColumn, operator: Operator, operand: object) -> Any:
    if operand is None:
        raise QueryError(f"{operator} of {column.name!r} with None matches nothing: use is_null() or is_not_null()")
    return column.literal(operand)


def _text(comparison: Comparison, column: BoundColumn, *, negated: bool) -> str:
    operator, operands = comparison.operator, comparison.operands
    if operator is Operator.LIKE and operands[1] is None:
        operands = operands[:1]
    shown = ["***"] if column.sensitive and operands else [repr(item) for item in operands[:VALUES_SHOWN_MAX]]
    if len(operands) > VALUES_SHOWN_MAX and not column.sensitive:
        shown.append(f"... {len(operands)} values")
    name = column.name
    text = f"{name}.{operator}({', '.join(shown)})" if operator.isidentifier() else f"{name} {operator} {shown[0]}"
    return f"~({text})" if negated else text
