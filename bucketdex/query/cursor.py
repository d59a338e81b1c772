"""Runs a plan over a snapshot: reads its ranges, filters, puts in order, and tells where a row stands so that a page
can go on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple

from bucketdex.definition import row_codec
from bucketdex.query.access import KeyRange, Spread
from bucketdex.query.condition import NOWHERE, Predicate, column_names, predicate
from bucketdex.query.decode import DecodeLines, narrow_decoder
from bucketdex.query.order import Order
from bucketdex.query.plan import Branch, Mode, Plan
from bucketdex.query.reader import WINDOW, Reader
from bucketdex.storage import GetRequest


class Position(NamedTuple):
    """Where a row stands in a query's answer: its branch and sort key there, or its components in the order."""

    branch: int
    texts: tuple[str, ...]


class Found(NamedTuple):
    """A row, and the entry it was read from."""

    branch: int
    key: str
    row: Any
    line: bytes


def run(
    plan: Plan, reader: Reader, after: Position | None = None, needs: Collection[str] | None = None
) -> Iterator[Found]:
    """The rows of a plan after a position, at most `plan.limit`; streams, except where an order has to be made in
    memory.

    The rows have the fields of `needs` (None: all).
    """
    cursor = _Cursor(plan, reader, needs)
    return islice(cursor.rows(after), plan.limit)


def position(plan: Plan, found: Found) -> Position:
    """Where a row that `run` gave stands."""
    if plan.order is None:
        return Position(found.branch, (found.key,))
    return Position(0, plan.order.components(found.row))


def first_requests(plan: Plan, reader: Reader, after: Position | None = None) -> list[GetRequest]:
    """What running the plan will read first, as far as what is in memory tells; nothing is sent."""
    found: dict[GetRequest, None] = {}
    for view, ranges in _Cursor(plan, reader, ()).starts(after):
        found |= dict.fromkeys(reader.predict(view, ranges, reverse=plan.reverse))
    return list(found)


class _Cursor:
    def __init__(self, plan: Plan, reader: Reader, needs: Collection[str] | None) -> None:
        self._plan, self._reader = plan, reader
        self._window = WINDOW if plan.limit is None or plan.order is not None else plan.limit
        looked_at = _looked_at(plan)
        self._decode: DecodeLines
        if needs is not None:
            self._decode = narrow_decoder(reader.definition, looked_at | frozenset(needs))
            self._complete = False
        else:
            # Where rows are dropped or held, look at as little as possible of each, and decode what is left of them.
            self._complete = bool(looked_at)
            codec = row_codec(reader.definition)
            self._decode = narrow_decoder(reader.definition, looked_at) if looked_at else codec.decode_lines
            self._whole = codec.decode

    def rows(self, after: Position | None) -> Iterator[Found]:
        order = self._plan.order
        found = self._natural(after) if order is None else self._ordered(order, after)
        return (item._replace(row=self._whole(item.line)) for item in found) if self._complete else found

    def starts(self, after: Position | None) -> Iterator[tuple[str, list[KeyRange]]]:
        """The views and ranges that are read before the first row can be given."""
        order = self._plan.order
        for i, branch in enumerate(self._plan.branches):
            view = branch.access.layout.view
            if order is None:
                if after is None or i >= after.branch:
                    yield view, self._natural_ranges(i, after)[: self._window]
                    return
            elif branch.mode is Mode.SORTED:
                yield view, list(branch.access.ranges)
            else:
                groups = _groups(branch, order, after)
                yield view, [ranges[-1 if order.reverse else 0] for _, ranges in groups if ranges]

    def _natural(self, after: Position | None) -> Iterator[Found]:
        """Branch after branch, each in the order of its view."""
        for i in range(0 if after is None else after.branch, len(self._plan.branches)):
            yield from self._entries(i, self._natural_ranges(i, after))

    def _natural_ranges(self, i: int, after: Position | None) -> list[KeyRange]:
        ranges = list(self._plan.branches[i].access.ranges)
        return _past(ranges, after.texts[0] + "\x00") if after is not None and i == after.branch else ranges

    def _ordered(self, order: Order, after: Position | None) -> Iterator[Found]:
        """All branches merged into the order of the query."""
        comparable = order.key()

        def place(found: Found) -> Any:
            return comparable(order.components(found.row))

        streams: list[Iterable[Found]] = []
        for i, branch in enumerate(self._plan.branches):
            stream = self._branch(i, order, after)
            if after is not None:
                stream = _beyond(stream, place, comparable(after.texts), reverse=order.reverse)
            streams.append(self._in_order(stream, branch.mode, order, place))
        if len(streams) == 1:
            return iter(streams[0])
        return heapq.merge(*streams, key=place, reverse=order.reverse)

    def _branch(self, i: int, order: Order, after: Position | None) -> Iterator[Found]:
        """A branch's rows in the order of its view, ranges that differ only before that order merged."""
        branch = self._plan.branches[i]
        if branch.mode is Mode.SORTED:
            return self._entries(i, branch.access.ranges)
        groups = _groups(branch, order, after)
        if len(groups) == 1:
            return self._entries(i, groups[0][1])
        starts = [ranges[-1 if order.reverse else 0] for _, ranges in groups if ranges]
        self._reader.warm(branch.access.layout.view, starts, reverse=order.reverse)
        streams = [_tails(self._entries(i, ranges), len(prefix)) for prefix, ranges in groups]
        return (found for _, found in heapq.merge(*streams, key=lambda item: item[0], reverse=order.reverse))

    def _in_order(
        self, rows: Iterator[Found], mode: Mode, order: Order, place: Callable[[Found], Any]
    ) -> Iterable[Found]:
        if mode is Mode.SERVED:
            return rows
        if mode is Mode.GROUPED:
            return _ties_sorted(rows, order, place)
        limit = self._plan.limit
        if limit is None:
            return sorted(rows, key=place, reverse=order.reverse)
        best = heapq.nlargest if order.reverse else heapq.nsmallest
        return best(limit, rows, key=place)

    def _entries(self, i: int, ranges: Iterable[KeyRange]) -> Iterator[Found]:
        """The rows of a branch in these ranges, one after the other, in the order of the view."""
        branch, reverse = self._plan.branches[i], self._plan.reverse
        keep = _filter(branch)
        chosen = None if branch.access.spread is None else _chosen(branch.access.spread)
        view = branch.access.layout.view
        ordered = list(reversed(list(ranges)) if reverse else ranges)
        for item, snapshot in self._reader.windows(view, ordered, reverse=reverse, width=self._window):
            for keys, lines, weights in snapshot.batches(view, item.low, item.high, reverse=reverse):
                for j, row in enumerate(self._decode(b"\n".join(lines))):
                    if keep is not None and not keep(row):
                        continue
                    if chosen is not None and not chosen(keys[j], row):
                        continue
                    for _ in range(1 if weights is None else weights[j]):
                        yield Found(i, keys[j], row, lines[j])


