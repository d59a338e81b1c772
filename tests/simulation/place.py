"""Where a world happens: two buckets, the queues between them, and what a process there is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from bucket import Bucket
from messages import EventQueue, PageQueue
from promises import Promises
from scheduler import Crash, Scheduler
from shapes import Shape
from toxics import RESOLUTE, Hesitance, SimulatedStore, Toxicity
from witness import Witness

from bucketdex.engine import Engine, Job
from bucketdex.errors import BucketdexError, CommitGaveUpError, StorageError, TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import backfill_path
from bucketdex.views import BlockCache

CALLS_MAX = 5  # that one process serves before a new one takes its place
DAWDLED_S = 3.0  # while few commits come first, or there would be no more than "everything is redone"
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
        self.promises = Promises(self.data, self.index, self.queue, self.witness, shape, self.counts)
        self.writing = 0
        self._rested = False
        self.written_at = 0.0  # when the last writer came to its end

    def hesitant_engine(self) -> Engine:
        """That of a process that builds views, or announces, fills, compacts or promotes successors, or gives them up."""
        return self.engine(hesitance=Hesitance(self.shape.hesitance))

    def deploying_engine(self) -> Engine:
        """That of a process that defines tables."""
        return self.engine() if self.shape.flickers else self.hesitant_engine()

    def indexing_engine(self) -> Engine:
        """That of an indexer, which reads objects through a network that may be worse than others'."""
        return self.engine(hesitance=Hesitance(self.shape.dawdling, DAWDLED_S), reading=self.shape.reading)

    def engine(
        self, toxicity: Toxicity | None = None, *, hesitance: Hesitance = RESOLUTE, reading: Toxicity | None = None
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

    def way_to_index(self, toxicity: Toxicity | None = None, *, hesitance: Hesitance = RESOLUTE) -> SimulatedStore:
        """The index bucket as a new process sees it."""
        toxicity = self.shape.toxicity if toxicity is None else toxicity
        return SimulatedStore(
            self.index, self.scheduler, toxicity, self.counts, swap_factor=self.shape.swap_factor, hesitance=hesitance
        )

    def denied(self, key: str) -> bool:
        """Whether a key is poison now."""
        return key in self.poison and self.scheduler.elapsed_s < self.poison[key]

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
