"""Deployed backfills: whatever ends a turn, however many run at once, at the end the index is a rebuild."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, TestRuntime, documents

from bucketdex.definition import TableDefinition
from bucketdex.engine import Depth, Engine, Event, Job, JobChangedError, turn, walk
from bucketdex.engine.jobs import JobStore
from bucketdex.errors import (
    AccessDeniedError,
    BackfillError,
    BucketdexError,
    PreconditionFailedError,
    StorageError,
    TableNotFoundError,
)
from bucketdex.storage import GetRequest, Listed, ObjectStore, backfill_path, open_index_store, round_path
from bucketdex.views import BlockCache, Snapshot

PAGE = 4


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PAGE_KEYS", PAGE)


class Queue:
    """A queue of pages in memory; `hidden` ones are being worked on, or failed and wait."""

    def __init__(self) -> None:
        self.visible: list[tuple[str, list[Listed]]] = []
        self.hidden: list[tuple[str, list[Listed]]] = []
        self.before_send: Callable[[], None] = lambda: None

    def send(self, job: str, table: str, due: Sequence[Listed]) -> None:
        self.before_send()
        if due:
            self.visible.append((table, list(due)))

    def depth(self) -> Depth:
        return Depth(len(self.visible), len(self.hidden))

    def work_off(self, engine: Engine, messages: int = 10**9) -> None:
        for _ in range(min(messages, len(self.visible))):
            table, due = self.visible.pop(0)
            with nullcontext() if table == "orders" else suppress(TableNotFoundError):  # as the indexer does
                assert not engine.apply(table, [Event(listed.key, size=listed.size) for listed in due]).failed


class Deployed(Bench):
    """A bench with a queue of pages. Its objects were there long before any backfill."""

    def __init__(self, objects: int = 14, seed: int = 1) -> None:
        super().__init__(seed)
        self.queue = Queue()
        self.random = random.Random(seed)
        for i in range(objects):
            self.put(f"orders/{i:03d}", documents(self.random, self.random.randrange(4)))
        self.runtime.clock = max([item.last_modified for item in self.data.list("")], default=0.0) + 3_600

    def turn(self, steps: int | None = None, engine: Engine | None = None) -> list[Job]:
        """A turn of so many rounds, a minute after the last one; without a number, until it only waits."""
        self.runtime.clock += 60
        left = iter(range(steps)) if steps is not None else None
        slept: list[float] = []
        engine = engine or self.engine

        def in_time() -> bool:
            return not slept if left is None else next(left, None) is not None

        sleep, self.runtime.sleep = self.runtime.sleep, slept.append  # type: ignore[method-assign]
        try:
            return engine.continue_backfills(self.queue, in_time=in_time)
        finally:
            self.runtime.sleep = sleep  # type: ignore[method-assign]

    def run(self, turns: int = 50) -> Job:
        """Turns and indexers by turns, until the job is over."""
        for _ in range(turns):
            (job,) = self.turn() or [self.job()]
            if job.is_over:
                return job
            self.queue.work_off(self.engine)
        raise AssertionError(self.job())

    def job(self) -> Job:
        found = self.engine.jobs.load("orders")
        assert found is not None
        return found.job


def test_a_backfill_indexes_everything_and_says_so() -> None:
    bench = Deployed(14)
    started = bench.engine.start_backfill("orders")
    assert (started.state, started.number, started.sent) == ("running", 1, 0)
    done = bench.run()
    assert (done.state, done.number, done.sent, done.listed, done.left) == ("done", 2, 14, 14, 0)
    assert bench.contents() == bench.rebuilt()
    assert bench.turn() == [], "a job that is done is left alone"


def test_nothing_to_do_costs_two_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Deployed(0)
    asked: list[str] = []
    for name in ("get", "get_many", "put"):
        monkeypatch.setattr(bench.index, name, lambda *_: asked.append("a request"))
    for name in ("list", "folders"):
        found = getattr(bench.index, name)
        monkeypatch.setattr(bench.index, name, lambda prefix, found=found: (asked.append(prefix), found(prefix))[1])
    assert bench.turn() == [] and asked == ["tables/", "backfills/"]


def test_an_empty_bucket_and_one_that_is_indexed_are_done_in_one_pass() -> None:
    for objects in (0, 5):
        bench = Deployed(objects)
        bench.apply(*(f"orders/{i:03d}" for i in range(objects)))
        bench.engine.start_backfill("orders")
        (job,) = bench.turn()
        assert (job.state, job.number, job.unchanged, job.sent) == ("done", 1, objects, 0)


@pytest.mark.parametrize("steps", range(9))
def test_a_turn_that_ends_anywhere_is_taken_up_by_the_next(steps: int) -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    bench.turn(steps)
    job = bench.run()
    assert (job.state, job.sent) == ("done", 14), "a page is sent once where nothing crashes"
    assert bench.contents() == bench.rebuilt()


def test_a_crash_between_sending_and_remembering_sends_twice_and_loses_nothing(monkeypatch: Any) -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    bench.turn(1)

    class Crash(BaseException):
        pass

    def crash(*_: Any) -> Any:
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(bench.engine.jobs, "save", crash)
        bench.turn(1)
    assert [len(due) for _, due in bench.queue.visible] == [PAGE, PAGE]
    bench.turn()
    assert [len(due) for _, due in bench.queue.visible] == [PAGE, PAGE, PAGE, PAGE, 2]
    assert bench.run().state == "done"
    assert bench.contents() == bench.rebuilt()


def test_of_two_turns_at_once_one_goes_on() -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    other = Engine(bench.index, bench.data, TestRuntime(7), settings=TINY)
    rounds: list[list[Job]] = []

    def interrupt() -> None:
        bench.queue.before_send = lambda: None
        rounds.append(other.continue_backfills(bench.queue, in_time=iter([True, False]).__next__))

    bench.queue.before_send = interrupt
    (left,) = bench.turn()
    assert left.cursor is None, "the slower one found out and went"
    assert rounds[0][0].cursor == "orders/003" and bench.job() == rounds[0][0]
    assert bench.run().state == "done"
    assert bench.contents() == bench.rebuilt()


def test_pause_resume_and_cancel() -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    bench.turn(2)
    assert bench.engine.jobs.pause("orders").state == "paused"
    assert bench.turn() == [] and len(bench.queue.visible) == 2
    bench.queue.work_off(bench.engine)
    assert bench.engine.jobs.pause("orders").state == "paused", "twice is once"
    with pytest.raises(BackfillError, match="is paused: resume it, or cancel it first"):
        bench.engine.start_backfill("orders")
    assert bench.engine.jobs.resume("orders").cursor == "orders/007"
    bench.turn(1)
    assert bench.engine.jobs.cancel("orders").state == "cancelled"
    assert bench.turn() == []
    for command in (bench.engine.jobs.pause, bench.engine.jobs.resume):
        with pytest.raises(BackfillError, match="is cancelled"):
            command("orders")
    assert bench.engine.start_backfill("orders").cursor is None
    assert bench.run().state == "done"
    assert bench.contents() == bench.rebuilt()


@pytest.mark.parametrize(("command", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_command_stops_the_turn_that_runs(command: str, state: str) -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")

    def order() -> None:
        bench.queue.before_send = lambda: None
        getattr(bench.engine.jobs, command)("orders")

    bench.queue.before_send = order
    bench.turn()
    assert len(bench.queue.visible) == 1, "the page it was sending, and no more"
    assert bench.job().state == state, "no turn takes a command back"


@pytest.mark.parametrize(("command", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_command_stops_the_turn_that_waits(command: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "AHEAD_MAX", 1)
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        getattr(bench.engine.jobs, command)("orders")

    monkeypatch.setattr(bench.runtime, "sleep", wait)
    bench.engine.continue_backfills(bench.queue, in_time=lambda: len(waits) < 3)
    assert (len(waits), bench.job().state) == (1, state)


def test_commands_need_a_job() -> None:
    bench = Deployed(0)
    for command in (bench.engine.jobs.pause, bench.engine.jobs.resume, bench.engine.jobs.cancel):
        with pytest.raises(BackfillError, match="has no backfill: start one"):
            command("orders")
    with pytest.raises(TableNotFoundError):
        bench.engine.start_backfill("nothing")
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(BackfillError, match="has to be positive"):
            bench.engine.start_backfill("orders", rate=rate)
    with pytest.raises(BucketdexError, match="no key of table"):
        bench.engine.start_backfill("orders", prefix="photos/")
    assert bench.engine.jobs.load("orders") is None


def test_a_deployment_leaves_a_backfill_under_way_alone() -> None:
    bench = Deployed(14)
    started = bench.engine.start_backfill("orders", renew=False)
    bench.turn(2)
    again = bench.engine.start_backfill("orders", renew=False)
    assert (again.id, again.cursor) == (started.id, "orders/007")
    bench.run()
    assert bench.engine.start_backfill("orders", renew=False).id != started.id


def test_it_keeps_only_so_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "AHEAD_MAX", 2)
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    bench.turn()
    assert len(bench.queue.visible) == 2
    bench.queue.hidden.append(bench.queue.visible.pop())
    bench.turn()
    assert bench.queue.depth() == (1, 1), "what is being worked on counts"
    bench.queue.visible.append(bench.queue.hidden.pop())
    assert bench.run().state == "done"


def test_a_rate_is_kept() -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders", rate=0.2)  # pages of two keys, each ten seconds
    sent: list[float] = []
    bench.queue.before_send = lambda: sent.append(bench.runtime.now())
    bench.engine.continue_backfills(bench.queue, in_time=lambda: len(bench.queue.visible) < 7)
    assert [len(due) for _, due in bench.queue.visible] == [2] * 7
    assert all(10 <= later - sooner <= 10 + turn.POLL_S for sooner, later in pairwise(sent))


def test_force_sends_everything_once() -> None:
    bench = Deployed(6)
    bench.apply(*(f"orders/{i:03d}" for i in range(6)))
    bench.engine.start_backfill("orders", force=True)
    job = bench.run()
    assert (job.state, job.number, job.sent) == ("done", 2, 6)


@pytest.mark.parametrize("ends", ["worked off", "fails", "fails, then is mended"])
def test_what_fails_of_a_forced_pass_is_said(ends: str) -> None:
    """No later pass would find it: it looks the same."""
    bench = Deployed(6)
    bench.apply(*(f"orders/{i:03d}" for i in range(6)))
    bench.engine.start_backfill("orders", force=True)
    bench.turn()
    bench.queue.hidden = [bench.queue.visible.pop(0)]
    bench.queue.work_off(bench.engine)
    while not bench.job().is_over and bench.runtime.now() < bench.job().sent_at + turn.PATIENCE_S - 60:
        bench.turn()
        assert bench.job().number == 1
    if ends == "worked off":
        bench.queue.hidden = []
        assert bench.run().state == "done"
        return
    bench.turn()
    assert (bench.job().state, bench.job().number) == ("failed", 1)
    assert "1 messages have been failing for 20 minutes" in str(bench.job().error)
    bench.engine.jobs.resume("orders")
    bench.turn()
    assert bench.job().state == "failed"
    if ends != "fails":
        bench.queue.hidden = []
        bench.engine.jobs.resume("orders")
        assert bench.run().state == "done"


def other_table(bench: Deployed, objects: int, name: str = "big") -> None:
    source = {"prefix": f"{name}/", "format": "ndjson"}
    bench.engine.define(TableDefinition.from_dict(name, DEFINITION.to_dict() | {"source": source}))
    for i in range(objects):
        bench.data.put(f"{name}/{i:05d}", b"")
    bench.runtime.clock += 3_600


def test_a_forced_pass_waits_as_long_as_messages_may_be_others() -> None:
    bench = Deployed(2)
    other_table(bench, 1)
    bench.apply("orders/000", "orders/001")
    bench.engine.start_backfill("orders", force=True)
    bench.turn()
    bench.queue.hidden, bench.queue.visible = bench.queue.visible, []
    bench.runtime.clock += turn.PATIENCE_S / 2
    bench.engine.start_backfill("big", force=True)
    bench.turn()
    bench.queue.visible = []
    bench.runtime.clock += turn.PATIENCE_S / 2
    bench.turn()
    assert bench.job().state == "running"
    bench.runtime.clock += turn.PATIENCE_S / 2
    assert [job.state for job in bench.turn()] == ["failed", "failed"]


def test_a_small_backfill_does_not_wait_for_the_end_of_a_large_one() -> None:
    bench = Deployed(3)
    other_table(bench, 4_000)
    bench.engine.start_backfill("big")
    bench.engine.start_backfill("orders")
    began = bench.runtime.now()
    while not bench.job().is_over:
        bench.turn(3)
        bench.queue.work_off(bench.engine, 2)
        assert bench.runtime.now() < began + 2 * turn.PATIENCE_S
    big = bench.engine.jobs.load("big")
    assert bench.job().state == "done" and big is not None and not big.job.is_over


def test_backfills_take_turns_with_the_room_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "AHEAD_MAX", 1)
    bench = Deployed(14)
    other_table(bench, 100)
    bench.engine.start_backfill("big")
    bench.engine.start_backfill("orders")
    rounds = iter(range(6))

    def in_time() -> bool:
        bench.queue.work_off(bench.engine, 1)
        return next(rounds, None) is not None

    bench.engine.continue_backfills(bench.queue, in_time=in_time)
    big = bench.engine.jobs.load("big")
    assert big is not None and (big.job.sent, bench.job().sent) == (3 * PAGE, 3 * PAGE)


def test_passes_that_find_nothing_left_are_no_stalled_ones() -> None:
    def stalled(left: int, before: int | None, **options: bool) -> int:
        return a_job(left=left, left_last_pass=before, stalled=1).next_pass(1.0, **options).stalled

    assert [stalled(0, 0), stalled(1, 2), stalled(3, None), stalled(2, 2), stalled(3, 2)] == [0, 0, 0, 2, 2]
    assert stalled(2, 2, worked_off=False) == 1


def test_messages_that_wait_for_indexers_that_are_stopped_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "AHEAD_MAX", 12)
    bench = Deployed(3)
    bench.engine.start_backfill("orders")
    for _ in range(20):
        bench.runtime.clock += turn.PATIENCE_S
        bench.turn()
    assert bench.job().state == "running" and len(bench.queue.visible) == 12, "and it sends no end of them"
    assert bench.run().state == "done"


def test_a_table_that_is_of_other_objects_now_is_begun_anew() -> None:
    """One without objects is redefined as it is, and the keys that the cursor has passed were others."""
    for turns in (1, 3, None):
        bench = Deployed(0)
        for i in range(6):
            bench.put(f"archive/{i}", documents(bench.random, 2))
        for i in range(30):
            bench.put(f"orders/{i:02d}.tmp", documents(bench.random, 1))
        sources = [{"key": "orders/{id2}.ndjson"}, {"prefix": "archive/"}]
        first, second = (
            TableDefinition.from_dict("orders", DEFINITION.to_dict() | {"source": {"format": "ndjson"} | source})
            for source in sources
        )
        bench.engine.define(first)
        bench.runtime.clock = max(item.last_modified for item in bench.data.list("")) + 3_600
        bench.engine.start_backfill("orders")
        if turns is not None:
            bench.turn(turns)
            before = bench.job()
            bench.engine.define(second)
            bench.turn(2)  # the first of which finds out
            assert (bench.job().listed, bench.job().id) == (
                PAGE,
                before.id,
            ) and bench.job().started_at > before.started_at
        else:  # after its last page
            load = bench.engine.jobs.load

            def late(table: str, *cached: Any, bench: Deployed = bench, load: Any = load, second: Any = second) -> Any:
                found = load(table, *cached)
                if found.job.walked:
                    bench.engine.jobs.load = load  # type: ignore[method-assign]
                    bench.engine.define(second)
                return found

            bench.engine.jobs.load = late  # type: ignore[method-assign]
        job = bench.run()
        assert (job.state, job.sent, job.started_at > bench.runtime.now() - 3_600) == ("done", 6, True)
        snapshot = Snapshot(bench.index, bench.engine.load("orders").manifest, second, BlockCache())
        assert len(list(snapshot.scan("objects", None, None))) == 6


def test_one_that_is_over_keeps_no_key() -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    bench.turn(2)
    assert bench.engine.jobs.pause("orders").cursor == "orders/007", "to go on from"
    bench.engine.jobs.resume("orders")
    assert bench.run().cursor is None
    bench.engine.start_backfill("orders")
    bench.turn(2)
    assert bench.engine.jobs.cancel("orders").cursor is None
    assert b"orders/0" not in bench.index.get(GetRequest(backfill_path("orders"))).body


def test_a_sweep_of_a_dropped_table_leaves_no_key_beside_it() -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    bench.turn(2)
    bench.engine.jobs.pause("orders")
    bench.index.put(round_path("orders"), b'{"last_key": "orders/003"}')
    bench.engine.sweep("orders")
    assert bench.job().state == "paused"
    bench.engine.drop_table("orders")
    bench.engine.sweep("orders")
    assert (bench.job().state, bench.job().cursor) == ("cancelled", None)
    assert list(bench.index.list(round_path("orders"))) == []


def test_an_unexpected_error_ends_one_turn_of_one_backfill_and_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Deployed(3)
    other_table(bench, 2)
    bench.engine.start_backfill("big")
    bench.engine.start_backfill("orders")
    send = bench.queue.send

    def fails(job: str, table: str, due: Sequence[Listed]) -> None:
        if table == "big":
            raise ValueError("a bug")
        send(job, table, due)

    monkeypatch.setattr(bench.queue, "send", fails)
    for _ in range(2):
        with pytest.raises(ValueError, match="a bug"):
            bench.turn()
        big = bench.engine.jobs.load("big")
        assert big is not None and (big.job.state, big.job.error) == ("running", "ValueError: a bug")
        bench.queue.work_off(bench.engine)
    assert bench.job().state == "done"
    monkeypatch.undo()
    bench.turn()
    assert [table for table, _ in bench.queue.visible] == ["big"]


def test_an_object_that_is_no_job_keeps_no_other_from_its_turn() -> None:
    bench = Deployed(3)
    bench.engine.start_backfill("orders")
    for body in (b"", b"[]", b"\xff", b'{"id": 7}'):
        bench.index.put(backfill_path("aaa"), body)
        with pytest.raises(BackfillError, match=r"backfills/aaa.json holds no backfill \(.*delete it, then start one"):
            bench.turn()
    assert bench.job().sent == 3


def test_a_prefix_narrows_it() -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders", prefix="orders/01")
    assert bench.run().sent == 4
    assert [line.count(b"orders/01") for line in bench.contents()["objects"]] == [1] * 4


def test_uploads_meanwhile_are_left_to_their_events() -> None:
    bench = Deployed(6)
    bench.engine.start_backfill("orders")
    bench.turn()
    bench.queue.work_off(bench.engine)
    job = msgspec.structs.replace(bench.job(), started_at=bench.runtime.clock - 7_200)  # as if it had begun before
    bench.engine.jobs.change("orders", lambda _: job)
    bench.put("orders/young", documents(bench.random, 2))
    bench.turn()
    assert (bench.job().state, bench.job().due, bench.job().left) == ("done", 1, 0)
    bench.queue.work_off(bench.engine)
    assert bench.contents() == bench.rebuilt(), "it was sent all the same"


def test_what_cannot_be_read_is_due_in_the_first_pass_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from bucketdex.errors import UnreadableObjectError

    bench = Deployed(3)
    opened = bench.data.open

    def archived(key: str, **options: Any) -> Any:
        if key == "orders/001":
            raise UnreadableObjectError("archived")
        return opened(key, **options)

    monkeypatch.setattr(bench.data, "open", archived)
    for _ in range(2):
        bench.engine.start_backfill("orders")
        assert bench.run().state == "done"


def test_failing_messages_end_it_in_the_end_and_a_fix_lets_it_go_on() -> None:
    bench = Deployed(3)
    bench.engine.start_backfill("orders")
    for number in range(1, turn.STALLED_MAX + 1):
        bench.turn()
        assert (bench.job().number, bench.job().state) == (number, "running")
        bench.queue.hidden = bench.queue.visible[-1:]  # it fails, and waits for another try
        bench.queue.visible = []
        bench.turn()
        assert bench.job().number == number, "it might still succeed"
        bench.runtime.clock += turn.PATIENCE_S
    bench.turn()
    assert (bench.job().state, bench.job().left) == ("failed", 3)
    assert "3 objects stay unindexed: see the dead letters" in str(bench.job().error)
    bench.engine.jobs.resume("orders")
    assert bench.job().error is None
    bench.queue.hidden = []
    assert bench.run().state == "done"
    assert bench.contents() == bench.rebuilt()


def test_a_queue_that_counts_a_minute_late_costs_some_passes_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Deployed(3)
    bench.engine.start_backfill("orders")
    began = bench.runtime.now()
    passes: list[float] = []
    bench.queue.before_send = lambda: passes.append(bench.runtime.now() - began)
    monkeypatch.setattr(bench.queue, "depth", lambda: Depth(0, 0))
    bench.engine.continue_backfills(bench.queue, in_time=lambda: bench.runtime.now() < began + 60)
    assert bench.job().state == "running"
    assert len(passes) < 6, "each comes later than the one before"
    bench.queue.work_off(bench.engine)
    bench.engine.continue_backfills(bench.queue)
    assert bench.job().state == "done"


def test_a_passing_error_is_told_and_the_next_turn_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    bench.turn(1)
    listing = bench.data.list
    tries: list[str] = []

    def denied(prefix: str, **options: Any) -> Iterator[Listed]:
        tries.append(prefix)
        raise AccessDeniedError("403: no s3:ListBucket")

    monkeypatch.setattr(bench.data, "list", denied)
    bench.engine.continue_backfills(bench.queue)  # it ends by itself
    assert len(tries) == turn.FAILURES_MAX
    assert (bench.job().state, bench.job().error) == ("running", "AccessDeniedError: 403: no s3:ListBucket")
    monkeypatch.setattr(bench.data, "list", listing)
    assert bench.run().error is None
    assert bench.contents() == bench.rebuilt()


def test_a_dropped_table_ends_its_backfill() -> None:
    bench = Deployed(14)
    bench.engine.start_backfill("orders")
    bench.turn(1)
    bench.engine.drop_table("orders")
    bench.engine.continue_backfills(bench.queue)
    assert bench.job().state == "cancelled" and "was dropped" in str(bench.job().error)


def test_an_index_that_is_added_meanwhile_disturbs_nothing() -> None:
    from bucketdex.definition import TableDefinition

    bench = Deployed(14)
    bench.engine.start_backfill("orders")

    def define() -> None:
        bench.queue.before_send = lambda: None
        plain: dict[str, Any] = bench.engine.load("orders").manifest.definition
        more = plain | {"indexes": plain["indexes"] | {"by_country": ["country"]}}
        bench.engine.create_table(TableDefinition.from_dict("orders", more))

    bench.queue.before_send = define
    for _ in range(20):
        (job,) = bench.engine.continue_backfills(bench.queue, in_time=iter([True, True, False]).__next__)
        bench.queue.work_off(bench.engine)
        if job.is_over:
            break
    assert job.state == "done"
    assert len(bench.contents()["objects"]) == 14


class Flaky(ObjectStore):
    """An index bucket whose PUTs of jobs fail as told: before the effect, or after it."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner, self.url = inner, inner.url
        self.plan: list[str] = []

    def get(self, request: GetRequest) -> Any:
        return self.inner.get(request)

    def open(self, key: str, **options: Any) -> Any:
        return self.inner.open(key, **options)

    def put(self, key: str, body: bytes, **conditions: Any) -> str:
        fault = self.plan.pop(0) if self.plan and key.startswith("backfills/") else ""
        if fault == "before":
            raise StorageError("503 before the effect")
        etag = self.inner.put(key, body, **conditions)
        if fault == "after":
            raise PreconditionFailedError("412 of one's own success")
        return etag

    def delete_many(self, keys: Any) -> None:
        self.inner.delete_many(keys)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        return self.inner.list(prefix, start_after=start_after)

    def folders(self, prefix: str) -> Any:
        return self.inner.folders(prefix)

    def tags(self, key: str) -> dict[str, str]:
        return self.inner.tags(key)

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self


