"""The index that would serve a query: columns bound to a value, then the order's, else a range."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from bucketdex.query.access import Constraints
from bucketdex.query.columns import AT, KEY
from bucketdex.query.order import Order


def index_line(constraints: Constraints, order: Order | None, taken: Collection[str]) -> str | None:
    """A line for [indexes] of a table's definition, with a name not taken yet; None when no index would serve."""
    points: list[str] = []
    ranges: list[str] = []
    multi = False
    for column in constraints.columns.values():
        found = constraints.of(column)
        if found is None or column.name in (KEY, AT) or (multi and column.multi):
            continue
        multi = multi or column.multi
        (points if found.keys.all_points else ranges).append(column.name)
    named = order.columns[: order.named] if order is not None and order.uniform else ()
    ordered = [column.name for column in named if column.name not in (KEY, AT) and column.name not in points]
    # A range may come first only where the order starts with it: past it the view's order is lost.
    if ranges and not points and (not ordered or ordered[0] not in ranges):
        ordered = [ranges[0]]
    fields = [*points, *(ordered or ranges[:1])]
    return line_of(fields, taken) if fields else None


def line_of(fields: Sequence[str], taken: Collection[str]) -> str:
    """The line of an index on these fields."""
    stem = "by_" + (re.sub(r"[^a-z0-9_]+", "_", fields[0].lower()).strip("_") or "field")
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    return f"{name} = {json.dumps(list(fields), ensure_ascii=False)}"
