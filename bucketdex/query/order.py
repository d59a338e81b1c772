"""What `order_by` means: the order's columns, its ties, and the keys that rows are compared by.

Nulls come first ascending and last descending; ties are settled by `_key` and `_at` in the direction of the last column
named, so that descending is exactly the reverse of ascending, and no two rows are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from bucketdex.errors import QueryError
from bucketdex.query.columns import AT, KEY, BoundColumn, Columns
from bucketdex.query.expression import Ordering

Components = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The columns named, then `_key` and `_at` as far as they are not among them."""

    columns: tuple[BoundColumn, ...]
    descending: tuple[bool, ...]
    named: int  # how many of the columns the user named

    @property
    def uniform(self) -> bool:
        """Whether all columns go one way, as only an index can."""
        return len(set(self.descending)) == 1

    @property
    def reverse(self) -> bool:
        """Whether `key` is to be taken from the largest down."""
        return self.uniform and self.descending[0]

    def components(self, row: Any) -> Components:
        """The place of a row in the order, as sort-key text of each column."""
        return tuple([column.component(column.get(row)) for column in self.columns])

    def key(self) -> Callable[[Components], Any]:
        """What makes components comparable: as they are when uniform, else with the descending ones turned round."""
        if self.uniform:
            return lambda components: components
        flags = self.descending
        return lambda components: tuple(
            [Turned(text) if turned else text for text, turned in zip(components, flags, strict=True)]
        )

    def without(self, constants: Collection[str]) -> tuple[list[str], list[str]]:
        """The names of the columns that vary: of those the user named, and of all."""
        varying = [column.name for column in self.columns if column.name not in constants]
        named = [column.name for column in self.columns[: self.named] if column.name not in constants]
        return named, varying

    def describe(self) -> str:
        """As in `order_by`."""
        pairs = zip(self.columns[: self.named], self.descending, strict=False)
        return ", ".join("-" * turned + column.name for column, turned in pairs)


class Turned:
    """Text that compares the other way round."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: Turned) -> bool:
        return other.text < self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Turned) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]


def bind_order(terms: Sequence[Ordering], columns: Columns) -> Order | None:
    """The order for rows with these columns; None for no terms. QueryError for unknown or multi-valued columns."""
    if not terms:
        return None
    bound = [columns[term.column] for term in terms]
    for column in bound:
        if column.multi:
            raise QueryError(f"order_by(): {column.name!r} has many values, so it gives no order")
    directions = [term.descending for term in terms]
    ties = [columns[name] for name in (KEY, AT) if name not in [column.name for column in bound]]
    directions += [directions[-1]] * len(ties)
    return Order((*bound, *ties), tuple(directions), len(bound))
