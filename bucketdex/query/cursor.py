"""Runs a plan over a snapshot: reads its ranges, filters, puts in order, and tells where each row stands so that a page can go on."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple

from bucketdex.definition import row_codec
from bucketdex.query.access import KeyRange, Spread
from bucketdex.query.condition import NOWHERE, Predicate, predicate
from bucketdex.query.order import Order
from bucketdex.query.plan import Branch, Mode, Plan
from bucketdex.query.reader import WINDOW, Reader
from bucketdex.storage import GetRequest


class Position(NamedTuple):
    """Where a row stands in its query's answer: its branch, and its sort key there or its components in the query's order."""

    branch: int
    texts: tuple[str, ...]


class Placed(NamedTuple):
    """A row and where it stands."""

    position: Position
    row: Any


class Found(NamedTuple):
    """A row and the sort key of the entry it was read from."""

    key: str
    row: Any


def run(plan: Plan, reader: Reader, after: Position | None = None) -> Iterator[Placed]:
    """The rows of a plan after a position, at most `plan.limit`. Streams, except where an order has to be made in memory."""
    cursor = _Cursor(plan, reader)
    rows = cursor.natural(after) if plan.order is None else cursor.ordered(plan.order, after)
    return islice(rows, plan.limit)


def first_requests(plan: Plan, reader: Reader, after: Position | None = None) -> list[GetRequest]:
    """What running the plan will read first, as far as what is in memory tells; nothing is sent."""
    cursor = _Cursor(plan, reader)
    found: dict[GetRequest, None] = {}
    for view, ranges in cursor.starts(after):
        found |= dict.fromkeys(reader.predict(view, ranges, reverse=plan.reverse))
    return list(found)


class _Cursor:
    def __init__(self, plan: Plan, reader: Reader) -> None:
        self._plan, self._reader = plan, reader
        self._decode = row_codec(reader.definition).decode_lines
        self._window = WINDOW if plan.limit is None or plan.order is not None else plan.limit

    def starts(self, after: Position | None) -> Iterator[tuple[str, list[KeyRange]]]:
        """The views and ranges that are read before the first row can be given."""
        for i, branch in enumerate(self._plan.branches):
            view = branch.access.layout.view
            if self._plan.order is None:
                if after is None or i >= after.branch:
                    yield view, self._natural_ranges(i, after)[: self._window]
                    return
            elif branch.mode is Mode.SORTED:
                yield view, list(branch.access.ranges)
            else:
                groups = self._groups(branch, self._plan.order, None if after is None else after.texts)
                yield view, [ranges[-1 if self._plan.reverse else 0] for _, ranges in groups if ranges]

    def natural(self, after: Position | None) -> Iterator[Placed]:
        """Branch after branch, each in the order of its view."""
        for i, branch in enumerate(self._plan.branches):
            if after is not None and i < after.branch:
                continue
            for key, row in self._entries(branch, self._natural_ranges(i, after)):
                yield Placed(Position(i, (key,)), row)

    def _natural_ranges(self, i: int, after: Position | None) -> list[KeyRange]:
        ranges = list(self._plan.branches[i].access.ranges)
        return _past(ranges, after.texts[0] + "\x00") if after is not None and i == after.branch else ranges

    def _groups(self, branch: Branch, order: Order, after: tuple[str, ...] | None) -> list[tuple[str, list[KeyRange]]]:
        """The ranges that are merged with each other, without what stands before the last row given."""
        if after is None:
            return branch.groups
        bound = _bound(branch, order, after)
        return [(prefix, _clipped(ranges, prefix + bound, order)) for prefix, ranges in branch.groups]

    def ordered(self, order: Order, after: Position | None) -> Iterator[Placed]:
        """All branches merged into the order of the query."""
        key = order.key()
        streams = []
        for branch in self._plan.branches:
            rows = self._branch(branch, order, None if after is None else after.texts)
            streams.append(_placed(rows, order))
        if after is not None:
            streams = [_beyond(stream, key, key(after.texts), reverse=order.reverse) for stream in streams]
        ready = [
            self._sorted(stream, branch, order) for stream, branch in zip(streams, self._plan.branches, strict=True)
        ]
        if len(ready) == 1:
            return iter(ready[0])
        return heapq.merge(*ready, key=lambda placed: key(placed.position.texts), reverse=order.reverse)

    def _branch(self, branch: Branch, order: Order, after: tuple[str, ...] | None) -> Iterator[Found]:
        """A branch's rows in the order of its view, ranges that differ only before that order merged."""
        if branch.mode is Mode.SORTED:
            return self._entries(branch, branch.access.ranges)
        groups = self._groups(branch, order, after)
        if len(groups) == 1:
            return self._entries(branch, groups[0][1])
        ends = [ranges[-1 if self._plan.reverse else 0] for _, ranges in groups if ranges]
        self._reader.warm(branch.access.layout.view, ends, reverse=self._plan.reverse)
        streams = [_tails(self._entries(branch, ranges), len(prefix)) for prefix, ranges in groups]
        merged = heapq.merge(*streams, key=lambda item: item[0], reverse=self._plan.reverse)
        return (found for _, found in merged)

    def _sorted(self, rows: Iterator[Placed], branch: Branch, order: Order) -> Iterable[Placed]:
        key = order.key()

        def place(placed: Placed) -> Any:
            return key(placed.position.texts)

        if branch.mode is Mode.SERVED:
            return rows
        if branch.mode is Mode.GROUPED:
            return _ties_sorted(rows, order)
        limit = self._plan.limit
        if limit is None:
            return sorted(rows, key=place, reverse=order.reverse)
        best = heapq.nlargest if order.reverse else heapq.nsmallest
        return best(limit, rows, key=place)

    def _entries(self, branch: Branch, ranges: Iterable[KeyRange]) -> Iterator[Found]:
        """The rows of a branch in these ranges, one after the other, in the order of the view."""
        reverse = self._plan.reverse
        access = branch.access
        keep = _filter(branch)
        chosen = None if access.spread is None else _chosen(access.spread)
        view = access.layout.view
        ordered = list(reversed(list(ranges)) if reverse else ranges)
        for item, snapshot in self._reader.windows(view, ordered, reverse=reverse, width=self._window):
            for keys, lines, weights in snapshot.batches(view, item.low, item.high, reverse=reverse):
                rows = self._decode(b"\n".join(lines))
                for i, row in enumerate(rows):
                    if keep is not None and not keep(row):
                        continue
                    if chosen is not None and not chosen(keys[i], row):
                        continue
                    for _ in range(1 if weights is None else weights[i]):
                        yield Found(keys[i], row)


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
    column, keys, position = spread.column, spread.keys, spread.position

    def chosen(key: str, row: Any) -> bool:
        values = column.get(row)
        if not values:
            return True
        component = key.split("\x00", position + 1)[position]
        return component == min([text for value in values if (text := column.component(value)) in keys])

    return chosen


