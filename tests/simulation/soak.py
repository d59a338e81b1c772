"""Plays many seeds on all cores and sums up what was exercised; stops at the first that fails and says how to play it
again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from toxics import FAULTS
from world import run_seed

PROGRESS_S = 15.0  # between two lines, where there is no terminal
CHUNK = 4


class Failure(NamedTuple):
    """Why a seed failed: the check that says so (None: no check does, an error came first), the error's last line, and
    all of it.
    """

    check: str | None
    error: str
    trace: str


class Played(NamedTuple):
    """A seed, what happened in it, and why it failed, if so."""

    seed: int
    counts: Counter[str]
    failure: Failure | None


def play(seed: int) -> Played:
    try:
        return Played(seed, run_seed(seed), None)
    except Exception as error:
        return Played(seed, Counter(), _failure(error))


def _failure(error: Exception) -> Failure:
    """A check is an assertion of the simulation: neither one of the engine's own nor one that only passes an error on."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(at.filename)
    said = path.parent == Path(__file__).parent and isinstance(error, AssertionError)
    passed_on = error.args[0] if error.args and isinstance(error.args[0], Exception) else None
    whole = traceback.TracebackException.from_exception(passed_on or error)
    whole.__notes__ = None  # type: ignore[attr-defined]  # the last line is the error's own
    line = list(whole.format_exception_only())[-1].strip().splitlines()[-1]
    if not error.args:
        line = f"{line}: {at.line}"
    return Failure(f"{path.stem}.{at.name}" if said and passed_on is None else None, line, traceback.format_exc())


class Progress:
    """A line on a terminal, written over and over; elsewhere one from time to time."""

    def __init__(self, seeds: int) -> None:
        self._seeds, self._began, self._told = seeds, time.monotonic(), 0.0
        self._terminal = sys.stderr.isatty()

    def tell(self, done: int) -> None:
        now = time.monotonic()
        if now - self._told < (0.2 if self._terminal else PROGRESS_S) and done < self._seeds:
            return
        self._told = now
        rate = done / (now - self._began)
        left_s = int((self._seeds - done) / rate)
        line = f"{done:,} of {self._seeds:,} seeds, {rate:.1f} a second, {left_s // 60}:{left_s % 60:02} left"
        end = "\r" if self._terminal and done < self._seeds else "\n"
        print(f"{line:<60}", end=end, file=sys.stderr, flush=True)


def played(seeds: range, jobs: int) -> Iterator[Played]:
    """The seeds, in no order when there is more than one job."""
    if jobs == 1:
        yield from map(play, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(play, seeds, chunksize=CHUNK)


def summary(totals: Counter[str], seeds: int) -> str:
    """What was exercised, then every fault by kind."""
    lines = [f"{'seeds':36} {seeds:>12,}"]
    for faults in (False, True):
        lines += [
            f"{('fault: ' if faults else '') + name:36} {count:>12,}"
            for name, count in sorted(totals.items())
            if (name in FAULTS) is faults
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quiet", action="store_true", help="say nothing but the seed that fails and why, as JSON")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    totals: Counter[str] = Counter()
    progress = Progress(len(seeds))
    for done, (seed, counts, failure) in enumerate(played(seeds, min(options.jobs, len(seeds))), 1):
        if failure is not None:
            if options.quiet:
                print(json.dumps({"seed": seed, "check": failure.check, "error": failure.error}))
            else:
                print(f"\n{failure.trace}\nplay it again: python tests/simulation/soak.py --seeds 1 --first {seed}")
            raise SystemExit(1)
        totals += counts
        if not options.quiet:
            progress.tell(done)
    if not options.quiet:
        print(summary(totals, len(seeds)))


if __name__ == "__main__":
    main()
