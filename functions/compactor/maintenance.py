"""What is done to tables beside their commits: folding what is over its bound, collecting garbage."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bucketdex.engine import Engine
from functions.observability import logger


def maintain(engine: Engine, tables: Iterable[str], *, time_left: Callable[[], bool]) -> int:
    """Compacts the views over their bounds and collects the garbage of every table; how many views were compacted.

    A failing table doesn't keep the others from their turn; the first error is raised at the end. Stops before the
    next view when time runs out: the schedule comes round again.
    """
    compacted = 0
    first: Exception | None = None
    for table in tables:
        try:
            for view in engine.debt(table):
                if not time_left():
                    return compacted
                engine.compact(table, view)
                compacted += 1
            engine.collect(table)
        except Exception as error:
            logger.exception("maintenance failed", table=table)
            first = first or error
    if first is not None:
        raise first
    return compacted
