"""What a condition is as the user writes it: columns, operators, `&`, `|`, `~`; knows no table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bucketdex.errors import QueryError


class Operator(StrEnum):
    """The operators, named as SQLAlchemy names them."""

    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in_"
    NOT_IN = "not_in"
    BETWEEN = "between"
    LIKE = "like"
    STARTSWITH = "startswith"
    CONTAINS = "contains"
    REGEXP_MATCH = "regexp_match"
    IS_NULL = "is_null"
    IS_NOT_NULL = "is_not_null"


class Expression:
    """A condition. Combine with `&`, `|`, `~`; SQL's three-valued logic decides what it holds for."""

    __slots__ = ()

    def __and__(self, other: Expression) -> Expression:
        return And((*_parts(And, self), *_parts(And, other)))

    def __or__(self, other: Expression) -> Expression:
        return Or((*_parts(Or, self), *_parts(Or, other)))

    def __invert__(self) -> Expression:
        return self.part if isinstance(self, Not) else Not(self)

    def __bool__(self) -> bool:
        raise QueryError(
            "a condition has no truth value of its own: combine with & | ~ (each side in parentheses), "
            "not with and, or, not or a chained comparison"
        )


@dataclass(frozen=True, slots=True)
class Comparison(Expression):
    """One operator applied to one column. `operands` are Python values, not yet checked against a type; no repr shows
    them, since only a table knows which are sensitive.
    """

    column: str
    operator: Operator
    operands: tuple[object, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class And(Expression):
    """Holds where every part holds."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or(Expression):
    """Holds where any part holds."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not(Expression):
    """Holds where the part is false; where the part is unknown, so is this."""

    part: Expression


@dataclass(frozen=True, slots=True)
class Ordering:
    """One column of an `order_by`."""

    column: str
    descending: bool


class Column:
    """A column by name. Comparing it makes an Expression; nothing is checked before a table runs the query."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, value: object) -> Expression:  # type: ignore[override]
        return self.is_null() if value is None else self._compare(Operator.EQ, value)

    def __ne__(self, value: object) -> Expression:  # type: ignore[override]
        return self.is_not_null() if value is None else self._compare(Operator.NE, value)

    def __lt__(self, value: object) -> Expression:
        return self._compare(Operator.LT, value)

    def __le__(self, value: object) -> Expression:
        return self._compare(Operator.LE, value)

    def __gt__(self, value: object) -> Expression:
        return self._compare(Operator.GT, value)

    def __ge__(self, value: object) -> Expression:
        return self._compare(Operator.GE, value)

    def __hash__(self) -> int:
        return hash(self.name)

    def __bool__(self) -> bool:
        raise QueryError(f"column {self.name!r} has no truth value: compare it, as in col({self.name!r}) == True")

    def __repr__(self) -> str:
        return f"col({self.name!r})"

    def in_(self, values: Iterable[object]) -> Expression:
        """Equal to one of the values; holds nowhere for an empty list. For null use `| is_null()`."""
        return self._compare(Operator.IN, *_values(self.name, values))

    def not_in(self, values: Iterable[object]) -> Expression:
        """Not null and equal to none of the values; holds everywhere for an empty list, as in SQL."""
        return self._compare(Operator.NOT_IN, *_values(self.name, values))

    def between(self, low: object, high: object) -> Expression:
        """`low <= column <= high`, both ends included."""
        return self._compare(Operator.BETWEEN, low, high)

    def like(self, pattern: str, escape: str | None = None) -> Expression:
        """SQL's LIKE, case-sensitive, over the whole value: `%` any text, `_` one character; `escape` makes the
        character after it literal. A string column only.
        """
        return self._compare(Operator.LIKE, pattern, escape)

    def startswith(self, text: str) -> Expression:
        """Starts with this literal text; `%` and `_` mean themselves. Served by an index on the column."""
        return self._compare(Operator.STARTSWITH, text)

    def contains(self, text: str) -> Expression:
        """Has this literal text somewhere; `%` and `_` mean themselves. No index serves it."""
        return self._compare(Operator.CONTAINS, text)

    def regexp_match(self, pattern: str) -> Expression:
        """Python's `re.search(pattern, value)` finds something. No index serves it. The pattern is the caller's own:
        one that backtracks without end does so in the caller's process.
        """
        return self._compare(Operator.REGEXP_MATCH, pattern)

    def is_null(self) -> Expression:
        """Null, or a multi-valued field without values."""
        return self._compare(Operator.IS_NULL)

    def is_not_null(self) -> Expression:
        """Not null; at least one value."""
        return self._compare(Operator.IS_NOT_NULL)

    def asc(self) -> Ordering:
        """Ascending in `order_by`: nulls first."""
        return Ordering(self.name, descending=False)

    def desc(self) -> Ordering:
        """Descending in `order_by`: nulls last."""
        return Ordering(self.name, descending=True)

    def _compare(self, operator: Operator, *operands: object) -> Expression:
        return Comparison(self.name, operator, operands)


class Columns:
    """`col`: `col.amount`, or `col("first name")` for a name that is no identifier."""

    def __call__(self, name: str) -> Column:
        if not isinstance(name, str):
            raise QueryError(f"col() takes the name of a column, not a {type(name).__name__}")
        return Column(name)

    def __getattr__(self, name: str) -> Column:
        if name.startswith("_") and name not in ("_key", "_at"):
            raise AttributeError(name)  # what notebooks and copy() probe for is no column
        return Column(name)


col = Columns()


def conjunction(conditions: Iterable[Expression], equals: Mapping[str, object]) -> Expression | None:
    """All conditions of a `where` as one: in keywords None means null, a list, tuple or set means in. None: no
    condition.

    Raises QueryError for anything that is no condition.
    """
    parts: list[Expression] = []
    for condition in conditions:
        if not isinstance(condition, Expression):
            raise QueryError(
                f"where() takes conditions such as col.amount >= 100, not a {type(condition).__name__}; "
                "for equality use a keyword: where(country='DE')"
            )
        parts.extend(_parts(And, condition))
    for name, value in equals.items():
        column = Column(name)
        listed = isinstance(value, list | set | frozenset | tuple) and not (name == "_at" and isinstance(value, tuple))
        parts.append(column.in_(value) if listed else column == value)  # type: ignore[arg-type]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def names_in(expression: Expression | None) -> set[str]:
    """The names of all columns that a condition is on."""
    if expression is None:
        return set()
    if isinstance(expression, Comparison):
        return {expression.column}
    if isinstance(expression, Not):
        return names_in(expression.part)
    assert isinstance(expression, And | Or)
    return {name for part in expression.parts for name in names_in(part)}


def ordering(terms: Iterable[str | Column | Ordering]) -> tuple[Ordering, ...]:
    """The terms of an `order_by`: a name, `"-name"` for descending, a column, or `col.x.desc()`.

    Raises QueryError for anything else and for a column named twice.
    """
    result: list[Ordering] = []
    for term in terms:
        if isinstance(term, Column):
            term = term.asc()
        elif isinstance(term, str):
            term = Ordering(term.removeprefix("-"), descending=term.startswith("-"))
        elif not isinstance(term, Ordering):
            raise QueryError(f"order_by() takes names of columns, not a {type(term).__name__}")
        if any(term.column == other.column for other in result):
            raise QueryError(f"order_by() names {term.column!r} twice")
        result.append(term)
    return tuple(result)


def _parts(kind: type[And] | type[Or], expression: object) -> tuple[Expression, ...]:
    if not isinstance(expression, Expression):
        raise QueryError(f"& and | combine conditions; got a {type(expression).__name__} (are the parentheses right?)")
    return expression.parts if isinstance(expression, kind) else (expression,)


def _values(name: str, values: object) -> tuple[object, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise QueryError(f"in_() and not_in() of {name!r} take a list of values, not a {type(values).__name__}")
    return tuple(values)
