"""Who is at work in a simulated world: writers, and the real engine in every part that a deployment gives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from bucket import Bucket
from checks import assert_consistent, assert_real, contents, definition_of, snapshot_of
from messages import EventQueue, Message
from scheduler import Crash, Scheduler
from shapes import Shape
from toxics import SimulatedStore, StillStore, Toxicity
from witness import Witness

from bucketdex.engine import Engine
from bucketdex.errors import (
    BucketdexError,
    CommitGaveUpError,
    SnapshotExpiredError,
    StorageError,
    TableNotFoundError,
)
from bucketdex.runtime import Runtime
from bucketdex.storage import Manifest, ManifestStore
from bucketdex.views import OBJECTS, BlockCache, Snapshot
from bucketdex.views.lines import decode_object

VISIBILITY_S = 900.0
CALLS_MAX = 5  # that one process serves before a new one takes its place
TWIN = bytes.maketrans(b"xy", b"yx")
REMEMBERED = 3  # generations that a reader looks at again later

Body = Callable[[Engine], float]  # one call of a process; the pause after it


class SimulatedRuntime(Runtime):
    """Clock, names, jitter and waiting of one process."""

    def __init__(self, world: Scheduler) -> None:
        super().__init__()
        self._world = world

    def now(self) -> float:
        return self._world.now + self._world.current.skew_s

    def token(self) -> str:
        return f"{self._world.random.getrandbits(64):016x}"

    def uniform(self, low: float, high: float) -> float:
        return self._world.random.uniform(low, high)

    def sleep(self, seconds: float) -> None:
        self._world.pause(seconds)

    def map(self, function: Any, items: Any) -> list[Any]:
        return [function(item) for item in items]


class Place:
    """Two buckets, the queue between them, and what was counted: all that an actor may touch."""

    def __init__(self, scheduler: Scheduler, shape: Shape) -> None:
        self.scheduler, self.shape, self.random = scheduler, shape, scheduler.random
        self.counts: Counter[str] = Counter()
        self.poison = dict(shape.poison)
        self.queue = EventQueue(scheduler, shape.delivery, shape.is_poison)
        self.data = Bucket(lambda: scheduler.now, self.queue.announce)
        self.index = Bucket(lambda: scheduler.now)
        self.witness = Witness(self.index, scheduler, shape.settings, self.counts)
        self.runtime = SimulatedRuntime(scheduler)
        self._cache = BlockCache(4_000_000)
        self.witness.promoted = lambda: [self.acknowledged(key) for key in shape.keys] and None
        self.writing = 0

    def engine(self, toxicity: Toxicity | None = None) -> Engine:
        """The engine of a new process."""
        toxicity = self.shape.toxicity if toxicity is None else toxicity
        data = SimulatedStore(
            self.data, self.scheduler, msgspec.structs.replace(toxicity, damaged=0.0), self.counts, denied=self.denied
        )
        index = SimulatedStore(
            self.index, self.scheduler, toxicity, self.counts, swap_factor=self.shape.swap_factor
        )  # fmt: skip
        return Engine(index, data, self.runtime, settings=self.shape.settings, cache=BlockCache(2_000_000))

    def denied(self, key: str) -> bool:
        """Whether a key is poison now."""
        return key in self.poison and self.scheduler.elapsed_s < self.poison[key]

    def acknowledged(self, key: str) -> None:
        """No message of the key is left: what its object is now is in the index, at this very moment."""
        queue, manifest = self.queue, self.witness.manifests.get("t")
        if manifest is None or queue.lost or self.witness.dropped:
            return
        if any(message.event.key == key for message in (*queue.waiting, *queue.dead)):
            return
        snapshot = Snapshot(StillStore(self.index), manifest, definition_of(manifest), self._cache)
        found = snapshot.lookup(OBJECTS, [key]).get(key)
        row = decode_object(found.lines[-1]) if found else None
        there = self.data.current(key)
        expected = ("" if key in self.data.archived else there.etag) if there else None
        assert (row.etag if row else None) == expected, f"{key}: {row} instead of {expected} at {manifest.generation}"
        self.counts["acknowledged keys checked"] += 1

    def calm_store(self, bucket: Bucket) -> SimulatedStore:
        """A bucket through a perfect network."""
        return SimulatedStore(bucket, self.scheduler, Toxicity(), self.counts)

    @property
    def resting(self) -> bool:
        """Whether all that was written has been handled."""
        return not self.writing and not self.queue.waiting

    @contextmanager
    def cut_short(self, what: str) -> Iterator[None]:
        """What may come to nothing when the table is defined anew or dropped meanwhile, or its files expire, and would be
        run again.
        """
        try:
            yield
        except (StorageError, CommitGaveUpError):
            raise
        except BucketdexError:
            self.counts[f"{what} cut short"] += 1

    def processes(self, body: Body) -> None:
        """Calls `body` again and again, in process after process, until the world rests; a crash ends only one of
        them.
        """
        while not self.resting:
            engine = self.engine()
            self.scheduler.current.newer = self.shape.upgraded and self.random.random() < 0.5
            for _ in range(self.random.randrange(1, CALLS_MAX + 1)):  # a warm function serves several calls
                self.scheduler.current.call = 0
                pause_s = 1.0
                try:
                    pause_s = body(engine)
                except Crash:
                    self.counts["crashes"] += 1
                    break
                except CommitGaveUpError:
                    self.counts["gave up"] += 1
                except StorageError:
                    self.counts["storage errors"] += 1
                except TableNotFoundError:
                    assert "t" not in self.witness.manifests, "the table is gone"
                if self.resting:
                    return
                self.scheduler.pause(pause_s)
                if self.resting:
                    return
            self.scheduler.pause(self.random.random())


class Writer:
    """Puts, overwrites, deletes and restores objects."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._bodies = [self._body() for _ in range(3)]  # few enough that A-B-A happens
        place.writing += 1

    def run(self) -> None:
        place, shape, r = self._place, self._place.shape, self._place.random
        for _ in range(shape.mutations):
            self._change(r.choice(shape.keys))
            place.counts["mutations"] += 1
            place.scheduler.pause(r.choice(shape.pauses_s))
        place.writing -= 1
        place.queue.end()

    def _change(self, key: str) -> None:
        data, r = self._place.data, self._place.random
        choice = r.random()
        if choice < 0.18:
            data.delete(key)
        elif choice < 0.27:
            data.delete_current_version(key)
        elif choice < 0.5 and key in data.archived:
            data.restore(key)
        else:
            data.put(key, self._next(key))
            if choice > 0.96:
                data.archived.add(key)  # put into a storage class that has to be restored first

    def _next(self, key: str) -> bytes:
        r, current = self._place.random, self._place.data.current(key)
        if current is not None and current.body and r.random() < 0.25:
            return current.body.translate(TWIN)  # as long as it was
        return r.choice(self._bodies) if r.random() < 0.6 else self._body()

    def _body(self) -> bytes:
        rows = self._place.random.choice(self._place.shape.rows)
        return b"".join(msgspec.json.encode(self._document()) + b"\n" for _ in range(rows))

    def _document(self) -> dict[str, Any]:
        r = self._place.random
        groups = ["x", "y", f"z{r.getrandbits(40):010x}z"] if self._place.shape.erasing else ["x", "y", None]
        return {"g": r.choice(groups), "a": r.choice([1, 2, 3, None, "bad"] if r.random() < 0.1 else [1, 2, 3]),
                "t": r.sample(["p", "q"], r.randrange(3))}  # fmt: skip


