"""Deployed backfills of a successor: a changed definition is read in by turns, beside traffic, and takes over by itself."""

from __future__ import annotations

import random
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from enginekit import DEFINITION, TINY, TestRuntime, contents, documents
from test_engine_backfill_jobs import Deployed

from bucketdex.definition import TableDefinition
from bucketdex.engine import Depth, Engine, Event, Settings, turn, walk
from bucketdex.engine.jobs import JobStore
from bucketdex.engine.successor import Successors
from bucketdex.errors import BackfillError, TableNotFoundError
from bucketdex.storage import open_index_store
from bucketdex.views import BlockCache, Snapshot

PAGE = 4


def changed(**fields: Any) -> TableDefinition:
    plain: dict[str, Any] = DEFINITION.to_dict()
    return TableDefinition.from_dict("orders", plain | {"fields": plain["fields"] | fields})


FLOATS = changed(items="float")
MORE = changed(items="float", note="string")


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PAGE_KEYS", PAGE)


class Redefined(Deployed):
    """A deployed bench whose objects are indexed by the first definition."""

    def __init__(self, objects: int = 14, seed: int = 1) -> None:
        super().__init__(objects, seed)
        for item in list(self.data.list("orders/")):
            self.apply(item.key)

    def register(self, definition: TableDefinition) -> None:
        """What a deployment does."""
        self.engine.define(definition, managed_by="Shop")
        self.engine.follow_successor("orders")

    def now(self) -> dict[str, Any]:
        manifest = self.engine.load("orders").manifest
        definition = TableDefinition.from_dict("orders", manifest.definition)
        return contents(Snapshot(self.index, manifest, definition, BlockCache()))

    def anew(self, definition: TableDefinition) -> dict[str, Any]:
        index = open_index_store("memory://")
        fresh = Engine(index, self.data, TestRuntime(99), settings=Settings())
        fresh.define(definition)
        keys = [listed.key for listed in self.data.list("orders/")]
        if keys:
            assert not fresh.apply("orders", [Event(key) for key in keys]).failed
        return contents(Snapshot(index, fresh.load("orders").manifest, definition, BlockCache()))


def test_a_changed_field_is_read_in_and_takes_over() -> None:
    bench = Redefined(14)
    bench.register(FLOATS)
    before = bench.now()
    job = bench.job()
    assert (job.table, job.target, job.state) == ("orders", bench.engine.successor("orders"), "running")
    bench.turn()
    assert {table for table, _ in bench.queue.visible} == {job.target}
    assert bench.now() == before, "queries go on with the old definition"
    assert bench.run().state == "done"
    assert bench.engine.successor("orders") is None
    assert bench.engine.load("orders").manifest.definition == FLOATS.to_dict()
    assert bench.now() == bench.anew(FLOATS)


def test_deploying_again_leaves_it_alone_and_another_change_begins_anew() -> None:
    bench = Redefined(14)
    bench.register(FLOATS)
    bench.turn(2)
    first = bench.job()
    bench.register(FLOATS)
    assert bench.job() == first
    bench.register(MORE)
    second = bench.job()
    assert (second.id != first.id, second.cursor, second.target) == (True, None, bench.engine.successor("orders"))
    assert bench.run().state == "done"  # among its pages are those of the one that was given up
    assert bench.now() == bench.anew(MORE)
    assert bench.engine.follow_successor("orders") is None


def test_going_back_ends_it() -> None:
    bench = Redefined(14)
    bench.register(FLOATS)
    bench.turn(2)
    bench.register(DEFINITION)
    assert bench.engine.successor("orders") is None and bench.job().state == "cancelled"
    bench.queue.work_off(bench.engine)
    assert bench.turn() == [] and bench.now() == bench.anew(DEFINITION)


@pytest.mark.parametrize("turns", [0, 1, 9])
def test_a_successor_that_others_put_in_place_or_gave_up_ends_it(turns: int) -> None:
    for end, state in (("build_successor", "done"), ("abandon", "cancelled"), ("drop_table", "cancelled")):
        bench = Redefined(14)
        bench.register(FLOATS)
        bench.turn(turns)
        if end == "drop_table":
            bench.engine.drop_table("orders", managed_by="Shop")
        elif end == "abandon":
            assert bench.engine._successors.abandon("orders", str(bench.engine.successor("orders")))
        else:
            bench.engine.build_successor("orders")
        bench.queue.work_off(bench.engine)
        bench.turn()
        assert bench.job().state == state, end
        assert ("was given up" in str(bench.job().error)) == (end != "build_successor"), end


