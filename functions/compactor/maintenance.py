"""What is done to tables beside their commits: folding what is over its bound, collecting garbage."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bucketdex.engine import Engine
from functions.observability import logger


def compact(engine: Engine, table: str, view: str, *, time_left: Callable[[], bool]) -> int:
    """Does what is due for one view, in steps, until time runs out; how many steps landed. None if none is due."""
    return engine.compact(table, view, mode="tiered", in_time=time_left)


def maintain(engine: Engine, tables: Iterable[str], *, time_left: Callable[[], bool]) -> int:
    """Compacts the views over their bounds and collects the garbage of every table; how many steps landed.

    A failing table doesn't keep the others from their turn; the first error is raised at the end. Stops before the
    next view when time runs out: the schedule comes round again.
    """
    compacted = 0
    first: Exception | None = None
    for table in tables:
        try:
            for view in engine.debt(engine.load(table).manifest):
                if not time_left():
                    return compacted
                compacted += compact(engine, table, view, time_left=time_left)
            engine.collect(table)
        except Exception as error:
            logger.exception("maintenance failed", table=table)
            first = first or error
    if first is not None:
        raise first
    return compacted