class Indexer:
    """The indexer function: new messages together, those received before each by itself."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._batch)

    def _batch(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        messages = place.queue.receive(r.choice([1, 3, 10]), VISIBILITY_S)
        if not messages:
            place.queue.wait()
            return r.choice(place.shape.polls_s) if len(place.shape.polls_s) > 2 else 0.0
        fresh = [message for message in messages if message.receives == 1]
        for group in ([fresh] if fresh else []) + [[message] for message in messages if message.receives > 1]:
            self._apply(engine, group)
        return r.choice(place.shape.polls_s)

    def _apply(self, engine: Engine, group: list[Message]) -> None:
        place = self._place
        call = place.scheduler.begin_call()
        result = engine.apply("t", [message.event for message in group])
        assert place.witness.landed[call] >= result.commits, "a commit is said to have landed that didn't"
        place.counts["commits"] += result.commits
        place.counts["redone"] += result.redone
        place.counts["skipped"] += len(result.skipped)
        for message in group:
            if message.event.key in result.failed:
                error = result.failed[message.event.key]
                assert isinstance(error, BucketdexError), error
                place.queue.postpone(message, place.random.random() * 15)
            else:
                place.queue.done(message)
        for key in {message.event.key: None for message in group}:
            place.acknowledged(key)


class Compactor:
    """Compacts one view after another; any number of these may run by mistake."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._seen = "", 0

    def run(self) -> None:
        self._place.processes(self._compact)

    def _compact(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        table = "t"
        manifest = engine.load(table).manifest
        if manifest.successor is not None and r.random() < 0.5:
            table = manifest.successor
            with suppress(TableNotFoundError):  # given up meanwhile
                manifest = engine.load(table).manifest
        if (table, manifest.generation) == self._seen or not manifest.views:
            return r.choice([5.0, 100.0, 500.0])
        self._seen = table, manifest.generation
        steps = iter(range(1 if r.random() < place.shape.interrupted else r.randrange(2, 8)))
        due = engine.debt(manifest)
        view = (
            due[0] if due and r.random() < 0.4 else r.choice(due if due and r.random() < 0.5 else list(manifest.views))
        )
        mode = r.choice(["tiered", "tidy", "full"])
        place.counts["compactions"] += engine.compact(
            "t", view, mode=mode, in_time=lambda: next(steps, None) is not None
        )
        return r.choice([0.01, 1.0, 20.0])


class Collector:
    """Collects and sweeps."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._collect)

    def _collect(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        successor = engine.successor("t")
        table = "t" if successor is None or r.random() < 0.5 else successor
        with suppress(TableNotFoundError):  # a successor that was given up meanwhile
            if r.random() < place.shape.sweeps:
                place.counts["orphans swept"] += engine.sweep(table).deleted
                place.counts["sweeps"] += 1
            else:
                place.counts["collected"] += engine.collect(table).deleted
                place.counts["collections"] += 1
        return r.choice([1.0, 5.0, 30.0] if place.shape.kind == "sweeping" else [1.0, 300.0, 700.0])


class Deployer:
    """Defines the table this way and that, has it rebuilt, drops it and makes it anew."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._dropped = False

    def run(self) -> None:
        self._place.processes(self._define)

    def _define(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        if "t" not in place.witness.manifests:
            engine.create_table(place.shape.definitions[0])
            return 0.0
        assert not self._dropped or place.witness.manifests["t"].state == "dropped", "a dropped table is back"
        self._dropped = False
        if place.shape.drops and r.random() < 0.3:
            engine.drop_table("t")
            place.counts["drops"] += 1
            self._dropped = place.shape.deployers == 1  # nobody else makes it anew
            return r.choice([0.0, 1.0, 50.0])
        definition = r.choice(place.shape.definitions)
        with place.cut_short("definitions"):
            if place.shape.rebuilds and r.random() < 0.4:
                change = r.choice([engine.rebuild, engine.rebuild, engine.abandon])
                change("t")
                place.counts["rebuilds begun" if change == engine.rebuild else "rebuilds given up"] += 1
            else:
                change = r.choice([engine.define, engine.create_table, engine.create_table])
                change(definition)
                place.counts["definitions"] += 1
        return r.choice([0.1, 5.0, 100.0, 500.0])


class Builder:
    """Fills the table's successor, whenever there is one, and puts it in its place."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._build)

    def _build(self, engine: Engine) -> float:
        place = self._place
        with place.cut_short("builds"):
            if engine.successor("t") is not None:
                engine.build_successor("t")
                place.counts["builds"] += 1
        return place.random.choice([1.0, 20.0, 200.0])


class Repairer:
    """Backfills, or verifies and repairs, beside live traffic."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._repair)

    def _repair(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        with place.cut_short("repairs"):
            if r.random() < 0.5:
                engine.backfill("t", force=r.random() < 0.2, rate=r.choice([None, None, 2.0]))
                place.counts["backfills"] += 1
            else:
                deep = r.random() < 0.5
                found = engine.verify("t", repair=r.random() < 0.7, deep=deep, settle_seconds=1.0)
                wrong = {name: why for name, why in found.views.items() if "can't be read" not in why}
                assert not wrong, f"views are called wrong: {wrong}"
                place.counts["verifications"] += 1
                place.counts["repaired"] += found.repaired
        return r.choice([1.0, 100.0, 1_000.0])


class Reader:
    """Reads whole snapshots, new ones and some of the past, and checks each."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._store = place.calm_store(place.index)
        self._manifests = ManifestStore(self._store, place.runtime)
        self._known: dict[int, tuple[int, dict[str, Any]]] = {}  # by generation: the revision, and what was in it

    def run(self) -> None:
        place, r = self._place, self._place.random
        generation = 0
        while "t" not in place.witness.manifests and not place.resting:
            place.scheduler.pause(1.0)
        while not place.resting:
            manifest = self._manifests.load("t").manifest
            assert manifest.generation >= generation, "generations go back"
            generation = manifest.generation
            if manifest.state == "live" and (manifest.generation not in self._known or r.random() < 0.1):
                if self._known and r.random() < 0.4:
                    self._look_back(manifest)
                self._check(manifest)
            pause_s = r.choice([1.0, 100.0, 1_000.0])
            place.scheduler.wait(place.queue.bell, place.scheduler.now + pause_s)
            place.scheduler.pause(r.random() * min(pause_s, 30.0))

    def _check(self, manifest: Manifest) -> None:
        try:
            found = assert_consistent(snapshot_of(self._store, manifest))
            assert_real(found, self._place.data.bodies)
        except SnapshotExpiredError:
            self._place.counts["reads expired"] += 1
            return
        self._place.counts["snapshots checked"] += 1
        before = self._known.setdefault(manifest.generation, (manifest.revision, found))
        assert before[1] == found, f"generation {manifest.generation} has changed"
        while len(self._known) > REMEMBERED:
            del self._known[min(self._known)]

    def _look_back(self, manifest: Manifest) -> None:
        """A generation of the past, put together from the manifest of now, is what it was then."""
        at = self._place.random.choice(sorted(self._known))
        revision, then = self._known[at]
        if revision != manifest.revision:
            return
        try:
            found = contents(snapshot_of(self._store, manifest, at=at))
        except SnapshotExpiredError:
            self._place.counts["reads expired"] += 1
            return
        self._place.counts["snapshots of the past"] += 1
        assert {name: found[name] for name in then} == then, f"generation {at} is another one now"
