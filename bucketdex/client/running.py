"""Running a query: from what was asked for to a plan, a reader and a stream of rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from bucketdex.client.context import Context
from bucketdex.errors import SnapshotExpiredError
from bucketdex.query.condition import bind
from bucketdex.query.cursor import Found, Position, first_requests, run
from bucketdex.query.expression import Expression, Ordering
from bucketdex.query.order import bind_order
from bucketdex.query.plan import Plan
from bucketdex.query.planner import Request, plan
from bucketdex.query.project import projector
from bucketdex.query.reader import Reader
from bucketdex.storage import GetRequest

Prepare = Callable[[Reader], tuple[Plan, list[GetRequest]]]


@dataclass(frozen=True)
class Parts:
    """What was asked for so far."""

    where: Expression | None = None
    order: tuple[Ordering, ...] = ()
    limit: int | None = None
    columns: tuple[str, ...] | None = None
    scan: bool = False


def preparer(parts: Parts, after: Position | None = None, *, predicts: bool = True) -> Prepare:
    """What plans these parts over a reader's table, and tells what running the plan will read first."""

    def prepare(reader: Reader) -> tuple[Plan, list[GetRequest]]:
        known = reader.known
        condition, order = bind(parts.where, known.columns), bind_order(parts.order, known.columns)
        projector(known.definition, known.columns, parts.columns)
        made = plan(Request(condition, order, parts.limit, parts.scan), known.layouts, known.building)
        return made, first_requests(made, reader, after) if predicts and parts.limit != 0 else []

    return prepare


def stream(
    context: Context,
    table: str,
    parts: Parts,
    opened: Callable[[Reader], None],
    needs: Collection[str] | None = None,
) -> Iterator[tuple[Reader, Found]]:
    """The rows of one snapshot; `opened` is told the reader. Where a file has vanished before the first row, starts
    again once.
    """
    for again in (True, False):
        yielded = False
        try:
            reader, made = context.session.open(table, preparer(parts))
            opened(reader)
            for found in run(made, reader, needs=needs):
                yielded = True
                yield reader, found
            return
        except SnapshotExpiredError:
            if yielded or not again:
                raise
            context.session.forget(table)