def _placed(rows: Iterator[Found], order: Order) -> Iterator[Placed]:
    components = order.components
    for _, row in rows:
        yield Placed(Position(0, components(row)), row)


def _beyond(
    rows: Iterator[Placed], key: Callable[[tuple[str, ...]], Any], last: Any, *, reverse: bool
) -> Iterator[Placed]:
    """The rows that stand after the last one given."""
    for placed in rows:
        here = key(placed.position.texts)
        if here < last if reverse else last < here:
            yield placed


def _ties_sorted(rows: Iterator[Placed], order: Order) -> Iterator[Placed]:
    """Rows that come in the order of the named columns, put in order among equals."""
    named = order.named
    for _, equals in groupby(rows, key=lambda placed: placed.position.texts[:named]):
        yield from sorted(equals, key=lambda placed: placed.position.texts, reverse=order.reverse)


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


def _bound(branch: Branch, order: Order, after: tuple[str, ...]) -> str:
    """The sort key, from the order's first column on, as far as the last row's place in the order says it."""
    known = {column.name: text for column, text in zip(order.columns, after, strict=True)}
    text = ""
    wanted = [column.name for column in order.columns if column.name not in branch.constants]
    if branch.mode is Mode.GROUPED:
        wanted = wanted[: len(order.without(branch.constants)[0])]
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
