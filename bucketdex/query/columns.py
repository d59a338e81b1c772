"""The columns that a query can name: of a table its fields, `_key` and `_at`; of a summary its groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from operator import attrgetter, itemgetter
from typing import Any

from bucketdex.definition import Field, FieldType, GroupTerm, Summary, TableDefinition, row_codec
from bucketdex.definition.ordering import component_function, escape
from bucketdex.definition.types import from_literal
from bucketdex.errors import QueryError

KEY = "_key"
AT = "_at"


@dataclass(frozen=True, slots=True, eq=False)
class BoundColumn:
    """A column of one table or summary: how to read it, compare it, and turn a literal into its stored form."""

    name: str
    type: FieldType | None  # None: `_at`, a pair of offset and length
    get: Callable[[Any], Any]  # the stored value in a row; a list where multi
    component: Callable[[Any], str]  # the sort-key text of a stored value, "" of null
    literal: Callable[[object], Any]  # raises QueryError for a value of the wrong type
    multi: bool = False
    sensitive: bool = False

    @property
    def is_text(self) -> bool:
        """Whether like, startswith, contains and regexp_match apply."""
        return self.type is FieldType.STRING

    def comparable(self, stored: Any) -> Any:
        """The stored value in a form that `<` orders as its type does."""
        return Decimal(stored) if self.type is FieldType.DECIMAL else stored

    def text_prefix(self, text: str) -> str:
        """What the components of all values that start with `text` start with."""
        return escape(text) if self.name == KEY else self.component(text)


class Columns:
    """Columns by name."""

    def __init__(self, where: str, columns: Iterable[BoundColumn]) -> None:
        self.where = where
        self.by_name = {column.name: column for column in columns}

    def __getitem__(self, name: str) -> BoundColumn:
        """The column. Raises QueryError with a suggestion where there is none of that name."""
        found = self.by_name.get(name)
        if found is None:
            raise QueryError(unknown("column", name, self.by_name, self.where))
        return found


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> str:
    """The message for a name that does not exist, with the nearest one that does."""
    names = list(known)
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
    return f"{where} has no {kind} {name!r}; {hint}"


def table_columns(definition: TableDefinition) -> Columns:
    """The declared fields, `_key` and `_at`."""
    codec = row_codec(definition)
    fields = [_field_column(field, attrgetter(codec.attribute(field.name))) for field in definition.fields]
    key = BoundColumn(KEY, FieldType.STRING, attrgetter("key"), escape, _key_literal)
    at = BoundColumn(AT, None, attrgetter("at"), at_component, _at_literal)
    return Columns(f"table {definition.name!r}", [*fields, key, at])


def group_columns(definition: TableDefinition, summary: Summary) -> Columns:
    """The groups of a summary, by the names they have in its rows."""
    return Columns(
        f"summary {summary.name!r} of table {definition.name!r}",
        [_group_column(term, definition.field(term.field)) for term in summary.group_by],
    )


def at_component(at: tuple[int, int] | None) -> str:
    """The place of a record as sort-key text; "" where the object is one record."""
    return "" if at is None else f"{at[0]:012x}{at[1]:08x}"


def _field_column(field: Field, get: Callable[[Any], Any]) -> BoundColumn:
    def literal(value: object) -> Any:
        return from_literal(field, value)

    return BoundColumn(
        field.name, field.type, get, component_function(field.type), literal, field.multi, field.sensitive
    )


def _group_column(term: GroupTerm, field: Field) -> BoundColumn:
    get = itemgetter(term.name)
    if term.unit is None:
        column = _field_column(field, get)
        return BoundColumn(term.name, column.type, get, column.component, column.literal, sensitive=column.sensitive)

    def literal(value: object) -> str:
        if term.unit == "day" and type(value) is date:
            return value.isoformat()
        if not isinstance(value, str):
            raise QueryError(f"group {term.name!r} is text such as {_EXAMPLES[term.unit or 'day']!r}")
        return value

    component = component_function(FieldType.STRING)
    return BoundColumn(term.name, FieldType.STRING, get, component, literal, sensitive=field.sensitive)


_EXAMPLES = {
    "year": "2026",
    "month": "2026-01",
    "week": "2026-W01",
    "day": "2026-01-02",
    "hour": "2026-01-02T03",
}


def _key_literal(value: object) -> str:
    if not isinstance(value, str):
        raise QueryError(f"column {KEY!r} is compared with text, not a {type(value).__name__}")
    return value


def _at_literal(value: object) -> tuple[int, int]:
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(part) is int and part >= 0 for part in value):
        return (value[0], value[1])
    raise QueryError(f"column {AT!r} is compared with a pair (offset, length) of whole numbers")
