"""One turn of the scheduled verification: which tables, from where, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aws_lambda_powertools.metrics import MetricUnit

from bucketdex.engine import Engine, Round, Rounds, Verified
from bucketdex.errors import TableChangedError, TableNotFoundError
from functions.observability import logger, table_metrics

SAMPLE_KEYS = 10  # of those that differ, in the log
METRICS = {"Missing": "missing", "Stale": "stale", "Extra": "extra", "Wrong": "wrong", "Verified": "objects"}


class Turn:
    """Verifies tables while there is time.

    sample: the share of objects to read to their end; 0 for none. repair: applies the keys that differ.
    differences: the keys that differed and weren't repaired, of all tables so far.
    """

    def __init__(
        self, engine: Engine, rounds: Rounds, *, sample: float, repair: bool, in_time: Callable[[], bool]
    ) -> None:
        self._engine, self._rounds, self._in_time = engine, rounds, in_time
        self._sample, self._repair = sample, repair
        self.differences = 0

    def verify(self, tables: Iterable[str]) -> None:
        """Goes on with each table where its last turn stopped, the one that has waited longest first.

        A failing table keeps no other from its turn; the first error follows them.
        """
        first: Exception | None = None
        for before in self._rounds.in_turn(tables):
            if not self._in_time():
                break
            try:
                self._one(before)
            except TableNotFoundError:  # dropped; its garbage is the compactor's
                continue
            except TableChangedError:
                logger.info("defined anew meanwhile: the next run goes on", table=before.table)
            except Exception as error:
                logger.exception("verification failed", table=before.table)
                first = first or error
        if first is not None:
            raise first

    def _one(self, before: Round) -> None:
        found = self._engine.verify(
            before.table,
            deep=self._sample > 0,
            sample=self._sample or 1.0,
            views=False,  # of a view of any size that takes longer than a function has
            repair=self._repair,
            start_after=before.last_key,
            in_time=self._in_time,
        )
        self.differences += found.found - found.repaired
        after = self._rounds.save(before, found)
        _report(before, after, found)


def _report(before: Round, after: Round, found: Verified) -> None:
    """Metrics by table, and a log line with some keys; never a value of a record."""
    with table_metrics(before.table) as metrics:
        for name, count in METRICS.items():
            metrics.add_metric(name, MetricUnit.Count, getattr(found, count))
    level = logger.info if found.is_good else logger.warning
    level(
        "verified",
        table=before.table,
        start_after=before.last_key,
        last_key=after.last_key,
        round={name: getattr(after, name) for name in ("started_at", "finished_at", "objects")},
        differences={item.key: item.kind for item in found.differences[:SAMPLE_KEYS]},
        repaired=found.repaired,
        changing=found.changing,
        failed={key: f"{type(error).__name__}: {error}" for key, error in list(found.failed.items())[:SAMPLE_KEYS]},
        failures=found.failures,
    )
