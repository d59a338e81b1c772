"""What a backfill is said to cost: by the formula, beside what a job counts, and beside what was measured."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from enginekit import Bench, documents

from benchmarks import cost
from bucketdex.engine import Backfilled, Depth, Engine, Event, Settings, estimate
from bucketdex.errors import BucketdexError
from bucketdex.storage import CountingStore, Listed
from functions.pages import KEYS_MAX, OBJECT_BYTES_MAX, page_bodies, read_page


class Queue:
    """A queue in memory, of the very messages that a deployment sends."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.sent = self.requests = 0

    def send(self, job: str, table: str, due: Sequence[Listed]) -> None:
        bodies = list(page_bodies(job, table, due))
        self.bodies += bodies
        self.sent += len(bodies)
        self.requests += -(-len(bodies) // 10)

    def depth(self) -> Depth:
        self.requests += 1
        return Depth(len(self.bodies), 0)


class Counted(Bench):
    """A bench with objects, whose requests are counted."""

    def __init__(self, objects: int) -> None:
        super().__init__(settings=Settings())
        draw = random.Random(1)
        for number in range(objects):
            self.put(f"orders/{number:06}", documents(draw, 1))
        self.runtime.clock = 4e9
        self.counted = CountingStore(self.index), CountingStore(self.data)
        self.deployed = Engine(*self.counted, self.runtime, settings=Settings())
        self.queue = Queue()

    def work_off(self, messages: int) -> None:
        """As indexers do: so many messages a commit, and each view that is due compacted."""
        while self.queue.bodies:
            taken, self.queue.bodies = self.queue.bodies[:messages], self.queue.bodies[messages:]
            self.queue.requests += 2
            by_table = [read_page(json.loads(body)) for body in taken]
            events = [Event(key, size=size) for _, keys in by_table for key, size in keys]
            assert not self.deployed.apply(by_table[0][0], events).failed
            for manifest in self.deployed.manifests("orders"):
                for view in self.deployed.debt(manifest):
                    self.queue.requests += 3
                    self.deployed.compact(manifest.table, view, mode="tiered")

    def run(self, messages: int = estimate.MESSAGES_A_COMMIT) -> Counter[str]:
        """The job from its start to its end; what it took."""
        for store in self.counted:
            store.reset()
        self.deployed.start_backfill("orders")
        for _ in range(50):
            began = self.runtime.clock  # only waiting moves it
            self.deployed.continue_backfills(self.queue, in_time=lambda began=began: self.runtime.clock == began)
            saved = self.deployed.jobs.load("orders")
            if saved is not None and saved.job.is_over:
                assert saved.job.state == "done"
                return self.counted[0].requests + self.counted[1].requests
            self.work_off(messages)
            self.runtime.clock += 60
        raise AssertionError("it doesn't end")


def near(said: float, counted: float, factor: float) -> bool:
    return counted / factor <= said <= counted * factor


@pytest.mark.parametrize("objects", [350, 3_000])
def test_a_job_takes_about_what_was_said(objects: int) -> None:
    bench = Counted(objects)
    said = bench.deployed.estimate_backfill("orders")
    assert (said.due, bench.deployed.jobs.load("orders"), bench.queue.sent) == (objects, None, 0)
    took = bench.run()
    assert near(said.reads_estimated, took["get"], 1.25), took
    assert near(said.writes_estimated, took["put"] + took["list"], 2), took
    assert near(said.queue_requests_estimated, bench.queue.requests, 3), bench.queue.requests
    again = bench.deployed.estimate_backfill("orders")
    assert (again.due, again.reads_estimated) == (0, 3 * (objects // 1_000 + 1))
    assert bench.contents() == bench.rebuilt()


def test_what_was_measured() -> None:
    """docs/deployment.md: 100,000 objects beside 700 uploads."""
    found = estimate.Pages(listed=100_000, due=100_000, messages=1_000)
    said = estimate.deployed(found, estimate.Shape(views=8, tags=False), rate=None, passes=2, lists=2)
    assert near(said.reads, 107_296, 1.1)
    assert near(said.writes, 205 + 2_497, 2)
    assert near(sum(said.dollars.values()), 0.062, 1.25)
    assert near(said.dollars["Lambda"], 0.005, 2) and near(said.dollars["SQS"], 0.001, 2)
    here = estimate.in_process(found, estimate.Shape(views=8, tags=False), batch_keys=256)
    assert here.dollars.keys() == {"S3"} and here.writes < said.writes and here.queue_requests == 0


def test_prices_and_messages_are_those_of_the_deployment() -> None:
    assert (estimate.MESSAGE_KEYS, estimate.MESSAGE_BYTES) == (KEYS_MAX, OBJECT_BYTES_MAX)
    assert (estimate.WRITE, estimate.READ) == (cost.PUT, cost.GET)
    assert (estimate.QUEUE_REQUEST, estimate.FIFO_REQUEST) == (cost.SQS_REQUEST, cost.SQS_FIFO_REQUEST)
    assert (estimate.GB_SECOND, estimate.INDEXER_GB) == (cost.LAMBDA_GB_SECOND, cost.LAMBDA_GB)
    assert (estimate.BACKFILLER_GB, estimate.REQUEST_S) == (cost.BACKFILLER_GB, cost.S3_REQUEST_S)
    logs = cost.LOG_BYTES_AN_INVOCATION / 1e9 * cost.LOG_GB
    assert pytest.approx(cost.LAMBDA_REQUEST + logs) == estimate.INVOCATION


@pytest.mark.parametrize(
    ("sizes", "rate"), [([10] * 250, None), ([20 * 2**20] * 7, None), ([10] * 30, 1.0), ([], None)]
)
def test_messages_are_about_those_that_are_sent(sizes: list[int], rate: float | None) -> None:
    keys = min(1_000, int((rate or 100) * 10))
    due = [Listed(f"orders/{number}", size, "", 0.0) for number, size in enumerate(sizes)]
    sent = sum(len(list(page_bodies("1", "orders", due[start : start + keys]))) for start in range(0, len(due), keys))
    assert near(estimate.messages_of(due, rate), sent, 2)


def test_a_slow_rate_is_paid_for() -> None:
    """The backfiller waits all the time, pages are small, and each message is a commit of its own."""
    bench = Counted(30)
    fast, slow = bench.deployed.estimate_backfill("orders"), bench.deployed.estimate_backfill("orders", rate=0.1)
    assert slow.dollars_by_service["Lambda"] > 10 * fast.dollars_by_service["Lambda"]
    assert slow.writes_estimated > 10 * fast.writes_estimated
    quick = bench.deployed.estimate_backfill("orders", rate=10_000)
    assert quick.dollars_by_service == fast.dollars_by_service, "faster than it can be"
    with pytest.raises(BucketdexError, match="has to be positive"):
        bench.deployed.estimate_backfill("orders", rate=0)


def test_dollars_are_the_sum_of_their_parts() -> None:
    said = Counted(5).deployed.estimate_backfill("orders")
    assert said.dollars_by_service.keys() == {"S3", "SQS", "Lambda"} and isinstance(said, Backfilled)
    assert said.dollars_estimated == pytest.approx(sum(said.dollars_by_service.values()))