def test_a_turn_between_the_steps_of_a_deployment_that_goes_back_says_that_it_was_given_up() -> None:
    bench = Redefined(14)
    bench.register(FLOATS)
    bench.turn(2)
    bench.engine.define(DEFINITION, managed_by="Shop")
    bench.turn()
    job = bench.job()
    assert (job.state, job.left > 0) == ("cancelled", True) and f"{job.target} was given up" in str(job.error)
    assert bench.engine.follow_successor("orders") is None and bench.job() == job


def test_a_promotion_is_known_after_the_next_successor_was_announced() -> None:
    bench = Redefined(3)
    bench.register(FLOATS)
    bench.engine.build_successor("orders")
    bench.engine.define(MORE, managed_by="Shop")
    assert bench.engine._backfills._finished(bench.job()).state == "done"
    assert bench.engine.load("orders").manifest.promoted == bench.job().target


def test_a_table_whose_manifest_is_missing_keeps_no_other_from_its_backfill() -> None:
    bench = Redefined(3)
    zebra = TableDefinition.from_dict("zebra", DEFINITION.to_dict() | {"source": {"prefix": "z/", "format": "ndjson"}})
    bench.engine.define(zebra)
    bench.put("z/1", documents(bench.random, 2))
    bench.register(FLOATS)
    bench.engine.start_backfill("zebra")
    bench.index.delete_many([listed.key for listed in bench.index.list("tables/orders")])
    bench.turn()
    assert bench.job().state == "cancelled" and "there is no table 'orders'" in str(bench.job().error)
    assert [table for table, _ in bench.queue.visible] == ["zebra"]


def test_it_waits_for_a_queue_that_counts_late_before_it_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of a young overwrite still waits when SQS says that nothing does."""
    bench = Redefined(6)
    bench.register(FLOATS)
    bench.turn()
    bench.queue.work_off(bench.engine)
    bench.engine.jobs.change("orders", lambda job: _began(job, bench.runtime.clock - 7_200))
    bench.put("orders/000", documents(bench.random, 2))
    bench.put("orders/young", documents(bench.random, 2))
    monkeypatch.setattr(bench.queue, "depth", lambda: Depth(0, 0))
    bench.turn()
    bench.turn()
    assert (bench.job().state, bench.job().due, bench.job().left) == ("running", 2, 0)
    assert bench.runtime.now() < bench.job().sent_at + turn.LAG_S and bench.queue.visible
    bench.queue.work_off(bench.engine)
    assert bench.run().state == "done"
    assert bench.now() == bench.anew(FLOATS)


@pytest.mark.parametrize("step", ["load", "_live", "save"])
def test_a_start_that_a_deployment_crosses_leaves_its_backfill_alone(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor is announced, and its job started, after one of the steps or right before the last."""
    bench = Redefined(14)
    bench.register(DEFINITION)
    place: Any = bench.engine._backfills if step == "_live" else bench.engine.jobs
    act = getattr(place, step)

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        found = None if step == "save" else act(*arguments)
        bench.register(FLOATS)
        return act(*arguments) if step == "save" else found

    monkeypatch.setattr(place, step, late)
    with pytest.raises(BackfillError, match="is running: cancel it first"):
        bench.engine.start_backfill("orders")
    assert bench.job().target == bench.engine.successor("orders")
    assert bench.run().state == "done"
    assert bench.now() == bench.anew(FLOATS)


def test_a_start_that_a_promotion_crosses_is_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Redefined(3)
    bench.engine.define(FLOATS)
    name = bench.engine.successor("orders")
    load = bench.engine._manifests.load

    def late(table: str, **options: Any) -> Any:
        if table == name:
            monkeypatch.undo()
            bench.engine.build_successor("orders")
        return load(table, **options)

    monkeypatch.setattr(bench.engine._manifests, "load", late)
    assert bench.engine.start_backfill("orders").target == "orders"


