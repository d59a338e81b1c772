"""Counts of requests, bytes and round trips. Exact and the same in every run; changes with what is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.datasets import Objects
from benchmarks.figures import Figure
from benchmarks.workbench import Workbench
from bucketdex import Database
from bucketdex.storage import CountingStore

COLD_CLIENTS = 20
WARM_BYTES_MAX = 64 * 1024
BATCH = 100


class Seen(NamedTuple):
    """What passed through a store: requests beside the manifest's, bytes, round trips."""

    requests: int
    bytes: int
    rounds: int


class Spread(NamedTuple):
    """Of several look-ups the worst of each count, and the mean of the requests."""

    worst: Seen
    mean_requests: float

    def __str__(self) -> str:
        trips = f"{self.worst.rounds} round trip" + "s" * (self.worst.rounds != 1)
        kib = self.worst.bytes / 1024
        asked = f"{self.worst.requests} request" + "s" * (self.worst.requests != 1)
        return f"{trips}, {asked} (mean {self.mean_requests:.1f}), {kib:.0f} KiB"


def lookups(
    bench: Workbench, view: str, field: str, values: Sequence[str], state: str, *, requests_max: int | None = None
) -> Iterator[Figure]:
    """Equality look-ups over one index by clients that know nothing yet, and by one that looked up others before.

    `requests_max`: the goal of a warm one, together with 64 KiB; None where only round trips have one.
    """
    runs = bench.runs(view)
    half = len(values) // 2
    name = f"{bench.name}, {view}, {state}, {runs} run" + "s" * (runs != 1)
    client = bench.client()
    for value in values[:half]:
        _look_up(client, bench, field, value)
    warm = _spread([_look_up(client, bench, field, value) for value in values[half:]])
    cold = _spread([_look_up(bench.client(), bench, field, value) for value in values[half : half + COLD_CLIENTS]])
    goal, met = "1 round trip", warm.worst.rounds == 1
    if requests_max is not None:
        goal += f", {requests_max} requests, 64 KiB"
        met &= warm.worst.requests <= requests_max and warm.worst.bytes <= WARM_BYTES_MAX
    yield Figure(f"warm look-up: {name}", goal, str(warm), met)
    yield Figure(f"cold look-up: {name}", "3 round trips", str(cold), cold.worst.rounds <= 3)


def _look_up(client: Database, bench: Workbench, field: str, value: str) -> Seen:
    bench.index.reset()
    found = client.table(bench.name).where(**{field: value}).rows()
    assert found and all(row[field] == value for row in found), "a look-up's answer is wrong"
    return _seen(bench.index)


def _seen(store: CountingStore) -> Seen:
    beside = sum(1 for entry in store.log if not entry.key.endswith("/manifest.json"))
    return Seen(beside, store.bytes_in, store.rounds)


def _spread(seen: Sequence[Seen]) -> Spread:
    worst = Seen(*(max(column) for column in zip(*seen, strict=True)))
    return Spread(worst, sum(each.requests for each in seen) / len(seen))


class Batches(NamedTuple):
    """What batches of objects cost: totals, but for `puts`, which is the worst batch's."""

    objects: int
    batches: int
    data_gets: int
    puts: int
    index_reads: int  # beside the manifest: the look-up of old rows

    def reads(self) -> str:
        """What the look-ups of old rows read."""
        return f"{self.index_reads} in {self.batches} batches of {self.objects // self.batches}"


def objects_to_index(objects: Objects, bench: Workbench) -> Iterator[Figure]:
    """Small objects that are new, applied again, and overwritten, in batches; then the same after compaction."""
    bench.upload(objects)
    keys = list(objects)
    old, new = keys[::2], keys[1::2]  # of the same range, or range ends would tell them apart
    first = _batches(bench, old, "1", BATCH)
    yield Figure(
        "data GETs an object, new objects", "1", f"{first.data_gets / first.objects:.2f}", first.data_gets == len(old)
    )
    yield Figure(f"PUTs a batch of {BATCH}, the worst", "2", str(first.puts), first.puts <= 2)
    yield Figure("index reads of the old-row look-up, new keys", "0", first.reads(), first.index_reads == 0)
    again = _batches(bench, old, "1", BATCH)
    seen = f"{again.data_gets} GETs, {again.puts} PUTs"
    yield Figure("duplicates: GETs of objects, PUTs", "0, 0", seen, again.data_gets == again.puts == 0)
    over = _batches(bench, old, "2", BATCH)
    yield Figure("index reads of the old-row look-up, known keys", "", over.reads())
    bench.compact()
    cut = 2 * BATCH
    fresh = _batches(bench, new[:cut], "1", BATCH)
    yield Figure("the same, new keys, just compacted: filters", "", fresh.reads())
    fresh = _batches(bench, new[cut:-BATCH], "1", BATCH)
    yield Figure("the same, new keys, from then on", "0", fresh.reads(), fresh.index_reads == 0)
    over = _batches(bench, old, "3", BATCH)
    yield Figure("the same, known keys, compacted", "", over.reads())


def _batches(bench: Workbench, keys: Sequence[str], sequencer: str, batch: int) -> Batches:
    gets = puts = reads = count = 0
    for start in range(0, len(keys), batch):
        bench.index.reset()
        bench.data.reset()
        bench.apply(keys[start : start + batch], sequencer)
        gets += bench.data.requests["get"]
        puts = max(puts, bench.index.requests["put"])
        reads += sum(1 for e in bench.index.log if e.op == "get" and not e.key.endswith("/manifest.json"))
        count += 1
    return Batches(len(keys), count, gets, puts, reads)
