"""Rates by processor time, which other work on the machine sways less than the clock. Changes with what is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.datasets import Objects, flights, flights_definition
from benchmarks.figures import Figure
from benchmarks.peak import compact_elsewhere
from benchmarks.workbench import Timed, Workbench

INDEX_ROWS_S = 120_000
MERGE_ROWS_S = 300_000
PEAK_MIB_MAX = 512
IMPORT_MS_MAX = 100
IMPORTS = 7
LANCEDB_S_PER_MILLION = 2.7  # measured elsewhere: parsing and four indexes, LanceDB 0.40.0, two cores
RUNS = 10  # that indexing leaves for compaction

STATEMENTS = {
    "import bucketdex": "import bucketdex",
    "import of Database, TableDefinition, col": "from bucketdex import Database, TableDefinition, col",
}
TIMED_IMPORT = """\
import sys, time
began = time.process_time()
{statement}
print((time.process_time() - began) * 1000)
assert "boto3" not in sys.modules
"""
DUCKDB_COLUMNS = (
    "{id: 'VARCHAR', customer: 'STRUCT(id VARCHAR)', country: 'VARCHAR', "
    "amount: 'DECIMAL(38, 2)', created_at: 'TIMESTAMPTZ'}"
)


def indexing(bench: Workbench, objects: Objects) -> Iterator[Figure]:
    """Indexes uploaded orders: parsing, three indexes, a summary, writing to memory."""
    timed = bench.index_all(objects, -(-len(objects) // RUNS))
    yield _rate(f"indexing {timed.rows:,} orders, NDJSON", timed, INDEX_ROWS_S)
    seconds = timed.cpu_s * 1e6 / timed.rows
    name = "the same for 1,000,000, beside LanceDB's 2.7 s on two cores"
    yield Figure(name, "", f"{seconds:.1f} s of one core, {seconds / LANCEDB_S_PER_MILLION:.1f} times that")
    parsed, built = duckdb_times(objects)
    yield Figure("the same beside DuckDB's read_json on one thread", "", f"{timed.cpu_s / parsed:.1f} times that")
    yield Figure("the same beside that and three sorted tables of it", "", f"{timed.cpu_s / built:.1f} times that")


def flights_indexing(suffix: str) -> tuple[Workbench, Figure]:
    """Indexes the flights: ten fields, three indexes, a summary of seven measures with two hidden ones beside it."""
    bench, objects = Workbench(flights_definition(suffix)), flights(suffix)
    bench.upload(objects)
    timed = bench.index_all(objects, 100)
    return bench, _rate(f"indexing {timed.rows:,} flights, {suffix.upper()}, as deployed", timed, None)


def compaction(bench: Workbench, view: str) -> Iterator[Figure]:
    """The peak and rate of one view's merge in a process of its own; then compacts all views here."""
    peak = compact_elsewhere(bench, view)
    mib = peak.peak_bytes / 2**20
    seen = f"{mib:.0f} MiB, of which {peak.held_bytes / 2**20:.0f} are the files"
    yield Figure(
        f"peak memory of compacting {view}, {peak.rows:,} rows", f"{PEAK_MIB_MAX} MiB", seen, mib < PEAK_MIB_MAX
    )
    yield _rate(f"compaction of {view}, {bench.runs(view)} runs", Timed(peak.rows, peak.cpu_s), MERGE_ROWS_S)
    timed = bench.compact()
    yield _rate(f"compaction of all views, {timed.rows:,} rows", timed, MERGE_ROWS_S)


def import_times() -> Iterator[Figure]:
    """Processor time of imports in new processes with their bytecode cached, the best of several."""
    with TemporaryDirectory() as cache:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        for name, statement in STATEMENTS.items():
            command = [sys.executable, "-c", TIMED_IMPORT.format(statement=statement)]
            best = min(_milliseconds(command, environment) for _ in range(IMPORTS))
            yield Figure(name, f"{IMPORT_MS_MAX} ms", f"{best:.0f} ms", best < IMPORT_MS_MAX)


def _milliseconds(command: list[str], environment: dict[str, str]) -> float:
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def duckdb_times(objects: Objects) -> tuple[float, float]:
    """Processor seconds of DuckDB on one thread for the same file: parsing it into a table, and that with a copy
    sorted for each of the three indexes.
    """
    import duckdb

    with TemporaryDirectory() as folder:
        file = Path(folder) / "orders.ndjson"
        file.write_bytes(b"".join(objects.values()))
        connection = duckdb.connect(config={"threads": 1})
        began = time.process_time()
        connection.execute(
            f"CREATE TABLE orders AS SELECT * FROM read_json({json.dumps(str(file))[1:-1]!r}, "
            f"format='newline_delimited', columns={DUCKDB_COLUMNS})"
        )
        parsed = time.process_time() - began
        for name, order in enumerate(("id", "customer.id, created_at", "country, created_at")):
            connection.execute(f"CREATE TABLE sorted{name} AS SELECT * FROM orders ORDER BY {order}")
        return parsed, time.process_time() - began


def _rate(name: str, timed: Timed, goal: int | None) -> Figure:
    seen = f"{timed.rate:,.0f} rows/s"
    if goal is None:
        return Figure(name, "", seen)
    return Figure(name, f"{goal:,} rows/s", seen, timed.rate >= goal)