def a_job(**fields: Any) -> Job:
    return Job(**({"id": "1", "table": "t", "target": "t", "started_at": 1.0, "updated_at": 1.0} | fields))


@pytest.mark.parametrize("plan", [["before"], ["after"], ["before", "after"], ["before"] * 5])
def test_an_error_of_a_save_proves_nothing(plan: list[str]) -> None:
    store = Flaky(open_index_store("memory://"))
    jobs = JobStore(store, TestRuntime())
    store.plan = list(plan)
    first = jobs.save(None, a_job())
    store.plan = list(plan)
    second = jobs.save(first, a_job(cursor="x"))
    assert jobs.load("t") == second and second.job.cursor == "x"
    assert jobs.load("t", second) is second


def test_a_save_on_an_older_base_changes_nothing() -> None:
    store = Flaky(open_index_store("memory://"))
    jobs = JobStore(store, TestRuntime())
    first = jobs.save(None, a_job())
    with pytest.raises(JobChangedError):
        jobs.save(None, a_job(cursor="other"))
    second = jobs.save(first, a_job(cursor="x"))
    third = jobs.save(second, first.job)  # the same again: yet another write
    for base in (first, second):
        with pytest.raises(JobChangedError):
            jobs.save(base, a_job(cursor="late"))
    assert jobs.load("t") == third
    store.plan = ["before"] * 1000
    with pytest.raises(StorageError, match="is unknown"):
        jobs.save(third, a_job(cursor="late"))


