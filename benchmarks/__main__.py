"""`python -m benchmarks`: prints the quick figures beside their goals. Changes with which figures there are.

`python -m benchmarks writers`, `debt`, `tiers` and `size` are the longer ones of docs/scale.md.

Requests, bytes and round trips are exact; rates are processor time of one core. It ends with 0 whether or not goals are
met: a rate says as much about the machine as about the code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import counts, debt, size, speed, tiers, writers
from benchmarks.datasets import ORDERS, orders, sample
from benchmarks.figures import HEAD, Figure
from benchmarks.workbench import Workbench

ROWS = 1_000_000
LOOKUPS = 200
REQUESTS_MAX = 2  # of a warm look-up after compaction, beside the 304
SMALL_OBJECTS = 2_000
PLANES = ("N14228", "N725MQ", "N723MQ", "N722MQ", "N711MQ", "N258JB", "N298JB", "N353JB", "N351JB", "N328AA")


def figures(rows: int, *, with_flights: bool) -> Iterator[Figure]:
    """All figures, as they come."""
    yield from speed.import_times()
    bench, objects = Workbench(ORDERS), orders(rows)
    bench.upload(objects)
    asked = sample(objects, LOOKUPS)
    yield from speed.indexing(bench, objects)
    del objects
    yield from _order_lookups(bench, asked, "as indexed", None)
    yield from speed.compaction(bench, "by_customer")
    yield from _order_lookups(bench, asked, "compacted", REQUESTS_MAX)
    yield from counts.objects_to_index(orders(SMALL_OBJECTS, 1), Workbench(ORDERS))
    yield from tiers.figures()
    yield from size.figures()
    yield from writers.figures()
    if with_flights:
        del bench
        for suffix in ("ndjson", "csv"):
            bench, figure = speed.flights_indexing(suffix)
            yield figure
        yield from counts.lookups(bench, "by_tail", "tailnum", PLANES, "as indexed")
        bench.compact()
        yield from counts.lookups(bench, "by_tail", "tailnum", PLANES, "compacted")


def _order_lookups(
    bench: Workbench, asked: list[dict[str, Any]], state: str, requests_max: int | None
) -> Iterator[Figure]:
    ids = [order["id"] for order in asked]
    customers = [order["customer"]["id"] for order in asked]
    yield from counts.lookups(bench, "by_id", "id", ids, state, requests_max=requests_max)
    yield from counts.lookups(bench, "by_customer", "customer", customers, state, requests_max=requests_max)


def main() -> None:
    """The command."""
    longer = {module.__name__.rpartition(".")[2]: module.main for module in (writers, debt, tiers, size)}
    if sys.argv[1:2] and sys.argv[1] in longer:
        longer[sys.argv[1]](sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"orders to generate (default {ROWS:,})")
    parser.add_argument("--no-flights", action="store_true", help="leave the flights out")
    options = parser.parse_args()
    if options.rows < 1000:
        parser.error("--rows must be 1000 or more")
    print(HEAD)
    for figure in figures(options.rows, with_flights=not options.no_flights):
        print(figure, flush=True)


if __name__ == "__main__":
    main()