def _looked_at(plan: Plan) -> frozenset[str]:
    """The columns by which rows are dropped or put in order; none where rows come as they are wanted."""
    names: set[str] = set()
    for branch in plan.branches:
        names.update(column_names(branch.access.residual), column_names(branch.earlier))
        if branch.access.spread is not None:
            names.add(branch.access.spread.column.name)
    if plan.order is not None and (names or [branch.mode for branch in plan.branches] != [Mode.SERVED]):
        names.update(column.name for column in plan.order.columns)
    return frozenset(names)


def _filter(branch: Branch) -> Predicate | None:
    """What a row of the ranges must also satisfy: the rest of the condition, and no branch before."""
    rest, earlier = predicate(branch.access.residual), predicate(branch.earlier)
    if branch.earlier is NOWHERE or earlier is None:
        return rest
    if rest is None:
        return lambda row: not earlier(row)
    return lambda row: rest(row) and not earlier(row)


def _chosen(spread: Spread) -> Callable[[str, Any], bool]:
    """Of the entries that a record has in the ranges, the one with the smallest value stands for it."""
    column, keys, place = spread.column, spread.keys, spread.position

    def chosen(key: str, row: Any) -> bool:
        values = column.get(row)
        if not values:
            return True
        component = key.split("\x00", place + 1)[place]
        return component == min([text for value in values if (text := column.component(value)) in keys])

    return chosen


def _beyond(rows: Iterator[Found], place: Callable[[Found], Any], last: Any, *, reverse: bool) -> Iterator[Found]:
    """The rows that stand after the last one given."""
    for found in rows:
        here = place(found)
        if here < last if reverse else last < here:
            yield found


def _ties_sorted(rows: Iterator[Found], order: Order, place: Callable[[Found], Any]) -> Iterator[Found]:
    """Rows that come in the order of the named columns, put in order among equals."""
    named = order.columns[: order.named]
    for _, equals in groupby(rows, key=lambda found: [column.get(found.row) for column in named]):
        yield from sorted(equals, key=place, reverse=order.reverse)


def _tails(rows: Iterator[Found], skipped: int) -> Iterator[tuple[str, Found]]:
    for found in rows:
        yield found.key[skipped:], found


def _past(ranges: Iterable[KeyRange], low: str) -> list[KeyRange]:
    """What of the ranges is at `low` or after it."""
    return [
        KeyRange(low if item.low is None else max(item.low, low), item.high, item.parts)
        for item in ranges
        if item.high is None or low < item.high
    ]


def _groups(branch: Branch, order: Order, after: Position | None) -> list[tuple[str, list[KeyRange]]]:
    """The ranges that are merged with each other, without what stands before the last row given."""
    if after is None:
        return branch.groups
    bound = _bound(branch, order, after.texts)
    return [(prefix, _clipped(ranges, prefix + bound, order)) for prefix, ranges in branch.groups]


def _bound(branch: Branch, order: Order, after: tuple[str, ...]) -> str:
    """The sort key, from the order's first column on, as far as the last row's place in the order says it."""
    known = {column.name: text for column, text in zip(order.columns, after, strict=True)}
    named, varying = order.without(branch.constants)
    wanted = named if branch.mode is Mode.GROUPED else varying
    text = ""
    for column in branch.access.layout.columns[branch.skip :]:
        if column.name in branch.constants:
            text += branch.constants[column.name] + "\x00"
        elif wanted and column.name == wanted[0]:
            text += known[wanted.pop(0)] + "\x00"
        else:
            break
    return text


def _clipped(ranges: Iterable[KeyRange], bound: str, order: Order) -> list[KeyRange]:
    """What of a group's ranges can hold rows at or after the bound in the query's direction."""
    if not order.reverse:
        return _past(ranges, bound)
    high = bound[:-1] + "\x01" if bound else None
    return [
        item if high is None else KeyRange(item.low, high if item.high is None else min(item.high, high), item.parts)
        for item in ranges
        if high is None or item.low is None or item.low < high
    ]