def test_a_job_is_small_and_readable() -> None:
    store = open_index_store("memory://")
    JobStore(store, TestRuntime()).save(None, a_job(cursor="a"))
    plain = msgspec.json.decode(store.get(GetRequest(backfill_path("t"))).body)
    assert plain.keys() == {"id", "table", "target", "started_at", "updated_at", "write", "cursor"}


@pytest.mark.parametrize("seed", range(30))
def test_any_schedule_ends_in_a_rebuild(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that end or crash anywhere, two of them at once, commands, indexers that crash after a commit or before it,
    messages handed out twice and in any order, uploads and deletions meanwhile with late events.
    """
    r = random.Random(seed)
    monkeypatch.setattr(turn, "AHEAD_MAX", r.choice([1, 3, 400]))
    bench = Deployed(r.randrange(25), seed)
    bench.apply(*(item.key for item in bench.data.list("orders/") if r.random() < 0.3))
    events: list[str] = []
    engines = [bench.engine, Engine(bench.index, bench.data, TestRuntime(seed + 1), settings=TINY)]
    engines[1]._means.runtime.clock = bench.runtime.clock  # type: ignore[attr-defined]
    bench.engine.start_backfill("orders", force=r.random() < 0.2, rate=r.choice([None, None, 1.0]))

    class Crash(BaseException):
        pass

    def meanwhile() -> None:
        if r.random() < 0.15:
            raise Crash
        if r.random() < 0.3:
            bench.queue.before_send = lambda: None
            with_other = engines[1].continue_backfills(bench.queue, in_time=iter([True, True, False]).__next__)
            assert len(with_other) <= 1
            bench.queue.before_send = meanwhile

    for _ in range(60):
        act = r.random()
        bench.queue.before_send = meanwhile
        if act < 0.4:
            with suppress(Crash):
                bench.turn(r.randrange(6))
        elif act < 0.6 and bench.queue.visible:
            spot = r.randrange(len(bench.queue.visible))
            table, due = bench.queue.visible[spot]
            if r.random() < 0.8:  # else it crashes after the commit, and the message comes back
                bench.queue.visible.pop(spot)
            r.choice(engines).apply(table, [Event(listed.key) for listed in due])
        elif act < 0.75:
            key = f"orders/{r.randrange(30):03d}"
            if r.random() < 0.7:
                bench.put(key, documents(r, r.randrange(3)))
            else:
                bench.data.delete_many([key])
            events.append(key)
        elif act < 0.9 and events:
            r.choice(engines).apply("orders", [Event(events.pop(r.randrange(len(events))))])
        else:
            command = r.choice([bench.engine.jobs.pause, bench.engine.jobs.resume])
            with suppress(BackfillError):
                command("orders")
        bench.runtime.clock += r.choice([0, 1, 30])
    bench.queue.before_send = lambda: None
    if bench.job().state == "paused":
        bench.engine.jobs.resume("orders")
    if events:
        bench.apply(*events)
    for _ in range(100):
        if bench.job().is_over:
            break
        bench.runtime.clock += 60
        bench.turn()
        bench.queue.work_off(bench.engine)
    assert bench.job().state == "done", bench.job()
    bench.queue.work_off(bench.engine)
    assert bench.contents() == bench.rebuilt()
