"""What is done to tables beside their commits: folding what is over its bound, collecting garbage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from bucketdex.engine import Engine
from bucketdex.errors import CommitGaveUpError, TableNotFoundError
from functions.observability import logger

T = TypeVar("T")


def compact(engine: Engine, table: str, view: str, *, time_left: Callable[[], bool]) -> int:
    """Does what is due for one view, in steps, until time runs out; how many steps landed. None if none is due, or the
    table was a successor and is gone.

    Nor if too many commits came first: the next of them asks again, within seconds, while a message that fails hides
    its group for as long as the queue's visibility.
    """
    try:
        return engine.compact(table, view, mode="tiered", in_time=time_left)
    except TableNotFoundError:
        return 0
    except CommitGaveUpError:
        logger.info("too many commits came first", table=table, view=view)
        return 0


def maintain(engine: Engine, table: str, *, time_left: Callable[[], bool]) -> int:
    """Deletes what is past its grace period and compacts the views over their bounds, of the table and of its
    successor; how many steps landed.

    Deleting comes first: it takes seconds, and no view's size or failure keeps it from its turn. No failing view keeps
    another from its own; the first error follows them. Stops before the next view when time runs out: the schedule
    comes round again.
    """
    manifests = engine.manifests(table)
    due = [(manifest.table, view) for manifest in manifests for view in engine.debt(manifest)]

    def collect_or_compact(work: tuple[str, str | None]) -> int:
        name, view = work
        if view is not None:
            return compact(engine, name, view, time_left=time_left) if time_left() else 0
        with suppress(TableNotFoundError):  # of a successor
            engine.collect(name)
        return 0

    return for_each([*((manifest.table, None) for manifest in manifests), *due], collect_or_compact)


def for_each(items: Iterable[T], work: Callable[[T], int]) -> int:
    """The sum of the work on all tables, or views. What fails keeps no other from its turn; the first error follows
    them.
    """
    total = 0
    first: Exception | None = None
    for item in items:
        try:
            total += work(item)
        except Exception as error:
            logger.exception("maintenance failed", of=item)
            first = first or error
    if first is not None:
        raise first
    return total