@pytest.mark.parametrize("before", ["nothing", "a backfill that is over", "a backfill of the table", "another's"])
def test_a_successor_that_nobody_fills_is_taken_up_by_a_turn(before: str) -> None:
    """A deployment died between announcing it and starting its job."""
    bench = Redefined(14)
    bench.engine.define(DEFINITION, managed_by="Shop")
    if before == "another's":
        bench.register(MORE)
    elif before != "nothing":
        bench.engine.start_backfill("orders")
        bench.turn(None if before == "a backfill that is over" else 1)
    bench.engine.define(FLOATS, managed_by="Shop")
    bench.turn(1)
    assert bench.job().target == bench.engine.successor("orders")
    assert bench.run().state == "done"
    assert bench.now() == bench.anew(FLOATS)


def test_what_was_cancelled_or_is_of_no_stack_is_not_taken_up() -> None:
    bench = Redefined(14)
    bench.engine.define(FLOATS)
    assert bench.turn() == [] and bench.engine.jobs.load("orders") is None
    bench.register(FLOATS)
    bench.engine.cancel_backfill("orders")
    assert bench.turn() == [] and bench.job().state == "cancelled"
    assert bench.engine.successor("orders") is not None, "it is a deployment's"


def test_a_cancel_that_a_deployment_crosses_gives_up_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for of, place, cancelled in ((Successors, "abandon", True), (JobStore, "cancel", False)):
        bench = Redefined(14)
        bench.register(DEFINITION)
        bench.engine.rebuild("orders")
        bench.engine.start_backfill("orders", renew=False)
        act = getattr(of, place)

        def late(self: Any, *arguments: Any, bench: Redefined = bench, act: Any = act) -> Any:
            monkeypatch.undo()
            monkeypatch.setattr(walk, "PAGE_KEYS", PAGE)
            bench.register(MORE)
            return act(self, *arguments)

        monkeypatch.setattr(of, place, late)
        with nullcontext() if cancelled else pytest.raises(BackfillError, match="another backfill of orders was start"):
            bench.engine.cancel_backfill("orders")
        assert bench.job().target == bench.engine.successor("orders")
        assert bench.run().state == "done"
        assert bench.now() == bench.anew(MORE)


def test_a_cancel_gives_up_a_rebuild_that_has_no_backfill() -> None:
    bench = Redefined(3)
    with pytest.raises(BackfillError, match="has no backfill: start one"):
        bench.engine.cancel_backfill("orders")
    bench.engine.rebuild("orders")
    assert bench.engine.cancel_backfill("orders") is None
    assert bench.engine.successor("orders") is None
    bench.register(DEFINITION)
    bench.engine.start_backfill("orders")
    bench.run()
    bench.engine.rebuild("orders")
    assert bench.engine.cancel_backfill("orders") is None and bench.job().state == "done"
    assert bench.engine.successor("orders") is None


def test_a_prefix_is_not_enough_for_it_and_a_start_is_of_it() -> None:
    bench = Redefined(14)
    bench.engine.define(FLOATS)
    with pytest.raises(BackfillError, match="from all of its objects: start it without a prefix"):
        bench.engine.start_backfill("orders", prefix="orders/00")
    assert bench.engine.start_backfill("orders").target == bench.engine.successor("orders")


def test_uploads_meanwhile_are_there_when_it_takes_over() -> None:
    """Their events are late: pages bring them, before it takes over, or its table would lack what it had before."""
    bench = Redefined(6)
    bench.register(FLOATS)
    bench.engine.jobs.change("orders", lambda job: _began(job, bench.runtime.clock - 7_200))
    bench.put("orders/000", documents(bench.random, 2))
    bench.put("orders/young", documents(bench.random, 2))
    for _ in range(10):
        bench.turn()
        if bench.job().is_over:
            break
        assert bench.engine.successor("orders") is not None
        bench.queue.work_off(bench.engine)
    assert bench.job().state == "done"
    assert bench.now() == bench.anew(FLOATS)


def _began(job: Any, at: float) -> Any:
    import msgspec

    return msgspec.structs.replace(job, started_at=at)


