"""Ways into a view: which ranges of its sort keys a conjunction comes to, and what is left to filter."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bucketdex.query.columns import BoundColumn
from bucketdex.query.condition import AllOf, AnyOf, Condition, Leaf, all_of
from bucketdex.query.keyset import NOT_NULL, NULL, KeySet, Range, union

RANGES_MAX = 10_000
EVERYTHING = union((NULL, NOT_NULL))


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A view as the planner sees it: the columns of its sort key, in order."""

    view: str
    columns: tuple[BoundColumn, ...]

    @property
    def multi(self) -> int | None:
        """The place of its multi-valued column."""
        return next((i for i, column in enumerate(self.columns) if column.multi), None)


class KeyRange(NamedTuple):
    """Sort keys from `low` up to but without `high` (None: no end). `parts`: the texts of the leading columns bound to
    one value.
    """

    low: str | None
    high: str | None
    parts: tuple[str, ...]


class Spread(NamedTuple):
    """A row has several entries in the view, one a value of the column at `position`; those with a value of `keys` are
    read.
    """

    position: int
    column: BoundColumn
    keys: KeySet


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """Ranges of one view, ascending and disjoint, that hold every row of a conjunction."""

    layout: Layout
    ranges: tuple[KeyRange, ...]
    points: int  # leading columns bound to values
    constrained: int  # these, and one bound to ranges
    bounds: tuple[Condition, ...]  # what the ranges were made of
    residual: Condition
    spread: Spread | None


class Bound(NamedTuple):
    """The values of one column that may pass; which parts of a conjunction say so; which of them say nothing more."""

    keys: KeySet
    parts: list[int]
    settled: list[int]


class Constraints:
    """What the parts of a conjunction say about single columns."""

    def __init__(self, parts: Sequence[Condition]) -> None:
        self.parts = parts
        self._of: dict[str, list[tuple[KeySet, bool, int]]] = {}
        self.columns: dict[str, BoundColumn] = {}
        for i, part in enumerate(parts):
            found = keys_of(part)
            if found is not None:
                column, keys, exact = found
                self.columns[column.name] = column
                self._of.setdefault(column.name, []).append((keys, exact, i))
        single = {name: self._intersection(name) for name, column in self.columns.items() if not column.multi}
        self.contradictory = any(not keys.ranges for keys in single.values())  # no row can satisfy them
        self.constants = {  # the components of columns that can have one value only
            name: keys.ranges[0].low[:-1] for name, keys in single.items() if len(keys.ranges) == 1 and keys.all_points
        }

    def of(self, column: BoundColumn) -> Bound | None:
        """The values that may pass, the places of the parts that say so, and of those that need no further look.

        Of a multi-valued column one part alone: that one value satisfies it says nothing of the others.
        """
        found = self._of.get(column.name)
        if found is None:
            return None
        if column.multi:
            keys, exact, i = min(found, key=lambda item: (not item[0].all_points, len(item[0].ranges)))
            return Bound(keys, [i], [i] if exact else [])
        return Bound(self._intersection(column.name), [i for _, _, i in found], [i for _, exact, i in found if exact])

    def _intersection(self, name: str) -> KeySet:
        keys, *others = [keys for keys, _, _ in self._of[name]]
        for other in others:
            keys = keys & other
        return keys


def keys_of(condition: Condition) -> tuple[BoundColumn, KeySet, bool] | None:
    """(column, values that may pass, whether these are exactly they) of a condition on one column, or None."""
    if isinstance(condition, Leaf):
        return None if condition.keys is None else (condition.column, condition.keys, condition.exact)
    found = [keys_of(part) for part in condition.parts]
    first = found[0] if found else None
    if first is None:
        return None
    column, keys, exact = first
    if column.multi and isinstance(condition, AllOf):
        return None
    for item in found[1:]:
        if item is None or item[0] is not column:
            return None
        keys = keys | item[1] if isinstance(condition, AnyOf) else keys & item[1]
        exact = exact and item[2]
    return column, keys, exact


def access(layout: Layout, constraints: Constraints) -> Access:
    """The ranges of a view: values of leading columns multiplied out, then ranges of the next one."""
    prefixes: list[tuple[str, ...]] = [()]
    tails: tuple[Range, ...] | None = None
    points = 0
    bounds: list[int] = []
    settled: set[int] = set()
    spread_keys = EVERYTHING
    for column in layout.columns:
        found = constraints.of(column)
        if found is None:
            break
        keys = found.keys
        if len(prefixes) * len(keys.ranges) <= RANGES_MAX:
            settled.update(found.settled)
        else:
            keys = KeySet((Range(keys.ranges[0].low, keys.ranges[-1].high),))
        bounds += found.parts
        if column.multi:
            spread_keys = keys
        if not keys.all_points:
            tails = keys.ranges
            break
        prefixes = [(*prefix, item.low) for prefix in prefixes for item in keys.ranges]
        points += 1
    ranges = [_key_range(prefix, tail) for prefix in prefixes for tail in tails or (None,)]
    parts = constraints.parts
    residual = all_of(part for i, part in enumerate(parts) if i not in settled)
    spread = None
    if layout.multi is not None and not (len(spread_keys.ranges) == 1 and spread_keys.all_points):
        spread = Spread(layout.multi, layout.columns[layout.multi], spread_keys)
    return Access(
        layout,
        tuple(ranges),
        points,
        points + (tails is not None),
        tuple(parts[i] for i in sorted(set(bounds))),
        residual,
        spread,
    )


def order_place(layout: Layout, points: int, constants: Collection[str], wanted: list[str]) -> int | None:
    """How many leading columns of the sort key stand before the wanted ones; None when the view isn't in that order.

    Columns with one value don't matter; the others before must be bound to values, so that their ranges can be merged.
    """
    varying = [i for i, column in enumerate(layout.columns) if column.name not in constants]
    names = [layout.columns[i].name for i in varying]
    for j in range(len(names) - len(wanted) + 1):
        if j and varying[j - 1] >= points:
            return None
        if names[j : j + len(wanted)] == wanted:
            return varying[j] if j else 0
    return None


def _key_range(prefix: tuple[str, ...], tail: Range | None) -> KeyRange:
    text = "".join(prefix)
    end = text[:-1] + "\x01" if text else None
    if tail is None:
        return KeyRange(text or None, end, prefix)
    return KeyRange(text + tail.low, end if tail.high is None else text + tail.high, prefix)
