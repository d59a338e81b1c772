"""Many indexers on one table: `python -m benchmarks writers`. Changes with what writers are put through.

Twice: real processes on a real S3 server of this machine, where cores are what runs out; and the same engine on a
virtual clock with S3's latency and a core for each, where the swap is. Both end with a check: the index holds what the
bucket holds, computed by plain Python.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing.synchronize import Barrier

from benchmarks.figures import Figure
from benchmarks.s3server import s3_server
from benchmarks.virtual import S3, DistantStore, Latency, Shelf, VirtualRuntime, World
from benchmarks.writing import Plan, Tally, Writer, check, together
from bucketdex.engine import Engine
from bucketdex.errors import CommitGaveUpError
from bucketdex.runtime import Runtime
from bucketdex.storage import open_data_store, open_index_store

WRITERS = (1, 2, 4, 8, 16)
BULK_ROWS = 100_000
BULK_WRITERS_MAX = 4  # on this machine: its cores are busy from two on
COMPACTOR_PAUSE_S = 0.25
BARRIER_S = 120.0

_barrier: Barrier  # in a writer's process: all begin at once

# Real processes on a real server.


def _begin(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _work(plan: Plan, writer: int) -> Tally:
    body = Writer(plan, open_index_store("s3://index"), open_data_store("s3://data"), Runtime())
    body.warm()
    _barrier.wait(BARRIER_S)
    return body.write(writer, time.monotonic)


def measured(plans: Sequence[Plan]) -> Iterator[tuple[Plan, Tally]]:
    """Each plan by real processes on the server that the environment leads to, with a compactor beside them; checked.
    All plans have the same number of writers.
    """
    (writers,) = {plan.writers for plan in plans}
    context = multiprocessing.get_context("spawn")
    index, data = open_index_store("s3://index"), open_data_store("s3://data")
    with ProcessPoolExecutor(writers, context, _begin, (context.Barrier(writers),)) as processes:
        for plan in plans:
            with ThreadPoolExecutor(32) as threads:
                list(threads.map(lambda key, plan=plan: data.put(key, plan.body(key)), plan.uploads()))
            engine = Engine(index, data)
            engine.create_table(plan.definition)
            working = [processes.submit(_work, plan, writer) for writer in range(writers)]
            _compact_beside(engine, plan, working)
            tally = together([each.result() for each in working])
            check(plan, index, data)
            yield plan, tally


def _compact_beside(engine: Engine, plan: Plan, working: Sequence[Future[Tally]]) -> None:
    """What the maintenance queue has a compactor do meanwhile."""
    while wait(working, timeout=COMPACTOR_PAUSE_S).not_done:
        for view in engine.debt(engine.load(plan.table).manifest):
            with suppress(CommitGaveUpError):
                engine.compact(plan.table, view, mode="tiered")


# The same on a virtual clock.


def modelled(plan: Plan, latency: Latency = S3) -> Tally:
    """The plan by processes with a core each, S3 at that latency, and a compactor a view as deployed; checked."""
    world = World(plan.writers)
    shelves = Shelf("memory://index"), Shelf("memory://data")
    for key in plan.uploads():
        shelves[1].put(key, plan.body(key))
    Engine(*shelves, VirtualRuntime(world)).create_table(plan.definition)
    tallies: list[Tally] = []

    def write(writer: int) -> None:
        runtime = VirtualRuntime(world)
        index, data = (DistantStore(shelf, world, runtime, latency) for shelf in shelves)
        body = Writer(plan, index, data, runtime)
        body.warm()
        tallies.append(body.write(writer, lambda: world.now))

    def compact(view: str) -> None:
        runtime = VirtualRuntime(world)
        index, data = (DistantStore(shelf, world, runtime, latency) for shelf in shelves)
        engine = Engine(index, data, runtime)
        while len(tallies) < plan.writers:
            runtime.sleep(COMPACTOR_PAUSE_S)
            if view in engine.debt(engine.load(plan.table).manifest):
                with suppress(CommitGaveUpError):
                    engine.compact(plan.table, view, mode="tiered")

    for writer in range(plan.writers):
        world.spawn(lambda writer=writer: write(writer), world.random.random())
    for view in Engine(*shelves).load(plan.table).manifest.views:
        world.spawn(lambda view=view: compact(view))
    world.run()
    check(plan, *shelves)
    return together(tallies)


COLUMNS = (
    "objects/s", "rows/s", "commits/s", "PUTs/commit", "lost", "redone", "gave up", "GETs/object", "PUTs/object",
)  # fmt: skip
WIDTH = 13
HEAD = f"{'mode, batch':<18}{'writers':>8}" + "".join(head.rjust(WIDTH) for head in COLUMNS)


def line(plan: Plan, tally: Tally) -> str:
    """One line of the table."""
    commits_s, objects_s, rows_s = tally.rates()
    cells = [
        *(f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" for rate in (objects_s, rows_s, commits_s)),
        f"{tally.swaps / len(tally.commits):.2f}",
        f"{tally.lost}", f"{tally.redone}", f"{tally.gave_up}",
        f"{tally.gets / tally.objects:.2f}", f"{tally.puts / tally.objects:.3f}",
    ]  # fmt: skip
    return f"{f'{plan.mode}, {plan.size:,}':<18}{plan.writers:>8}" + "".join(cell.rjust(WIDTH) for cell in cells)


def figures() -> Iterator[Figure]:
    """Two of the modelled ones, in some seconds."""
    for writers in (1, 8):
        plan = Plan("apart", 100, 8, writers)
        tally = modelled(plan)
        seen = f"{tally.rates().objects:,.0f} objects/s, {tally.swaps / len(tally.commits):.1f} manifest PUTs a commit"
        yield Figure(f"indexers on a virtual clock: {writers}, 100 objects a commit", "", seen)


def plans(writers: int, longer: int = 1) -> list[Plan]:
    """What is shown for a number of writers; more batches of small objects where they cost nothing."""
    return [
        Plan("apart", 10, 20 * longer, writers), Plan("apart", 100, 8 * longer, writers),
        Plan("hot", 10, 20 * longer, writers), Plan("hot", 100, 4 * longer, writers),
        Plan("bulk", BULK_ROWS, 2, writers),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks writers", description=__doc__)
    parser.add_argument("--only", choices=("measured", "modelled"), help="one of the two")
    options = parser.parse_args(arguments)
    if options.only != "modelled":
        print("measured: real processes, SeaweedFS, this machine's cores\n" + HEAD)
        with s3_server():
            for writers in WRITERS:
                small = [plan for plan in plans(writers) if plan.mode != "bulk" or writers <= BULK_WRITERS_MAX]
                for plan, tally in measured(small):
                    print(line(plan, tally), flush=True)
    if options.only != "measured":
        print("modelled: a core a writer; GETs of 15-30 ms, PUTs of 30-60 ms\n" + HEAD)
        for writers in WRITERS:
            for plan in plans(writers, longer=2):
                print(line(plan, modelled(plan)), flush=True)


if __name__ == "__main__":
    main()
