"""Backfill and verify: whatever the index has missed is found and mended; the oracle is a rebuild from the bucket."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, TestRuntime, documents, read_in_blocks

from bucketdex.definition import TableDefinition
from bucketdex.engine import Backfilled, Difference, Engine, Event, Settings, Verified, backfill, walk
from bucketdex.engine.runs import RunSink
from bucketdex.errors import (
    AccessDeniedError,
    BucketdexError,
    CommitGaveUpError,
    ObjectChangedError,
    SnapshotExpiredError,
    StorageError,
    TableChangedError,
    TableNotFoundError,
    UnreadableObjectError,
)
from bucketdex.storage import CountingStore, ObjectStore, open_data_store, open_index_store
from bucketdex.views import RECORDS, Snapshot, View
from bucketdex.views.merge import Entries

ODD = ["orders/é", "orders/￿", "orders/\U00010000", "orders/z", "orders/a.b", "orders/a/b", "orders/a-b"]


class Hooked(ObjectStore):
    """A bucket that does something before it opens an object or lists."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner, self.url = inner, inner.url
        self.before_open: Callable[[str], None] = lambda key: None
        self.keys: list[str] | None = None

    def get(self, request: Any) -> Any:
        return self.inner.get(request)

    def open(self, key: str, **options: Any) -> Any:
        self.before_open(key)
        return self.inner.open(key, **options)

    def put(self, key: str, body: bytes, **conditions: Any) -> str:
        return self.inner.put(key, body, **conditions)

    def delete_many(self, keys: Any) -> None:
        self.inner.delete_many(keys)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Any]:
        listed = list(self.inner.list(prefix, start_after=start_after))
        if self.keys is not None:
            listed = sorted(listed, key=lambda item: self.keys.index(item.key))
        return iter(listed)

    def folders(self, prefix: str) -> Any:
        return self.inner.folders(prefix)

    def tags(self, key: str) -> dict[str, str]:
        return self.inner.tags(key)

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self


def filled(objects: int = 30, seed: int = 1, settings: Settings = TINY) -> Bench:
    """A bucket of objects that no event ever told of."""
    bench = Bench(seed, settings)
    r = random.Random(seed)
    for i in range(objects):
        bench.put(f"orders/{i:03d}", documents(r, r.randrange(6)))
    return bench


def hooked(bench: Bench) -> Hooked:
    store = Hooked(bench.data)
    bench.engine = Engine(bench.index, store, bench.runtime, settings=bench.settings)
    return store


def kinds(found: Verified) -> dict[str, str]:
    return {difference.key: difference.kind for difference in found.differences}


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PAGE_KEYS", 7)
    monkeypatch.setattr(backfill, "BATCH_KEYS", 4)


# Backfill


@pytest.mark.usefixtures("small_pages")
def test_objects_that_were_there_before_are_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_blocks(monkeypatch)
    bench = filled()
    for key in ODD:
        bench.put(key, documents(random.Random(key), 2))
    bench.data.put("elsewhere/x", b"{}")
    done = bench.engine.backfill("orders")
    assert (done.listed, done.due, done.applied, done.unchanged, done.failures) == (37, 37, 37, 0, 0)
    assert bench.contents() == bench.rebuilt()
    assert done.last_key == "orders/\U00010000"
    assert bench.engine.debt(bench.engine.load("orders").manifest) == [], "what it piled up is folded"
    again = bench.engine.backfill("orders")
    assert (again.due, again.applied, again.unchanged, again.commits) == (0, 0, 37, 0)
    assert bench.engine.backfill("orders", force=True).applied == 37
    assert bench.contents() == bench.rebuilt()


def test_stale_objects_are_applied_and_copies_with_the_same_etag() -> None:
    bench = filled(4)
    bench.engine.backfill("orders")
    body = [{"id": "new", "created_at": "2026-01-01T00:00:00Z"}]
    bench.put("orders/001", body)
    # As a copy onto itself leaves it: the same ETag, a later time.
    with_time(bench, "orders/002", seconds=5)
    done = bench.engine.backfill("orders")
    assert (done.due, done.applied, done.unchanged) == (2, 2, 2)
    assert bench.contents() == bench.rebuilt()