def test_it_waits_for_views_that_are_still_built() -> None:
    bench = Redefined(14)
    bench.register(FLOATS)
    bench.turn(2)
    bench.queue.work_off(bench.engine)
    plain: dict[str, Any] = FLOATS.to_dict()
    indexed = TableDefinition.from_dict("orders", plain | {"indexes": plain["indexes"] | {"by_country": ["country"]}})
    bench.register(indexed)
    for _ in range(5):
        bench.turn()
        bench.queue.work_off(bench.engine)
    successor = bench.engine.successor("orders")
    assert bench.job().state == "running" and successor == bench.job().target
    bench.engine.compact(successor, mode="tiered")
    assert bench.run().state == "done"
    assert bench.now() == bench.anew(indexed)


def test_a_turn_that_dies_after_the_swap_is_finished_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Redefined(6)
    bench.register(FLOATS)
    bench.turn()
    bench.queue.work_off(bench.engine)

    class Crash(BaseException):
        pass

    promote = bench.engine._promoter.promote

    def dies(table: str, successor: str) -> bool:
        assert promote(table, successor)
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(bench.engine._promoter, "promote", dies)
        bench.turn()
    assert bench.job().state == "running" and bench.engine.successor("orders") is None
    assert bench.run().state == "done"
    assert bench.now() == bench.anew(FLOATS)


@pytest.mark.parametrize("seed", range(14))
def test_any_schedule_ends_in_a_rebuild_by_the_last_definition(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that end or crash anywhere, two at once, deployments that change their mind, messages in any order and
    twice, uploads and deletions with late events, compactions and sweeps; whatever an event brought stays.
    """
    r = random.Random(seed)
    monkeypatch.setattr(turn, "AHEAD_MAX", r.choice([1, 3, 400]))
    bench = Redefined(r.randrange(16), seed)
    other = Engine(bench.index, bench.data, TestRuntime(seed + 1), settings=TINY)
    other._means.runtime.clock = bench.runtime.clock  # type: ignore[attr-defined]
    events: list[str] = []

    class Crash(BaseException):
        pass

    def meanwhile() -> None:
        if r.random() < 0.15:
            raise Crash
        if r.random() < 0.2:
            bench.queue.before_send = lambda: None
            other.continue_backfills(bench.queue, in_time=iter([True, True, False]).__next__)
            bench.queue.before_send = meanwhile

    def apply(key: str) -> None:
        r.choice([bench.engine, other]).apply("orders", [Event(key)])
        known = {line for line in bench.now()["objects"] if b'"%s"' % key.encode() in line}
        there = any(item.key == key for item in bench.data.list(key))
        assert bool(known) == there, f"{key}: its event has been applied"

    def deploy(definition: TableDefinition) -> None:
        bench.engine.define(definition, managed_by="Shop")
        if r.random() < 0.5:  # else it died
            bench.engine.follow_successor("orders")

    bench.register(FLOATS)
    for _ in range(50):
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
            with nullcontext() if table == "orders" else suppress(TableNotFoundError):  # as the indexer does
                r.choice([bench.engine, other]).apply(table, [Event(listed.key) for listed in due])
        elif act < 0.75:
            key = f"orders/{r.randrange(20):03d}"
            if r.random() < 0.7:
                bench.put(key, documents(r, r.randrange(3)))
            else:
                bench.data.delete_many([key])
            events.append(key)
        elif act < 0.9 and events:
            apply(events.pop(r.randrange(len(events))))
        elif act < 0.93:
            deploy(r.choice([FLOATS, MORE, DEFINITION]))
        else:
            bench.engine.compact("orders", mode="tiered")
            bench.engine.sweep("orders")
        bench.runtime.clock += r.choice([0, 1, 30])
    bench.queue.before_send = lambda: None
    last = r.choice([FLOATS, MORE])
    deploy(last)
    for key in events:
        apply(key)
    for _ in range(100):
        bench.runtime.clock += 60
        bench.turn()
        if bench.engine.successor("orders") is None:
            break
        bench.queue.work_off(bench.engine)
    bench.queue.work_off(bench.engine)
    saved = bench.engine.jobs.load("orders")
    assert saved is None or saved.job.state in ("done", "cancelled"), saved
    assert bench.engine.load("orders").manifest.definition == last.to_dict()
    assert bench.now() == bench.anew(last)
