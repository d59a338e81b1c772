"""What is done to tables beside their commits: folding what is over its bound, collecting garbage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from bucketdex.engine import Engine
from bucketdex.errors import CommitGaveUpError, TableNotFoundError
from functions.observability import logger


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

    Deleting comes first: it takes seconds, and no view's size or failure keeps it from its turn. Stops before the next
    view when time runs out: the schedule comes round again.
    """
    steps = 0
    manifests = engine.manifests(table)
    for manifest in manifests:
        with suppress(TableNotFoundError):  # of a successor
            engine.collect(manifest.table)
    for manifest in manifests:
        for view in engine.debt(manifest):
            if not time_left():
                return steps
            steps += compact(engine, manifest.table, view, time_left=time_left)
    return steps


def for_each(tables: Iterable[str], work: Callable[[str], int]) -> int:
    """The sum of the work on all tables. A failing table keeps no other from its turn; the first error follows them."""
    total = 0
    first: Exception | None = None
    for table in tables:
        try:
            total += work(table)
        except Exception as error:
            logger.exception("maintenance failed", table=table)
            first = first or error
    if first is not None:
        raise first
    return total