def with_time(bench: Bench, key: str, seconds: float) -> None:
    """Makes the listing tell another time of an object than its row, as if its event had been lost."""
    inner = bench.data
    store = hooked(bench)
    plain = inner.list

    def listing(prefix: str, *, start_after: str | None = None) -> Iterator[Any]:
        for item in plain(prefix, start_after=start_after):
            yield item._replace(last_modified=item.last_modified + seconds) if item.key == key else item

    store.list = listing  # type: ignore[method-assign]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("calls", [1, 9, 14, 26])
def test_interrupted_and_run_again(calls: int) -> None:
    bench = filled()
    store = hooked(bench)
    seen: list[Backfilled] = []
    left = [calls]

    def fail(key: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    store.before_open = fail
    with pytest.raises(KeyboardInterrupt):
        bench.engine.backfill("orders", progress=lambda done: seen.append(msgspec.structs.replace(done)))
    store.before_open = lambda key: None
    last = seen[-1].last_key if seen else None
    before = bench.snapshot().count("objects", None, None)
    assert before == (seen[-1].applied if seen else 0)
    rest = bench.engine.backfill("orders", start_after=last)
    assert rest.listed == 30 - before and rest.unchanged == 0, "all keys up to last_key are done"
    assert bench.contents() == bench.rebuilt()


@pytest.mark.usefixtures("small_pages")
def test_beside_live_traffic() -> None:
    """Puts, deletes and their events between the readings of a backfill, by another engine."""
    bench = filled()
    store = hooked(bench)
    live = Engine(bench.index, bench.data, TestRuntime(7), settings=TINY)
    r = random.Random(3)
    calls = [0]

    def traffic(opened: str) -> None:
        calls[0] += 1
        if calls[0] % 3 == 0:
            return
        key = opened if calls[0] % 3 == 1 else f"orders/{r.randrange(36):03d}"
        if r.random() < 0.3:
            bench.data.delete_many([key])
        else:
            bench.put(key, documents(r, 3))
        live.apply("orders", [Event(key)])

    store.before_open = traffic
    done = bench.engine.backfill("orders")
    store.before_open = lambda key: None
    assert calls[0] > 30 and not done.failures
    assert bench.contents() == bench.rebuilt()


def test_a_rate_is_kept() -> None:
    bench = filled(30, settings=Settings())
    start = bench.runtime.clock
    assert bench.engine.backfill("orders", rate=4).applied == 30
    assert 5 <= bench.runtime.clock - start <= 30 / 4
    slow = filled(5, settings=Settings())
    start = slow.runtime.clock
    slow.engine.backfill("orders", rate=0.5)
    assert slow.runtime.clock - start == 8


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(BucketdexError, match="positive"):
        filled(1).engine.backfill("orders", rate=rate)


def test_a_dry_run_changes_nothing_and_estimates_the_requests() -> None:
    bench = filled(600, settings=Settings())
    index, data = CountingStore(bench.index), CountingStore(bench.data)
    engine = Engine(index, data, bench.runtime, settings=Settings())
    told = engine.backfill("orders", dry_run=True)
    assert (told.due, told.applied, told.commits, told.last_key) == (600, 0, 0, "orders/599")
    assert told.due_bytes == sum(listed.size for listed in bench.data.list("orders/"))
    assert not {op for op, *_ in [*index.log, *data.log]} & {"put", "delete"}
    assert bench.engine.load("orders").manifest.generation == 1
    index.reset(), data.reset()
    engine.backfill("orders")
    ops = [op for op, *_ in [*index.log, *data.log]]
    writes = sum(op in ("put", "list") for op in ops)
    reads = len(ops) - writes
    assert reads / 2 <= told.reads_estimated <= 2 * reads
    assert writes / 2 <= told.writes_estimated <= 2 * writes, (writes, told.writes_estimated)
    assert told.dollars_estimated == pytest.approx(
        told.reads_estimated * 0.0004 / 1000 + told.writes_estimated * 0.005 / 1000
    )


def test_prefixes() -> None:
    bench = filled(30)
    assert bench.engine.backfill("orders", prefix="orders/01").applied == 10
    assert bench.engine.backfill("orders", prefix="ord", dry_run=True).due == 20
    with pytest.raises(BucketdexError, match="its keys start with 'orders/'"):
        bench.engine.backfill("orders", prefix="other/")
    with pytest.raises(TableNotFoundError):
        bench.engine.backfill("nothing")
    bench.engine.drop_table("orders")
    with pytest.raises(TableNotFoundError):
        bench.engine.backfill("orders")


def test_only_keys_of_the_template() -> None:
    data = open_data_store("memory://")
    engine = Engine(open_index_store("memory://"), data, TestRuntime())
    plain = {
        "source": {"key": "logs/{day}/{name}.json", "format": "json"},
        "fields": {"day": {"type": "string", "from": "key"}},
    }
    engine.define(TableDefinition.from_dict("logs", plain))
    for key in ("logs/1/a.json", "logs/1/a.txt", "logs/1/2/a.json", "logs/2/b.json"):
        data.put(key, b"{}")
    done = engine.backfill("logs")
    assert (done.listed, done.applied) == (2, 2)
    assert engine.verify("logs", deep=True).is_good


def test_failed_keys_are_named_and_found_again() -> None:
    bench = filled(10)
    store = hooked(bench)

    def deny(key: str) -> None:
        if key.endswith("3"):
            raise AccessDeniedError("no")

    store.before_open = deny
    done = bench.engine.backfill("orders")
    assert (done.applied, done.failures, list(done.failed)) == (9, 1, ["orders/003"])
    store.before_open = lambda key: None
    assert bench.engine.backfill("orders").applied == 1
    assert bench.contents() == bench.rebuilt()


def test_a_batch_that_lost_is_sent_again_and_not_for_ever() -> None:
    bench = filled(3)
    backfiller = bench.engine._backfiller
    plain, left = backfiller._applier.apply, [3]

    def losing(table: str, events: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise CommitGaveUpError("lost")
        return plain(table, events)

    backfiller._applier.apply = losing  # type: ignore[method-assign]
    assert bench.engine.backfill("orders").applied == 3
    left[0] = 100
    with pytest.raises(CommitGaveUpError):
        bench.engine.backfill("orders", force=True)
    assert left[0] == 95


def test_a_definition_that_changes_meanwhile_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PAGE_KEYS", 4)
    bench = filled(10)
    plain = DEFINITION.to_dict()
    del plain["indexes"]["by_tag"]

    def redefine(_: Backfilled) -> None:
        bench.engine.define(TableDefinition.from_dict("orders", plain))

    with pytest.raises(TableChangedError, match="defined anew"):
        bench.engine.backfill("orders", progress=redefine)
    assert bench.engine.backfill("orders").applied >= 5
    assert bench.engine.verify("orders", deep=True).is_good


@pytest.mark.usefixtures("small_pages")
def test_any_number_of_keys_is_reindexed_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "PAGE_KEYS", 8)
    bench = filled(30)
    taken: list[str] = []
    told: list[tuple[int, int]] = []

    def keys() -> Iterator[str]:
        for i in range(33):
            taken.append(f"orders/{i:03d}")
            yield taken[-1]

    def progress(result: Any) -> None:
        assert len(taken) == len(result.applied), "keys are taken as they are needed"
        told.append((len(result.applied), result.commits))

    result = bench.engine.reindex("orders", keys(), progress=progress)
    assert told[:2] == [(4, 1), (8, 2)] and told[-1] == (33, 9)
    assert result.gone == {"orders/030", "orders/031", "orders/032"} and not result.failed
    assert bench.contents() == bench.rebuilt()
    assert bench.engine.debt(bench.engine.load("orders").manifest) == []
    bench.data.delete_many(["orders/003"])
    bench.put("orders/031", documents(random.Random(1), 1))
    assert bench.engine.reindex("orders", ["orders/003", "orders/031", "other"]).gone == {"orders/003", "other"}
    assert bench.contents() == bench.rebuilt()
    assert bench.engine.reindex("orders", []).commits == 0


# Verify


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("deep", [False, True])
def test_lost_events_are_found_and_repaired(deep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_blocks(monkeypatch)
    bench = filled()
    for key in ODD:
        bench.put(key, documents(random.Random(key), 2))
    bench.engine.backfill("orders")
    good = bench.engine.verify("orders", deep=deep)
    assert good == Verified(objects=37, read=37 if deep else 0) and good.is_good
    bench.put("orders/￾", [{"id": "x", "created_at": "2026-01-01T00:00:00Z"}])
    bench.put("orders/004", [{"id": "y", "created_at": "2026-01-01T00:00:00Z"}])
    bench.data.delete_many(["orders/000", "orders/029", "orders/\U00010000"])
    generation = bench.engine.load("orders").manifest.generation
    expected = {
        "orders/000": "extra", "orders/004": "stale", "orders/029": "extra", "orders/￾": "missing",
        "orders/\U00010000": "extra",
    }  # fmt: skip
    found = bench.engine.verify("orders", deep=deep)
    assert kinds(found) == expected and not found.is_good and found.found == 5
    assert bench.engine.load("orders").manifest.generation == generation, "it only looked"
    mended = bench.engine.verify("orders", deep=deep, repair=True)
    assert kinds(mended) == expected and mended.repaired == 5 and mended.is_good
    assert bench.contents() == bench.rebuilt()
    assert bench.engine.verify("orders", deep=deep).found == 0


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 4])
def test_turns_however_short_find_what_one_call_finds(
    seed: int, repair: bool, deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time runs out at random, also always at once: every key is compared, and every call gets further."""
    for name, value in {"WAVE_KEYS": 3, "SUSPECTS_MAX": 9, "BATCH_KEYS": 4}.items():
        monkeypatch.setattr(f"bucketdex.engine.verify.{name}", value)
    bench, r = filled(40, seed), random.Random(seed)
    bench.engine.backfill("orders")
    read_too: set[str] = set()
    for key in [listed.key for listed in bench.data.list("")]:
        what = r.choice(["nothing", "nothing", "stale", "extra", "missing"])
        if what == "extra":
            bench.data.delete_many([key])
        elif what == "stale":
            bench.put(key, documents(r, 1))
        elif what == "missing":
            bench.put(key + "m", documents(r, 1))
        else:
            read_too.add(key)
    whole = kinds(bench.engine.verify("orders", deep=deep))
    assert whole and (not deep or len(read_too) > 12)
    found: dict[str, str] = {}
    opened: set[str] = set()
    hooked(bench).before_open = opened.add
    start_after, calls = None, 0
    while True:
        turn = bench.engine.verify(
            "orders", deep=deep, repair=repair, start_after=start_after, in_time=lambda: r.random() < seed / 5
        )
        found |= kinds(turn)
        calls += 1
        if turn.last_key is None:
            break
        assert start_after is None or turn.last_key > start_after
        assert not turn.views, "only at the end"
        start_after = turn.last_key
    assert found == whole and calls > 2
    assert not deep or opened >= read_too
    if repair:
        assert bench.contents() == bench.rebuilt()


def test_objects_before_the_cut_are_read_when_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SUSPECTS_MAX": 3, "BATCH_KEYS": 1}.items():
        monkeypatch.setattr(f"bucketdex.engine.verify.{name}", value)
    bench = filled(6)
    bench.engine.backfill("orders")
    for key in ("orders/001", "orders/002", "orders/003"):
        bench.data.delete_many([key])
    opened: list[str] = []
    hooked(bench).before_open = opened.append
    turn = bench.engine.verify("orders", deep=True, in_time=lambda: False)
    assert (turn.last_key, kinds(turn)) == ("orders/001", {"orders/001": "extra"})
    assert "orders/000" in opened
    rest = bench.engine.verify("orders", deep=True, start_after=turn.last_key)
    assert kinds(rest) == {"orders/002": "extra", "orders/003": "extra"} and rest.read == 2


def test_a_turn_over_an_empty_table_ends() -> None:
    bench = Bench(1, TINY)
    for start_after in (None, "", "a", "orders/", "orders/x", "zzz", "\U0010ffff"):
        assert bench.engine.verify("orders", start_after=start_after, in_time=lambda: False).last_key is None
    bench.put("orders/1", documents(random.Random(1), 1))
    bench.apply("orders/1")
    bench.data.delete_many(["orders/1"])
    assert bench.engine.verify("orders", start_after="orders/0", in_time=lambda: False).extra == 1
    assert bench.engine.verify("orders", start_after="orders/1").extra == 0
    assert bench.engine.verify("orders", start_after="p").extra == 0


def test_an_emptied_bucket() -> None:
    bench = filled(30)
    bench.engine.backfill("orders")
    bench.data.delete_many([listed.key for listed in bench.data.list("")])
    found = bench.engine.verify("orders", repair=True)
    assert (found.objects, found.extra, found.repaired) == (0, 30, 30)
    assert bench.contents() == bench.rebuilt()


def test_what_is_on_its_way_is_no_error() -> None:
    """Between the two looks the events arrive, or the objects change once more."""
    bench = filled(6)
    bench.engine.backfill("orders")
    bench.put("orders/001", [{"id": "late", "created_at": "2026-01-01T00:00:00Z"}])
    bench.put("orders/002", [{"id": "late", "created_at": "2026-01-01T00:00:00Z"}])
    bench.data.delete_many(["orders/003"])
    bench.put("orders/004", [{"id": "lost", "created_at": "2026-01-01T00:00:00Z"}])

    def meanwhile(seconds: float) -> None:
        assert 0 < seconds <= 10
        bench.apply("orders/001", "orders/003")
        bench.put("orders/002", [{"id": "later", "created_at": "2026-01-01T00:00:00Z"}])

    bench.runtime.sleep = meanwhile  # type: ignore[method-assign]
    found = bench.engine.verify("orders", deep=True)
    assert kinds(found) == {"orders/004": "stale"}
    assert found.changing == 1


@pytest.mark.parametrize("times", [1, 2])
def test_an_object_that_is_replaced_while_it_is_read_is_no_error(times: int) -> None:
    bench = filled(6)
    bench.engine.backfill("orders")
    store, left = hooked(bench), [times]

    def replaced(key: str) -> None:
        if key == "orders/002" and left[0]:
            left[0] -= 1
            raise ObjectChangedError("it was replaced while it was read")

    store.before_open = replaced
    found = bench.engine.verify("orders", deep=True)
    assert found.is_good and left == [0]
    assert (found.changing, found.read) == (times - 1, 5)


def test_a_clock_that_is_put_back_makes_nobody_wait() -> None:
    bench = filled(30)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        bench.runtime.clock += seconds - 3_600

    bench.runtime.sleep = sleep  # type: ignore[method-assign]
    bench.engine.backfill("orders", rate=5)
    assert slept and max(slept) <= 1
    bench.data.delete_many(["orders/001"])
    now, back = bench.runtime.now, iter([0.0, -7_200.0, -7_200.0])
    bench.runtime.now = lambda: now() + next(back, -7_200.0)  # type: ignore[method-assign]
    assert bench.engine.verify("orders", settle_seconds=4).extra == 1
    assert slept[-1] == 4


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("seed", range(3))
def test_verify_beside_live_traffic_reports_nothing(seed: int) -> None:
    bench = filled(30, seed)
    bench.engine.backfill("orders")
    store = hooked(bench)
    live = Engine(bench.index, bench.data, TestRuntime(7), settings=TINY)
    r = random.Random(seed)
    late: list[str] = []

    def traffic(_: str) -> None:
        key = f"orders/{r.randrange(34):03d}"
        if r.random() < 0.3:
            bench.data.delete_many([key])
        else:
            bench.put(key, documents(r, 3))
        late.append(key)
        if len(late) > 2:
            arrive()

    def arrive() -> None:
        live.apply("orders", [Event(key) for key in late])
        late.clear()

    def sleep(_: float) -> None:
        arrive()
        store.before_open = lambda key: None

    store.before_open = traffic
    bench.runtime.sleep = sleep  # type: ignore[method-assign]
    found = bench.engine.verify("orders", deep=True)
    assert (found.found, found.failures) == (0, 0), found
    assert found.read > 20


@pytest.mark.parametrize("ghost", [b"", b'{"id": "ghost", "created_at": "2026-01-01T00:00:00Z"}\n'])
def test_deep_finds_rows_that_the_object_does_not_give(ghost: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = filled(12)
    bench.put("orders/011", [{"id": "a", "country": "DE", "created_at": "2026-01-01T00:00:00Z"}])
    bench.engine.backfill("orders", prefix="orders/00")
    with monkeypatch.context() as patch:  # an extractor of another day, say: the right object, other rows
        real = bench.data.open

        def other(key: str, **options: Any) -> Any:
            opened = real(key, **options)
            if key == "orders/011":
                body = b"".join(opened.chunks()).replace(b'"country": "DE"', b'"country": "IT"')
                body += ghost
                opened._chunks = iter([body])
            return opened

        patch.setattr(bench.data, "open", other)
        bench.engine.backfill("orders")
    assert bench.contents() != bench.rebuilt()
    assert bench.engine.verify("orders").found == 0
    found = bench.engine.verify("orders", deep=True)
    assert found.differences == [Difference("orders/011", "wrong")] and found.views == {}
    mended = bench.engine.verify("orders", deep=True, repair=True)
    assert mended.differences == [Difference("orders/011", "wrong", repaired=True)]
    assert bench.contents() == bench.rebuilt()


def test_a_large_object_is_compared_in_parts() -> None:
    bench = filled(3)
    bench.put("orders/large", documents(random.Random(5), 90))
    bench.engine.backfill("orders")
    assert bench.engine.verify("orders", deep=True).is_good
    assert bench.contents() == bench.rebuilt()


def test_a_sample() -> None:
    bench = filled(60)
    bench.engine.backfill("orders")
    assert 5 <= bench.engine.verify("orders", deep=True, sample=0.3).read <= 35
    for share in (0, 1.5, float("nan")):
        with pytest.raises(BucketdexError, match="sample"):
            bench.engine.verify("orders", deep=True, sample=share)
    with pytest.raises(BucketdexError, match=r"it needs deep \(--deep\)"):
        bench.engine.verify("orders", sample=0.3)


def replaced_run(bench: Bench, name: str, change: Callable[[bytes], bytes | None]) -> None:
    """Replaces the runs of a view by a run that is whole and sound, and says something else."""
    bench.engine.compact("orders", mode="full")
    base = bench.engine.load("orders")
    snapshot = bench.snapshot()
    view: View = snapshot.view(name)
    changed = Entries([], [], None)
    for entry in snapshot.scan(name, None, None):
        line = change(entry.line)
        if line is not None:
            changed.keys.append(entry.key)
            changed.lines.append(line)
    sink = RunSink(bench.index, bench.runtime, bench.settings, "orders", view, base.manifest.generation)
    sink.add(changed)
    run = sink.finish(base.manifest.generation + 1)
    state = msgspec.structs.replace(base.manifest.views[name], runs=[run] if run else [])
    manifest = msgspec.structs.replace(base.manifest, views=base.manifest.views | {name: state})
    path = next(listed.key for listed in bench.index.list("") if listed.key.endswith("manifest.json"))
    bench.index.put(path, msgspec.json.encode(manifest))


CORRUPTIONS: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "another value": ("by_amount", lambda line: line.replace(b'"country":"DE"', b'"country":"FR"')),
    "an entry less": ("by_customer", lambda line: None if b'"_key":"orders/003"' in line else line),
    "a tag less": ("by_tag", lambda line: None if b'"_v":"a"' in line else line),
    "a wrong sum": ("scores", lambda line: re.sub(rb'"_sum.items":[^,]+', b'"_sum.items":7', line)),
    "a wrong count": ("revenue", lambda line: line.replace(b'"_n":', b'"_n":1')),
    "a line that is none": ("scores", lambda line: line.replace(b'"_n":', b'"_n":x')),
    "a group less": ("revenue", lambda line: None if b'"country":"DE"' in line else line),
    "a wrong least": ("scores", lambda line: line.replace(b'"_min.created_at":"2026', b'"_min.created_at":"2025')),
    "values less": ("revenue.customer", lambda line: None if b'"c1"' in line else line),
    "counts of objects": ("objects", lambda line: line.replace(b'"records":3', b'"records":2')),
}


@pytest.mark.parametrize("case", CORRUPTIONS)
def test_deep_finds_a_view_that_is_sound_and_wrong(case: str) -> None:
    name, change = CORRUPTIONS[case]
    bench = filled(30)
    bench.engine.backfill("orders")
    assert bench.engine.verify("orders", deep=True).views == {}
    replaced_run(bench, name, change)
    bench.engine = Engine(bench.index, bench.data, bench.runtime, settings=TINY)
    assert bench.engine.verify("orders").is_good, "the listing can't tell"
    found = bench.engine.verify("orders", deep=True)
    assert list(found.views) == [name] and not found.is_good
    assert found.found == (found.wrong if name == "objects" else 0)


def test_a_damaged_file_makes_its_view_wrong() -> None:
    bench = filled(10)
    bench.engine.backfill("orders")
    bench.engine.compact("orders", mode="full")
    path = bench.engine.load("orders").manifest.views["by_amount"].runs[0].files[0].path
    bench.index.put(path, b"x" * 5000)
    bench.engine = Engine(bench.index, bench.data, bench.runtime, settings=TINY)
    assert path in bench.engine.verify("orders", deep=True).views["by_amount"]


def test_folds_after_a_random_life_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """No false alarm in any state that commits and compactions leave: retractions, contested extremes, deltas."""
    read_in_blocks(monkeypatch)
    bench = Bench(5)
    r = random.Random(5)
    for step in range(60):
        key = f"orders/{r.randrange(8)}"
        if r.random() < 0.25:
            bench.data.delete_many([key])
        else:
            bench.put(key, documents(r, r.randrange(8)))
        bench.apply(key)
        if r.random() < 0.2:
            bench.engine.compact("orders", mode=r.choice(["tiered", "tidy", "full"]))
        if step % 6 == 0:
            assert bench.engine.verify("orders", deep=True).is_good


def test_a_building_view_is_left_out() -> None:
    bench = filled(10)
    bench.engine.backfill("orders")
    plain = DEFINITION.to_dict()
    plain["indexes"]["by_country"] = ["country"]
    bench.engine.define(TableDefinition.from_dict("orders", plain))
    assert bench.engine.load("orders").manifest.views["by_country"].state == "building"
    assert bench.engine.verify("orders", deep=True).is_good


def test_objects_that_cannot_be_read() -> None:
    bench = filled(4)
    store = hooked(bench)

    def archived(key: str) -> None:
        if key == "orders/001":
            raise UnreadableObjectError("archived")

    store.before_open = archived
    found = bench.engine.verify("orders", repair=True)
    assert found.missing == 4 and found.repaired == 4
    for deep in (False, True):
        assert bench.engine.verify("orders", deep=deep).is_good, "a reject is how it is to be"

    def denied(key: str) -> None:
        if key == "orders/002":
            raise AccessDeniedError("no")

    store.before_open = denied
    found = bench.engine.verify("orders", deep=True, repair=True)
    assert list(found.failed) == ["orders/002"] and not found.is_good
    assert kinds(found) == {"orders/001": "stale"} and found.repaired == 1


@pytest.mark.parametrize("expiring_view", ["objects", RECORDS])
def test_a_snapshot_that_expires_in_the_middle_is_replaced(expiring_view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_blocks(monkeypatch)
    bench = filled(120)
    bench.engine.backfill("orders")
    bench.engine = Engine(bench.index, bench.data, bench.runtime, settings=TINY)
    plain, left, expired = Snapshot.batches, [2], [0]

    def expiring(self: Snapshot, name: str, low: Any, high: Any, **options: Any) -> Iterator[Entries]:
        try:
            for entries in plain(self, name, low, high, **options):
                yield entries
                if left[0] and name == expiring_view and (low is None or name == "objects"):
                    left[0] -= 1
                    bench.put("orders/000", [])
                    bench.apply("orders/000")
                    bench.engine.compact("orders", mode="full")
                    bench.runtime.clock += 1_000
                    bench.engine.collect("orders")
        except SnapshotExpiredError:
            expired[0] += 1
            raise

    monkeypatch.setattr(Snapshot, "batches", expiring)
    if expiring_view == "objects":
        keys = [pair.key for page in walking(bench).pages() for pair in page]
        assert keys == [f"orders/{i:03d}" for i in range(120)], "each once"
    else:
        assert bench.engine.verify("orders", deep=True).is_good
    assert expired[0]


def walking(bench: Bench, start_after: str | None = None) -> walk.Walk:
    return walk.Walk(bench.engine._backfiller._means, "orders", None, start_after)


def test_a_walk_starts_behind_a_key_in_both() -> None:
    bench = filled(6)
    bench.engine.backfill("orders")
    bench.data.delete_many(["orders/001", "orders/004"])
    pairs = [pair for page in walking(bench, "orders/002").pages() for pair in page]
    assert [(pair.key, pair.listed is None) for pair in pairs] == [
        ("orders/003", False), ("orders/004", True), ("orders/005", False),
    ]  # fmt: skip


def test_what_applying_cannot_mend_is_not_called_repaired() -> None:
    """A row of `objects` that denies its records: no commit leaves one, so none retracts them."""
    bench = filled(10)
    bench.engine.backfill("orders")
    replaced_run(bench, "objects", lambda line: re.sub(rb'"records":[1-9]', b'"records":0', line))
    bench.engine = Engine(bench.index, bench.data, bench.runtime, settings=TINY)
    found = bench.engine.verify("orders", deep=True, repair=True)
    assert found.wrong > 3 and found.repaired == 0 and not found.is_good and "objects" in found.views


@pytest.mark.parametrize("seconds", [-1, 1])
def test_a_listing_that_rounds_the_time(seconds: float) -> None:
    """What is right costs another look; what is missing is reported all the same."""
    bench = filled(4)
    bench.engine.backfill("orders")
    bench.put("orders/new", [])
    for key in ("orders/001", "orders/new"):
        with_time(bench, key, seconds)
        found = bench.engine.verify("orders")
        assert (kinds(found), found.changing) == ({"orders/new": "missing"}, 0)


def test_a_start_beyond_or_before_all_keys() -> None:
    bench = filled(4)
    assert bench.engine.backfill("orders", start_after="zzz").listed == 0
    assert bench.engine.backfill("orders", start_after="a", prefix="orders/00").applied == 4
    assert bench.engine.backfill("orders", start_after="", force=True).applied == 4
    assert bench.engine.backfill("orders", start_after="zzz").listed == 0


def test_a_listing_without_order_is_refused() -> None:
    bench = filled(3)
    store = hooked(bench)
    store.keys = ["orders/001", "orders/000", "orders/002"]
    with pytest.raises(StorageError, match="order"):
        bench.engine.verify("orders")
