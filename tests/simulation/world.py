"""One seed's world: two buckets, a queue, and the real engine in as many processes as the seed wants."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
from bucket import Bucket
from checks import assert_consistent, assert_no_orphans, contents, definition_of, snapshot_of
from messages import EventQueue
from scheduler import Crash, Scheduler
from toxics import SimulatedStore, Toxicity

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event, Settings
from bucketdex.errors import BucketdexError, CommitGaveUpError, SnapshotExpiredError, StorageError
from bucketdex.runtime import Runtime
from bucketdex.storage import ManifestStore
from bucketdex.views import BlockCache

PLAIN: dict[str, Any] = {
    "source": {"prefix": "d/", "format": "ndjson"},
    "fields": {"g": "string", "a": "decimal", "t": {"type": "string", "path": "t[]"}},
    "indexes": {"by_g": ["g", "a"], "by_t": ["t"]},
    "summaries": {
        "s": {
            "group_by": ["g"],
            "measures": {
                "n": "count()",
                "total": "sum(a)",
                "top": "max(a)",
                "low": "min(a)",
                "kinds": "count_distinct(a)",
            },
        }
    },
}
DEFINITION = TableDefinition.from_dict("t", PLAIN)
FEWER = TableDefinition.from_dict("t", {**PLAIN, "indexes": {"by_g": ["g", "a"]}})
SETTINGS = Settings(
    alone_bytes=400, alone_rows=12, wave_objects=3, delta_rows_max=14, flush_rows=16, inline_bytes_max=500,
    inline_total_max=1_200, touched_max=2, log_bytes_max=64, log_entries_max=4, attempts_max=8, debt_deltas=2, debt_rows=12,
    block_bytes=150, step_rows=12, merge_blocks=1, grace_seconds=600.0, sweep_generations=10,
)  # fmt: skip
VISIBILITY_S = 900.0
STEPS_MAX = 60_000


class SimulatedRuntime(Runtime):
    """Clock, names, jitter and waiting of one process."""

    def __init__(self, world: Scheduler) -> None:
        super().__init__()
        self._world = world

    def now(self) -> float:
        return self._world.now + self._world.skew_s()

    def token(self) -> str:
        return f"{self._world.random.getrandbits(64):016x}"

    def uniform(self, low: float, high: float) -> float:
        return self._world.random.uniform(low, high)

    def sleep(self, seconds: float) -> None:
        self._world.pause(seconds)

    def map(self, function: Any, items: Any) -> list[Any]:
        return [function(item) for item in items]


class World:
    """Builds everything from one seed, runs it, and checks it."""

    def __init__(self, seed: int) -> None:
        self.scheduler = Scheduler(seed)
        self.counts: Counter[str] = Counter()
        r = self.random = self.scheduler.random
        self.queue = EventQueue(self.scheduler)
        self.data = Bucket(lambda: self.scheduler.now, self.queue.announce)
        self.index = Bucket(lambda: self.scheduler.now)
        self.toxicity = self._toxicity(r)
        self.runtime = SimulatedRuntime(self.scheduler)
        self.settings = SETTINGS if r.random() < 0.7 else msgspec.structs.replace(SETTINGS, delta_rows_max=200)
        self.hot = r.random() < 0.4  # few keys, many changes, many indexers: where conflicts come from
        self.keys = [f"d/{i}" for i in range(r.choice([1, 2, 3] if self.hot else [1, 2, 4, 8]))]
        self.writing = 0
        self.engine(Toxicity()).define(DEFINITION)

    def engine(self, toxicity: Toxicity) -> Engine:
        index = SimulatedStore(self.index, self.scheduler, toxicity, self.counts)
        data = SimulatedStore(self.data, self.scheduler, msgspec.structs.replace(toxicity, damaged=0.0), self.counts)
        return Engine(index, data, self.runtime, settings=self.settings, cache=BlockCache(2_000_000))

    def run(self) -> None:
        """Everything at once under faults, then a calm end, then the checks at rest."""
        r = self.random
        for i in range(r.choice([1, 2])):
            self.writing += 1
            self.scheduler.spawn(f"writer {i}", self._write)
        for i in range(4 if self.hot else r.choice([1, 2, 3])):
            self.scheduler.spawn(f"indexer {i}", self._index, skew_s=r.uniform(-900, 900))
        for i in range(r.choice([0, 1, 2])):
            self.scheduler.spawn(f"compactor {i}", self._compact, skew_s=r.uniform(-900, 900))
        if r.random() < 0.5:
            self.scheduler.spawn("collector", self._collect, skew_s=r.uniform(-900, 900))
        if r.random() < 0.4:
            self.scheduler.spawn("deployer", self._define)
        self.scheduler.spawn("reader", self._read)
        self.scheduler.run(STEPS_MAX)
        self._settle()
        self._check_at_rest()

    def _toxicity(self, r: random.Random) -> Toxicity:
        if r.random() < 0.2:
            return Toxicity()
        level = r.choice([0.002, 0.01, 0.03])
        on = {name: level * r.choice([0, 0, 1, 1, 3]) for name in Toxicity.__struct_fields__}
        on["stall"] = min(on["stall"], 0.004)
        on["crash"] = min(on["crash"], 0.01)
        return Toxicity(**on)

    def _document(self) -> dict[str, Any]:
        r = self.random
        return {"g": r.choice(["x", "y", None]), "a": r.choice([1, 2, 3, None, "bad"] if r.random() < 0.1 else [1, 2, 3]),
                "t": r.sample(["p", "q"], r.randrange(3))}  # fmt: skip

    def _write(self) -> None:
        r = self.random
        bodies = [self._body() for _ in range(3)]  # few enough that A-B-A happens
        try:
            for _ in range(24 if self.hot else r.choice([3, 8, 16])):
                key = r.choice(self.keys)
                choice = r.random()
                if choice < 0.2:
                    self.data.delete(key)
                elif choice < 0.3:
                    self.data.delete_current_version(key)
                else:
                    self.data.put(key, r.choice(bodies) if r.random() < 0.7 else self._body())
                self.counts["mutations"] += 1
                self.scheduler.pause(r.choice([0.0, 0.1, 0.5, 1.0] if self.hot else [0.0, 0.1, 1.0, 50.0, 700.0]))
        finally:
            self.writing -= 1

    def _body(self) -> bytes:
        rows = self.random.choice([0, 1, 2, 4, 9, 40])
        return b"".join(msgspec.json.encode(self._document()) + b"\n" for _ in range(rows))

    def _resting(self) -> bool:
        return not self.writing and not self.queue.waiting

    def _restarting(self, body: Any) -> None:
        """Runs `body(engine)` again and again as new processes until the world is at rest; crashes end only one of them."""
        while not self._resting():
            engine = self.engine(self.toxicity)
            for _ in range(self.random.randrange(1, 6)):  # a warm function serves several calls
                try:
                    body(engine)
                except Crash:
                    self.counts["crashes"] += 1
                    break
                except SnapshotExpiredError:
                    self.counts["expired"] += 1
                except CommitGaveUpError:
                    self.counts["gave up"] += 1
                except StorageError:
                    self.counts["storage errors"] += 1
                self.scheduler.pause(
                    self.random.choice([0.01, 0.1] if self.hot and self.queue.visible() else [0.01, 1.0, 20.0])
                )
                if self._resting():
                    return
            self.scheduler.pause(1.0)

    def _index(self) -> None:
        def body(engine: Engine) -> None:
            messages = self.queue.receive(self.random.choice([1, 3, 10]), VISIBILITY_S)
            if not messages:
                return
            fresh = [message for message in messages if message.receives == 1]
            for group in ([fresh] if fresh else []) + [[message] for message in messages if message.receives > 1]:
                result = engine.apply("t", [message.event for message in group])
                self.counts["commits"] += result.commits
                self.counts["redone"] += result.redone
                self.counts["skipped"] += len(result.skipped)
                for message in group:
                    if message.event.key in result.failed:
                        error = result.failed[message.event.key]
                        assert isinstance(error, BucketdexError), error
                        self.queue.postpone(message, self.random.random() * 15)
                    else:
                        self.queue.done(message)

        self._restarting(body)

    def _compact(self) -> None:
        def body(engine: Engine) -> None:
            views = list(engine.load("t").manifest.views)
            mode = self.random.choice(["tiered", "tiered", "tidy", "full"])
            until = self.random.randrange(1, 6)
            left = iter(range(until))
            view = self.random.choice(views)
            landed = engine.compact("t", view, mode=mode, in_time=lambda: next(left, None) is not None)
            self.counts["compactions"] += landed

        self._restarting(body)

    def _collect(self) -> None:
        def body(engine: Engine) -> None:
            if self.random.random() < 0.6:
                self.counts["collected"] += engine.collect("t").deleted
            else:
                self.counts["orphans swept"] += engine.sweep("t").deleted
            self.scheduler.pause(self.random.choice([1.0, 300.0]))

        self._restarting(body)

    def _define(self) -> None:
        def body(engine: Engine) -> None:
            change = self.random.choice([engine.define, engine.create_table, engine.create_table])
            change(self.random.choice([DEFINITION, FEWER]))
            self.counts["definitions"] += 1
            self.scheduler.pause(self.random.choice([0.1, 5.0, 500.0]))

        self._restarting(body)

    def _read(self) -> None:
        store = SimulatedStore(self.index, self.scheduler, Toxicity(), self.counts)
        manifests = ManifestStore(store, self.runtime)
        generation = 0
        while not self._resting():
            manifest = manifests.load("t").manifest
            assert manifest.generation >= generation, "generations go back"
            generation = manifest.generation
            started = self.scheduler.now
            try:
                assert_consistent(snapshot_of(store, manifest))
                self.counts["snapshots checked"] += 1
            except SnapshotExpiredError:
                assert self.scheduler.now - started > self.settings.grace_seconds - 2_000, "a live file is missing"
                self.counts["reads expired"] += 1
            self.scheduler.pause(self.random.choice([1.0, 100.0, 1000.0]))

    def _settle(self) -> None:
        """No more faults: what deployments, schedules and queues would bring about in time."""
        engine = self.engine(Toxicity())
        engine.create_table(DEFINITION)
        if self.random.random() < 0.5:
            engine.compact("t", mode=self.random.choice(["tidy", "full"]))
        self.scheduler.now += 50_000
        engine.collect("t")
        self.scheduler.now += 50_000
        engine.collect("t")
        engine.sweep("t")

    def _check_at_rest(self) -> None:
        store = SimulatedStore(self.index, self.scheduler, Toxicity(), self.counts)
        manifest = ManifestStore(store, self.runtime).load("t").manifest
        assert not self.queue.dead, f"given up: {self.queue.dead}"
        snapshot = snapshot_of(store, manifest)
        assert_consistent(snapshot)
        assert contents(snapshot) == self._rebuilt(), "the index differs from a rebuild"
        assert_no_orphans(store, manifest)
        assert definition_of(manifest) == DEFINITION

    def _rebuilt(self) -> dict[str, Any]:
        index = SimulatedStore(Bucket(lambda: 0.0), self.scheduler, Toxicity(), self.counts)
        data = SimulatedStore(self.data, self.scheduler, Toxicity(), self.counts)
        fresh = Engine(index, data, self.runtime)
        fresh.define(DEFINITION)
        if self.data.live_keys():
            fresh.apply("t", [Event(key) for key in self.data.live_keys()])
        return contents(snapshot_of(index, fresh.load("t").manifest))


def run_seed(seed: int) -> Counter[str]:
    """Plays one seed; what happened, counted. Raises when something didn't hold."""
    world = World(seed)
    world.run()
    return world.counts
