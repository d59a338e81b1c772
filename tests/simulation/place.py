"""Where a world happens: two buckets, the queues between them, and what a process there is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from bucket import Bucket
from checks import assert_consistent, definition_of
from messages import EventQueue, PageQueue
from scheduler import Crash, Scheduler
from shapes import Shape
from toxics import SimulatedStore, StillStore, Toxicity
from witness import Witness

from bucketdex.engine import Engine, Job
from bucketdex.errors import BucketdexError, CommitGaveUpError, StorageError, TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import backfill_path
from bucketdex.views import OBJECTS, BlockCache, Snapshot
from bucketdex.views.lines import decode_object

CALLS_MAX = 5  # that one process serves before a new one takes its place
PATIENCE_S = 3_000.0  # that a backfill is given to end while there are faults

P = TypeVar("P")  # what a process keeps between its calls: an engine, or what a client has


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
        self.pages = PageQueue(scheduler, self.queue.bell)
        self.witness = Witness(self.index, scheduler, shape.settings, self.counts)
        self.runtime = SimulatedRuntime(scheduler)
        self.cache = BlockCache(4_000_000)
        self.witness.promoted = self._promoted
        if shape.flickers:
            self.witness.built = self._built
        self.applied: dict[str, int] = {}  # keys that were said to be in the index, and how often each had changed then
        self.writing = 0
        self._rested = False
        self.written_at = 0.0  # when the last writer came to its end

    def hesitant_engine(self) -> Engine:
        """That of a process that builds views, or announces, fills, compacts or promotes successors, or gives them up."""
        return self.engine(hesitance=self.shape.hesitance)

    def deploying_engine(self) -> Engine:
        """That of a process that defines tables."""
        return self.engine() if self.shape.flickers else self.hesitant_engine()

    def indexing_engine(self) -> Engine:
        """That of an indexer, which reads objects through a network that may be worse than others'."""
        return self.engine(reading=self.shape.reading)

    def engine(
        self, toxicity: Toxicity | None = None, *, hesitance: float = 0.0, reading: Toxicity | None = None
    ) -> Engine:
        """The engine of a new process."""
        toxicity = self.shape.toxicity if toxicity is None else toxicity
        reading = toxicity if reading is None else reading
        data = SimulatedStore(
            self.data, self.scheduler, msgspec.structs.replace(reading, damaged=0.0), self.counts, denied=self.denied
        )
        return Engine(
            self.way_to_index(toxicity, hesitance=hesitance), data, self.runtime, settings=self.shape.settings,
            cache=BlockCache(2_000_000),
        )  # fmt: skip

    def way_to_index(self, toxicity: Toxicity | None = None, *, hesitance: float = 0.0) -> SimulatedStore:
        """The index bucket as a new process sees it."""
        toxicity = self.shape.toxicity if toxicity is None else toxicity
        return SimulatedStore(
            self.index, self.scheduler, toxicity, self.counts, swap_factor=self.shape.swap_factor, hesitance=hesitance
        )

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
        self._check_row(key)
        self.counts["acknowledged keys checked"] += 1

    def _promoted(self) -> None:
        """What the table held for certain, what takes its place holds."""
        for key in self.shape.keys:
            self.acknowledged(key)
        for key, changes in self.applied.items():
            if self.data.changes(key) == changes and not self.witness.dropped:
                self._check_row(key)
                self.counts["applied keys checked"] += 1

    def _built(self, table: str) -> None:
        """What has just been built is right at that very moment; later it may be gone, or built again."""
        manifest = self.witness.manifests[table]
        assert_consistent(Snapshot(StillStore(self.index), manifest, definition_of(manifest), self.cache))
        self.counts["built views checked"] += 1

    def _check_row(self, key: str) -> None:
        manifest = self.witness.manifests["t"]
        snapshot = Snapshot(StillStore(self.index), manifest, definition_of(manifest), self.cache)
        found = snapshot.lookup(OBJECTS, [key]).get(key)
        row = decode_object(found.lines[-1]) if found else None
        there = self.data.current(key)
        expected = ("" if key in self.data.archived else there.etag) if there else None
        assert (row.etag if row else None) == expected, f"{key}: {row} instead of {expected} at {manifest.generation}"

    def calm_store(self, bucket: Bucket) -> SimulatedStore:
        """A bucket through a perfect network."""
        return SimulatedStore(bucket, self.scheduler, Toxicity(), self.counts)

    @property
    def resting(self) -> bool:
        """Whether all that was written has been handled. From then on nobody begins anything."""
        self._rested = self._rested or self._is_quiet
        return self._rested

    @property
    def _is_quiet(self) -> bool:
        if self.writing or self.queue.waiting or self.pages.waiting:
            return False
        return not self.shape.backfillers or self.scheduler.now > self.written_at + PATIENCE_S or not self._backfilling

    @property
    def _backfilling(self) -> bool:
        job = self.index.current(backfill_path("t"))
        return job is not None and job.body is not None and msgspec.json.decode(job.body, type=Job).state == "running"

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

    def processes(self, body: Callable[[P], float], start: Callable[[], P]) -> None:
        """Calls `body`, which says how long to pause after it, again and again, in process after process, until the
        world rests; a crash ends only one of them. `start` gives what a process has from its start to its end.
        """
        while not self.resting:
            process = start()
            self.scheduler.current.newer = self.shape.upgraded and self.random.random() < 0.5
            for _ in range(self.random.randrange(1, CALLS_MAX + 1)):  # a warm function serves several calls
                pause_s = 1.0
                try:
                    pause_s = body(process)
                except Crash:
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
