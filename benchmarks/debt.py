"""Debt of compaction under steady arrivals, on the virtual clock: `python -m benchmarks debt`. Changes with what is
sampled.

The engine is the real one and so are the numbers that it works on; time is modelled (see virtual.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.deployed import Deployment
from bucketdex import Database
from bucketdex.storage import CountingStore
from bucketdex.storage.entries import encode_manifest

LOOKUPS = 5


class Sample(NamedTuple):
    """The table at one time. `amplification`: rows that compaction wrote for each row committed and view; `lag_s`: from
    an object's arrival to its commit, the median and the worst since the sample before.
    """

    hours: float
    rows: int
    waiting: int
    lag_s: float
    lag_s_max: float
    deltas: int
    delta_files: int
    runs: int
    manifest_bytes: int
    lookup_requests: float
    amplification: float
    gave_up: int


HEAD = "".join(
    name.rjust(width)
    for name, width in (
        ("hours", 7), ("rows", 11), ("waiting", 9), ("lag s", 8), ("worst", 8), ("deltas", 8), ("in files", 9),
        ("runs a view", 12), ("manifest", 10), ("lookup", 8), ("rewritten", 10), ("gave up", 8),
    )
)  # fmt: skip


def line(sample: Sample) -> str:
    """One line of the table."""
    return (
        f"{sample.hours:>7.2f}{sample.rows:>11,}{sample.waiting:>9,}{sample.lag_s:>8.1f}{sample.lag_s_max:>8.1f}"
        f"{sample.deltas:>8}{sample.delta_files:>9}{sample.runs:>12}{sample.manifest_bytes / 1024:>6,.0f} KiB"
        f"{sample.lookup_requests:>8.1f}{sample.amplification:>10.2f}{sample.gave_up:>8}"
    )


class Watch:
    """Samples a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._rows_of: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._lags = 0

    def sample(self) -> Sample:
        """What it is like now. At least one an hour, or files are gone before their rows are counted."""
        it = self._deployment
        manifest = it.manifest
        runs = [(name, run) for name, state in manifest.views.items() for run in state.runs]
        runs += [("", entry.run) for entry in manifest.garbage if entry.run is not None]
        self._rows_of |= {file.path: file.rows for _, run in runs for file in run.files}
        for process in (*it.compactors, it.scheduled):
            for entry in process.index.log:
                if entry.op == "put" and entry.key in self._rows_of:
                    self._written[entry.key] = self._rows_of[entry.key]
            process.index.log.clear()
        lags, self._lags = sorted(it.lags[self._lags :]) or [0.0], len(it.lags)
        return Sample(
            hours=(it.world.now - it.began) / 3600,
            rows=it.rows,
            waiting=it.waiting(),
            lag_s=median(lags),
            lag_s_max=lags[-1],
            deltas=len(manifest.deltas),
            delta_files=sum(1 for delta in manifest.deltas if not delta.inline),
            runs=max(len(state.runs) for state in manifest.views.values()),
            manifest_bytes=len(encode_manifest(manifest)),
            lookup_requests=self._lookup(),
            amplification=sum(self._written.values()) / max(1, it.rows) / ROW_VIEWS,
            gave_up=it.indexer_gave_up + it.compactor_gave_up + it.schedule_gave_up,
        )

    def _lookup(self) -> float:
        """Requests of a look-up by id from a client that knows nothing, on the average, its manifest's among them."""
        it = self._deployment
        total = 0
        for number in range(LOOKUPS):
            store = CountingStore(it.index)
            row = Database(store).table(it.table).where(id=f"o{it.rows * number // LOOKUPS}").rows()
            assert len(row) <= 1
            total += store.requests["get"]
        return total / LOOKUPS


ROW_VIEWS = 5  # that hold a line for each row of one-row objects: objects, records, three indexes


def steady(rate: float, hours: float, *, rows: int = 1, samples: int = 8) -> Iterator[Sample]:
    """Samples of a table into which objects arrive at a rate for so long."""
    deployment = Deployment(rate, rows)
    watch = Watch(deployment)
    for number in range(samples):
        deployment.world.run(deployment.began + hours * 3600 * (number + 1) / samples)
        yield watch.sample()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks debt", description=__doc__)
    parser.add_argument("--rate", type=float, default=10.0, help="objects a second (default 10)")
    parser.add_argument("--rows", type=int, default=1, help="rows an object (default 1)")
    parser.add_argument("--hours", type=float, default=1.0, help="of virtual time (default 1)")
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args(arguments)
    print(f"{options.rate:g} objects of {options.rows:,} rows a second\n{HEAD}")
    began = time.monotonic()
    for sample in steady(options.rate, options.hours, rows=options.rows, samples=options.samples):
        print(line(sample), flush=True)
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
