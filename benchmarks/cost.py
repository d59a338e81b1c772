"""What Bucketdex costs: public prices times counted requests.

Requests, bytes and processor time are counted on memory stores, with the real engine and client. A request's time in S3
and how Lambda polls a queue are assumptions, named below. `python benchmarks/cost.py README.md` writes the table there.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from obstore.store import MemoryStore

from bucketdex import Database, Table
from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event
from bucketdex.storage import CountingStore, open_data_store, open_index_store

# Prices in dollars, us-east-1, without free tiers.
PUT = 0.005 / 1_000
GET = 0.0004 / 1_000
STORED_GB_MONTH = 0.023
SNS_PUBLISH = 0.50 / 1e6  # deliveries to SQS are free
SQS_REQUEST = 0.40 / 1e6
SQS_FIFO_REQUEST = 0.50 / 1e6
LAMBDA_GB_SECOND = 0.0000133334  # arm64
LAMBDA_REQUEST = 0.20 / 1e6
LOG_GB = 0.50
METRIC_MONTH = 0.30  # a custom metric, for the hours in which it is reported

# Assumptions.
S3_REQUEST_S = 0.025
S3_REQUEST_CPU_S = 0.00014  # measured against a local S3 server
LOG_BYTES_AN_INVOCATION = 4_000
CONCURRENT_GETS = 32
BATCH = 100  # events a function is given at once when uploads are steady
MESSAGES_A_RECEIVE = 10
POLLS_A_MONTH = 5 * 3 * 60 * 24 * 30  # five pollers a queue, 20 s each
LAMBDA_GB = 1769 / 1024
SCHEDULED_A_MONTH = 4 * 24 * 30
SCHEDULED_S = 0.3
BACKFILLER_GB = 0.5
METRICS_WHEN_IDLE = 2
METRICS_WHEN_BUSY = 12

OBJECTS = 20_000
LOOKUPS = 300
MILLION = 1_000_000
TABLES = Path(__file__).parents[1] / "tables"
MARKS = "<!-- cost -->", "<!-- /cost -->"


class Counted(NamedTuple):
    """What was counted for some work."""

    gets: int
    puts: int
    rounds: int
    cpu_s: float
    bytes_in: int = 0

    def dollars(self) -> float:
        """Requests of S3 alone."""
        return self.gets * GET + self.puts * PUT


MANIFEST = Counted(gets=1, puts=0, rounds=1, cpu_s=0.0)  # which opening a table reads


class Measured(NamedTuple):
    """All that the prices are applied to."""

    indexing: Counted
    compaction: Counted
    stored_bytes: int
    warm: Counted
    cold: Counted


def measure() -> Measured:
    """Index generated orders, one an object, with compaction as a deployment does it, and look some up."""
    memory = MemoryStore()
    index, data = CountingStore(open_index_store(memory)), CountingStore(open_data_store(MemoryStore()))
    definition = TableDefinition.load(TABLES / "orders.toml")
    engine = Engine(index, data)
    engine.create_table(definition)
    bodies = dict(orders())
    for key, body in bodies.items():
        data.put(key, body)
    indexing = compaction = Counted(0, 0, 0, 0.0)
    keys = list(bodies)
    for start in range(0, len(keys), BATCH):
        events = [Event(key, "created", f"{start:016X}") for key in keys[start : start + BATCH]]
        indexing = _sum(indexing, _counted(partial(engine.apply, "orders", events), index, data))
        for view in engine.debt(engine.load("orders").manifest):
            work = _counted(partial(engine.compact, "orders", view, mode="tiered"), index)
            compaction = _sum(compaction, work)
    warm, cold = lookups(memory)
    views = engine.load("orders").manifest.views.values()
    return Measured(indexing, compaction, sum(run.bytes for view in views for run in view.runs), warm, cold)


def orders() -> Iterator[tuple[str, bytes]]:
    """Key and body of each object: the same in every run."""
    draw = random.Random(1)
    for number in range(OBJECTS):
        order = {
            "id": f"{number:08}",
            "customer": {"id": f"C{draw.randrange(OBJECTS // 5):06}"},
            "country": draw.choice(("DE", "FR", "IT", "JP", "US")),
            "amount": f"{draw.randrange(100, 100_000) / 100:.2f}",
            "tags": draw.sample(("gift", "express", "return", "first"), draw.randrange(3)),
            "created_at": f"2026-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}T{draw.randrange(24):02}:00:00Z",
            "email": f"{draw.getrandbits(40):x}@example.com",
        }
        yield f"orders/{number % 97:02}/{number:08}.ndjson", json.dumps(order).encode()


def lookups(memory: MemoryStore) -> tuple[Counted, Counted]:
    """Requests of a lookup by customer: by a client that has looked for another one before, and by one that hasn't."""
    draw = random.Random(2)
    customers = [f"C{draw.randrange(OBJECTS // 5):06}" for _ in range(LOOKUPS)]
    warm = cold = Counted(0, 0, 0, 0.0)
    for number, customer in enumerate(customers):
        table = Database(memory).table("orders")
        cold = _sum(cold, MANIFEST)
        cold = _sum(cold, _asked(table, customers[number - 1]))
        warm = _sum(warm, _asked(table, customer))
    return warm, cold


