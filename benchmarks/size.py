"""What a manifest weighs at 10^6 to 10^11 rows: `python -m benchmarks size`. Changes with what it says of files.

The manifest is built with as many file entries as such a table has, by size tiers, and then split, encoded, read and
joined by the real code. Rows and runs are numbers; bytes and seconds are measured.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from benchmarks.datasets import ORDERS
from benchmarks.figures import Figure
from benchmarks.tiers import BYTES_A_ROW, FILE_BYTES
from benchmarks.virtual import Shelf
from bucketdex.engine import Engine, Settings
from bucketdex.runtime import Runtime
from bucketdex.storage import FileEntry, LogEntry, Manifest, ManifestStore, Run, Versioned
from bucketdex.storage.paths import view_path

RUN_ROWS_MIN = 8_000  # of a fold
TOUCHED = 100 * 8
POWERS = range(6, 12)


class Weighed(NamedTuple):
    """A manifest at so many rows. `swap_s`: of encoding and splitting, in each swap. `open_s`: of reading all of it."""

    rows: int
    files: int
    manifest_bytes: int
    descriptors: int
    descriptor_bytes: int
    largest_bytes: int
    swap_s: float
    open_s: float


def run_rows(rows: int) -> list[int]:
    """The runs of a view by size tiers, three a class, as it is right before a merge."""
    settings, out = Settings(), []
    while rows > RUN_ROWS_MIN:
        each = rows // settings.tier_factor
        out += [each] * (settings.tier_runs - 1)
        rows -= each * (settings.tier_runs - 1)
    return [*out, rows]


def _key(number: int, draw: random.Random) -> str:
    """A sort key of the index by customer and time."""
    at = f"2026-01-{draw.randrange(1, 29):02}T{draw.randrange(24):02}:04:05.000000Z"
    return f"=c{number:08}\x00{at}\x00orders/{draw.getrandbits(48):012x}\x00{draw.getrandbits(24):012x}0000006e\x00"


def _run(table: str, view_id: str, rows: int, token: str) -> Run:
    draw = random.Random(token)
    count = -(-rows * BYTES_A_ROW // FILE_BYTES)
    files = [
        FileEntry(
            path=view_path(table, view_id, 123_456_789, f"{draw.getrandbits(64):016x}"),
            first=_key(2 * number, draw), last=_key(2 * number + 1, draw),
            rows=rows // count, weight=rows // count, bytes=min(FILE_BYTES, rows * BYTES_A_ROW), footer=60_000,
            filter=(256, 4096),
        )
        for number in range(count)
    ]  # fmt: skip
    return Run(id=token, files=files, rows=rows, weight=rows, bytes=rows * BYTES_A_ROW, added=123_456_789)


def _grown(manifest: Manifest, rows: int) -> Manifest:
    views = {}
    for number, (name, state) in enumerate(manifest.views.items()):
        has_a_line_a_row = state.kind in ("records", "index") or name == "objects"
        sizes = run_rows(rows) if has_a_line_a_row else run_rows(RUN_ROWS_MIN)
        runs = [_run(manifest.table, state.id, size, f"{number:08}{index:08}") for index, size in enumerate(sizes)]
        views[name] = msgspec.structs.replace(state, runs=runs)
    return msgspec.structs.replace(manifest, views=views)


def _next(base: Manifest, number: int) -> Manifest:
    generation = base.generation + 1
    entry = LogEntry(id=f"{number:016x}", generation=generation, kind="commit", touched=bytes(TOUCHED), objects=100)
    return msgspec.structs.replace(base, generation=generation, commit=entry.id, log=[*base.log[-30:], entry])


def weigh(rows: int) -> Weighed:
    """The manifest of a table of so many objects of one row: objects, records, three indexes and a summary."""
    shelf = Shelf("memory://index")
    Engine(shelf, shelf).create_table(ORDERS)
    store = ManifestStore(shelf, Runtime())
    base = store.load(ORDERS.name)
    swapped: Versioned = store.swap(base, _next(_grown(base.manifest, rows), 1))
    began = time.process_time()
    swapped = store.swap(swapped, _next(swapped.manifest, 2))
    swap_s = time.process_time() - began
    sizes = [shelf.objects[key].size for key in swapped.manifest.descriptors]
    began = time.process_time()
    opened = ManifestStore(shelf, Runtime()).load(ORDERS.name)
    open_s = time.process_time() - began
    files = sum(len(run.files) for view in opened.manifest.views.values() for run in view.runs)
    path = next(key for key in shelf.objects if key.endswith("/manifest.json"))
    manifest_bytes = shelf.objects[path].size
    return Weighed(rows, files, manifest_bytes, len(sizes), sum(sizes), max(sizes, default=0), swap_s, open_s)


def figures() -> Iterator[Figure]:
    """Two of them, in a second."""
    for power in (6, 9):
        it = weigh(10**power)
        held = it.manifest_bytes + it.descriptor_bytes
        seen = f"{held / 1024:,.0f} KiB in {1 + it.descriptors} objects; a swap {it.swap_s * 1000:.0f} ms"
        yield Figure(f"manifest of 10^{power} rows", "", seen)


def lines() -> Iterator[str]:
    """The table, line by line."""
    heads = "rows", "files", "manifest", "descriptors", "their bytes", "the largest", "swap", "open"
    yield "".join(head.rjust(13) for head in heads)
    for power in POWERS:
        it = weigh(10**power)
        cells = (
            f"10^{power}", f"{it.files:,}", f"{it.manifest_bytes / 1024:,.0f} KiB", f"{it.descriptors}",
            f"{it.descriptor_bytes / 1024:,.0f} KiB", f"{it.largest_bytes / 1024:,.0f} KiB",
            f"{it.swap_s * 1000:,.0f} ms", f"{it.open_s * 1000:,.0f} ms",
        )  # fmt: skip
        yield "".join(cell.rjust(13) for cell in cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    argparse.ArgumentParser(prog="python -m benchmarks size", description=__doc__).parse_args(arguments)
    for text in lines():
        print(text, flush=True)


if __name__ == "__main__":
    main()