def _asked(table: Table, customer: str) -> Counted:
    query = table.where(customer=customer)
    query.rows()
    cost = query.cost
    return Counted(cost.requests, 0, cost.rounds, 0.0, cost.bytes)


def _counted(work: Callable[[], object], *stores: CountingStore) -> Counted:
    for store in stores:
        store.reset()
    began = time.process_time()
    work()
    spent = time.process_time() - began
    requests: Counter[str] = sum((store.requests for store in stores), start=Counter())
    rounds = sum(store.rounds for store in stores)
    return Counted(requests["get"], requests["put"] + requests["list"], rounds, spent)


def _sum(a: Counted, b: Counted) -> Counted:
    return Counted(a.gets + b.gets, a.puts + b.puts, a.rounds + b.rounds, a.cpu_s + b.cpu_s, a.bytes_in + b.bytes_in)


def per_million_objects(measured: Measured) -> dict[str, float]:
    """Dollars for a million objects of one record, by what they are paid for."""
    scale = MILLION / OBJECTS
    indexing, compaction = measured.indexing, measured.compaction
    batches = MILLION / BATCH
    waiting_s = (BATCH / CONCURRENT_GETS + 3) * S3_REQUEST_S * batches + compaction.rounds * scale * S3_REQUEST_S
    requests = indexing.gets + indexing.puts + compaction.gets + compaction.puts
    busy_s = waiting_s + (indexing.cpu_s + compaction.cpu_s + requests * S3_REQUEST_CPU_S) * scale
    logs = batches * LOG_BYTES_AN_INVOCATION / 1e9 * LOG_GB
    messages = MILLION * (1 + 2 / MESSAGES_A_RECEIVE)  # sent by SNS one by one; received and deleted by tens
    return {
        "S3 requests of indexing": indexing.dollars() * scale,
        "S3 requests of compaction": compaction.dollars() * scale,
        "SNS and SQS": MILLION * SNS_PUBLISH + messages * SQS_REQUEST,
        "Lambda and its logs": busy_s * LAMBDA_GB * LAMBDA_GB_SECOND + batches * LAMBDA_REQUEST + logs,
    }


def idle_month(measured: Measured) -> dict[str, float]:
    """Dollars of a month in which nothing is uploaded or asked, with a million objects indexed."""
    compactor = SCHEDULED_A_MONTH * (SCHEDULED_S * LAMBDA_GB * LAMBDA_GB_SECOND + LAMBDA_REQUEST + 3 * GET)
    backfiller = SCHEDULED_A_MONTH * (SCHEDULED_S * BACKFILLER_GB * LAMBDA_GB_SECOND + LAMBDA_REQUEST + PUT)  # one LIST
    return {
        "Lambda polling three queues": POLLS_A_MONTH * (2 * SQS_REQUEST + SQS_FIFO_REQUEST),
        "scheduled compactor and backfiller": compactor + backfiller,
        "its metrics": METRICS_WHEN_IDLE * METRIC_MONTH,
        "storage of the index": measured.stored_bytes * (MILLION / OBJECTS) / 1e9 * STORED_GB_MONTH,
    }


def report(measured: Measured) -> str:
    """The table of the README."""
    objects, idle = per_million_objects(measured), idle_month(measured)
    warm, cold = measured.warm, measured.cold
    rows = [
        ("a million objects of one record", sum(objects.values()), _listed(objects)),
        ("a million lookups, warm", warm.dollars() / LOOKUPS * MILLION, _requests(warm)),
        ("a million lookups, cold", cold.dollars() / LOOKUPS * MILLION, _requests(cold)),
        ("a month of nothing, a million objects indexed", sum(idle.values()), _listed(idle)),
        (
            "metrics, in a month of steady uploads",
            METRICS_WHEN_BUSY * METRIC_MONTH,
            "by the hour: less where uploads come in bursts",
        ),
    ]
    lines = [f"| {what} | ${dollars:.2f} | {how} |" for what, dollars, how in rows]
    return "\n".join(["| | | of which |", "|---|---|---|", *lines])


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} ${dollars:.2f}" for name, dollars in parts.items())


def _requests(counted: Counted) -> str:
    each, kilobytes = counted.gets / LOOKUPS, counted.bytes_in / LOOKUPS / 1024
    return f"{each:.1f} GETs and {kilobytes:.0f} KiB each, in {counted.rounds / LOOKUPS:.1f} round trips"


if __name__ == "__main__":
    table = report(measure())
    print(table)
    for name in sys.argv[1:]:
        page = Path(name)
        before, _, rest = page.read_text().partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        page.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}")
