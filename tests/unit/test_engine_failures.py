"""Objects that change, vanish or refuse to be read, files that are damaged or gone, PUTs of unknown outcome."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, InterleavingStore, contents, document, documents

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event, Settings
from bucketdex.engine.fetch import ObjectReader
from bucketdex.errors import (
    AccessDeniedError,
    CommitGaveUpError,
    CorruptFileError,
    KeyMissingError,
    ObjectChangedError,
    SnapshotExpiredError,
    StorageError,
    ThrottledError,
)
from bucketdex.storage import GetRequest, ObjectStore, OpenObject, open_data_store, open_index_store
from bucketdex.views import BlockCache, Snapshot


class DataStore(InterleavingStore):
    """A data bucket in which something happens when an object is opened, read on, or asked for its tags."""

    def __init__(self) -> None:
        super().__init__(open_data_store("memory://"))
        self.on_open: Callable[[str], None] = lambda key: None
        self.on_chunk: Callable[[str], None] = lambda key: None
        self.on_tags: Callable[[str], None] = lambda key: None
        self.opened: list[str] = []

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        self.on_open(key)
        self.opened.append(key)
        inner = self.inner.open(key, storage_class=storage_class)

        def chunks() -> Iterator[bytes]:
            body = b"".join(inner.chunks())
            for start in range(0, len(body), 500):
                self.on_chunk(key)
                yield body[start : start + 500]

        return OpenObject(inner.info, chunks(), inner.close)

    def tags(self, key: str) -> dict[str, str]:
        self.on_tags(key)
        return {"team": "red"}


def times(count: int, action: Callable[[], None]) -> Callable[[str], None]:
    """Does something the first few times it is called."""
    left = [count]

    def act(key: str) -> None:
        if left[0] > 0:
            left[0] -= 1
            action()

    return act


def bench_with(data: ObjectStore, definition: TableDefinition = DEFINITION, index: Any = None, **bounds: Any) -> Bench:
    bench = Bench(0, settings=msgspec.structs.replace(TINY, **bounds), index=index)
    bench.data = data
    bench.engine = Engine(bench.index, data, bench.runtime, settings=bench.settings)
    bench.engine.define(definition)
    return bench


def bad(r: random.Random) -> dict[str, Any]:
    return {**document(r), "created_at": "never"}


def good(r: random.Random) -> dict[str, Any]:
    return {**document(r), "created_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("becomes", ["good", "bad"])
def test_a_rejected_object_is_so_whole_even_if_it_changes_between_its_two_readings(becomes: str) -> None:
    plain = DEFINITION.to_dict()
    definition = TableDefinition.from_dict(
        "orders", {**plain, "source": {**plain["source"], "on_error": "reject_object"}}
    )
    data = DataStore()
    bench = Bench(0)
    bench.data = data
    bench.engine = Engine(bench.index, data, bench.runtime, settings=TINY)
    bench.engine.drop_table("orders")
    bench.engine.define(definition)
    r = random.Random(1)
    clean, spoilt = [good(r) for _ in range(40)], [*(good(r) for _ in range(39)), bad(r)]
    bench.put("orders/1", spoilt if becomes == "good" else clean)

    def overwrite(key: str) -> None:
        if len(data.opened) == 1:
            data.on_open = lambda key: None
            bench.put("orders/1", clean if becomes == "good" else spoilt)

    data.on_open = overwrite
    result = bench.engine.apply("orders", [Event("orders/1", size=10**9)])
    assert result.applied == {"orders/1"}
    assert len(data.opened) > 2
    held = contents(Snapshot(bench.index, bench.engine.load("orders").manifest, definition, BlockCache()))
    assert len(held["records"]) == (40 if becomes == "good" else 0)
    assert len(held["rejects"]) == (0 if becomes == "good" else 1)
    assert json.loads(held["objects"][0])["records"] == len(held["records"])


@pytest.mark.parametrize("size", [None, 10**9], ids=["whole", "streamed"])
def test_an_object_that_changes_while_it_is_read_is_read_again(size: int | None) -> None:
    data = DataStore()
    bench = bench_with(data)
    r = random.Random(2)
    bench.put("orders/1", documents(r, 20))
    bench.apply("orders/1")
    bench.put("orders/1", documents(r, 24))
    chunk = [0]

    def changed(key: str) -> None:
        chunk[0] += 1
        if chunk[0] in (5, 12):  # after some of it has been handed out
            raise ObjectChangedError(f"{key} was replaced")

    data.on_chunk = changed
    result = bench.engine.apply("orders", [Event("orders/1", size=size)])
    assert (result.applied, result.failed) == ({"orders/1"}, {})
    data.on_chunk = lambda key: None
    assert bench.contents() == bench.rebuilt()

    def always(key: str) -> None:
        raise ObjectChangedError(f"{key} was replaced")

    before = bench.contents()
    data.on_chunk = always
    bench.put("orders/2", documents(r, 1))
    result = bench.engine.apply("orders", [Event("orders/1", size=size), Event("orders/2", size=size)])
    assert set(result.failed) == {"orders/1", "orders/2"}
    assert isinstance(result.failed["orders/1"], ObjectChangedError | CommitGaveUpError)
    assert bench.contents() == before


@pytest.mark.parametrize("error", [AccessDeniedError, ThrottledError, StorageError, ValueError])
@pytest.mark.parametrize("size", [None, 10**9], ids=["whole", "streamed"])
def test_one_object_that_cannot_be_read_fails_alone(error: type[Exception], size: int | None) -> None:
    data = DataStore()
    bench = bench_with(data)
    r = random.Random(3)
    keys = [f"orders/{i}" for i in range(6)]
    for key in keys:
        bench.put(key, documents(r, 5))
    bench.apply(*keys)
    for key in keys:
        bench.put(key, documents(r, 5))

    def refuse(key: str) -> None:
        if key == "orders/3":
            raise error("no")

    data.on_open = refuse
    result = bench.engine.apply("orders", [Event(key, size=size) for key in keys])
    assert set(result.failed) == {"orders/3"}
    assert isinstance(result.failed["orders/3"], error)
    assert result.applied == {*keys} - {"orders/3"}
    data.on_open = lambda key: None
    bench.apply("orders/3")
    assert bench.contents() == bench.rebuilt()


def test_a_key_that_fails_when_it_is_redone_fails_alone_and_nothing_of_it_stays() -> None:
    store = InterleavingStore(open_index_store("memory://"))
    data = DataStore()
    bench = bench_with(data, index=store)
    r = random.Random(4)
    for i in range(4):
        bench.put(f"orders/{i}", documents(r, 9))
    rival = Engine(bench.index, data.inner, bench.runtime, settings=bench.settings)

    def refuse(key: str) -> None:
        if key == "orders/2":
            raise AccessDeniedError("no")

    def before_swap() -> None:
        store.before_swap = None
        bench.put("orders/2", documents(r, 3))
        rival.apply("orders", [Event("orders/2")])
        data.on_open = refuse

    store.before_swap = before_swap
    result = bench.engine.apply("orders", [Event(f"orders/{i}") for i in range(4)])
    assert set(result.failed) == {"orders/2"}
    assert result.applied == {"orders/0", "orders/1", "orders/3"}
    data.on_open = lambda key: None
    assert bench.contents() == bench.rebuilt()


@pytest.mark.parametrize("floor", [False, True])
def test_a_draft_in_files_is_corrected_for_every_key_that_was_touched_meanwhile(floor: bool) -> None:
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(5, index=store)
    r = random.Random(5)
    keys = [f"orders/{i}" for i in range(9)]
    for key in keys:
        bench.put(key, documents(r, 9))
    bench.apply(*keys[:5])
    for key in keys:
        bench.put(key, documents(r, 8))
    bench.data.delete_many(keys[:2])
    rival = Engine(store, bench.data, bench.runtime, settings=bench.settings)
    rounds = iter([["orders/0", "orders/3"], ["orders/3", "orders/8"], ["orders/3"]])
    busy = False

    def before_swap() -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        for key in next(rounds, []):
            if key == "orders/8":
                bench.data.delete_many([key])
            else:
                bench.put(key, documents(r, 6))
            rival.apply("orders", [Event(key)])
            if floor:
                rival.sweep("orders")
        busy = False

    store.before_swap = before_swap
    result = bench.engine.apply("orders", [Event(key) for key in keys])
    assert result.applied == {*keys}
    assert result.redone >= 5
    store.before_swap = None
    assert bench.contents() == bench.rebuilt()
    bench.engine.compact("orders", mode="full")
    assert bench.contents() == bench.rebuilt()


def test_an_object_above_the_bound_of_its_table_is_a_reject() -> None:
    store = open_data_store("memory://")
    store.put("o/1", b'{"id": "a"}\n')
    plain = {"source": {"prefix": "o/", "format": "ndjson", "max_object_bytes": 11}, "fields": {"id": "string"}}
    reader = ObjectReader(store, TableDefinition.from_dict("o", plain), Settings(), "o/1")
    [part] = reader.parts()
    assert (part.rows, len(part.rejects), reader.records, reader.rejects) == ([], 1, 0, 1)
    assert b'"too_large"' in part.rejects[0]
    assert b"12 bytes; max_object_bytes is 11" in part.rejects[0]


def test_an_object_deleted_between_its_body_and_its_tags_is_gone() -> None:
    plain = DEFINITION.to_dict()
    fields = {**plain["fields"], "team": {"type": "string", "from": "tag"}}
    definition = TableDefinition.from_dict("orders", {**plain, "fields": fields})
    data = DataStore()
    bench = Bench(6)
    bench.data = data
    bench.engine = Engine(bench.index, data, bench.runtime, settings=TINY)
    bench.engine.define(definition)
    bench.put("orders/1", documents(random.Random(6), 3))
    bench.apply("orders/1")
    assert bench.engine.load("orders").manifest.deltas[-1].rows == 4

    def vanish(key: str) -> None:
        data.delete_many([key])
        raise KeyMissingError("gone")

    data.on_tags = vanish
    result = bench.engine.apply("orders", [Event("orders/1")])
    assert (result.applied, result.failed) == ({"orders/1"}, {})
    snapshot = Snapshot(bench.index, bench.engine.load("orders").manifest, definition, BlockCache())
    assert list(snapshot.scan("objects", None, None)) == list(snapshot.scan("records", None, None)) == []


def test_events_for_objects_of_no_table_and_of_no_records() -> None:
    bench = Bench(7)
    bench.data.put("elsewhere/1", b'{"id":"x"}\n')
    bench.data.put("orders/empty", b"")
    result = bench.engine.apply("orders", [Event("elsewhere/1"), Event("orders/empty"), Event("orders/missing")])
    assert result.applied == {"elsewhere/1", "orders/empty", "orders/missing"}
    held = bench.contents()
    assert [json.loads(line)["_key"] for line in held["objects"]] == ["orders/empty"]
    assert held["records"] == held["rejects"] == []
    bench.data.put("orders/empty", b'{"created_at":"2026-01-01T00:00:00Z"}\n')
    bench.apply("orders/empty")
    bench.data.put("orders/empty", b"")
    bench.apply("orders/empty")
    assert bench.contents() == held | {"objects": bench.contents()["objects"]} == bench.rebuilt()


def flip(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :]


@pytest.mark.parametrize("part", ["block", "footer", "filter", "delta"])
def test_a_damaged_file_is_named_and_wedges_nothing(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bucketdex.views.loader.WHOLE_FILE_BYTES", 0)
    bench = Bench(8, settings=msgspec.structs.replace(TINY, inline_bytes_max=0))
    r = random.Random(8)
    keys = [f"orders/{i}" for i in range(9)]
    for key in keys:
        bench.put(key, documents(r, 3))
        bench.apply(key)
    if part != "delta":
        bench.engine.compact("orders", mode="full")
    manifest = bench.engine.load("orders").manifest
    entry = manifest.deltas[0].file if part == "delta" else manifest.views["objects"].runs[0].files[0]
    assert entry is not None
    filters = entry.bytes - entry.footer - entry.filter[0] * (entry.filter[1] + 12)
    at = {"block": 20, "footer": entry.bytes - 9, "filter": filters + 14, "delta": 20}[part]
    whole = bench.index.get(GetRequest(entry.path)).body
    bench.index.put(entry.path, flip(whole, at))
    fresh = Engine(bench.index, bench.data, bench.runtime, settings=bench.settings, cache=BlockCache())
    with pytest.raises(CorruptFileError, match=entry.path):
        fresh.apply("orders", [Event(key) for key in keys])
    if part != "filter":
        with pytest.raises(CorruptFileError, match=entry.path):
            fresh.compact("orders", "objects", mode="full") or bench.snapshot().count("objects", None, None)
            list(bench.snapshot().scan("objects", None, None))
    bench.index.put(entry.path, whole)  # what was damaged on its way only must not stay in memory
    bench.put("orders/3", documents(r, 2))
    assert not fresh.apply("orders", [Event(key) for key in keys]).failed
    assert bench.contents() == bench.rebuilt()


def test_a_file_that_is_gone_for_good_stops_compaction_soon() -> None:
    bench = Bench(9, settings=msgspec.structs.replace(TINY, inline_bytes_max=0))
    for i in range(3):
        bench.put(f"orders/{i}", documents(random.Random(i), 3))
        bench.apply(f"orders/{i}")
    entry = bench.engine.load("orders").manifest.deltas[0].file
    assert entry is not None
    bench.index.delete_many([entry.path])
    gets = [0]
    real = bench.index.get_many

    def counted(requests: Any) -> Any:
        gets[0] += 1
        return real(requests)

    bench.index.get_many = counted  # type: ignore[method-assign]
    with pytest.raises(SnapshotExpiredError, match=entry.path):
        bench.engine.compact("orders", "records", mode="full")
    assert gets[0] < 20


def test_a_base_whose_files_were_collected_is_given_up_for_a_newer_one() -> None:
    """Between the manifest and the look-ups everything is compacted, its grace passes, and its files go."""
    store = InterleavingStore(open_index_store("memory://"))
    data = DataStore()
    bench = bench_with(data, index=store, inline_bytes_max=0)
    r = random.Random(10)
    keys = [f"orders/{i}" for i in range(6)]
    for key in keys:
        bench.put(key, documents(r, 4))
        bench.apply(key)
    bench.put("orders/1", documents(r, 4))
    rival = Engine(store, data.inner, bench.runtime, settings=bench.settings)

    def everything_moves() -> None:
        rival.compact("orders", mode="full")
        bench.runtime.clock += 1000
        rival.collect("orders")
        rival.sweep("orders")

    data.on_open = times(1, everything_moves)
    fresh = Engine(store, data, bench.runtime, settings=bench.settings, cache=BlockCache(0))
    assert fresh.apply("orders", [Event("orders/1")]).applied == {"orders/1"}
    assert bench.contents() == bench.rebuilt()


class DoubtfulStore(InterleavingStore):
    """Every third or so PUT of a manifest ends in an error, having taken effect or not, with rivals acting before the
    writer gets to look.
    """

    def __init__(self, r: random.Random) -> None:
        super().__init__(open_index_store("memory://"))
        self.r = r
        self.rival: Callable[[], None] | None = None

    def put(self, key: str, body: bytes, **conditions: Any) -> str:
        if not key.endswith("manifest.json") or self.rival is None:
            return self.inner.put(key, body, **conditions)
        fate = self.r.random()
        if fate < 0.15:
            raise StorageError("500 before the effect")
        etag = self.inner.put(key, body, **conditions)
        if fate < 0.4:
            self.rival()
            raise StorageError("500 after the effect")
        return etag


@pytest.mark.parametrize("seed", range(3))
def test_swaps_of_unknown_outcome_lose_and_double_nothing(seed: int) -> None:
    r = random.Random(seed)
    store = DoubtfulStore(r)
    bench = Bench(seed, index=store)
    rival = Engine(store, bench.data, bench.runtime, settings=bench.settings)
    keys = [f"orders/{i}" for i in range(6)]
    plain = DEFINITION.to_dict()
    fewer = TableDefinition.from_dict("orders", {**plain, "summaries": {}})
    busy = False

    def act() -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        kind = r.random()
        if kind < 0.5:
            key = r.choice(keys)
            bench.put(key, documents(r, r.choice([0, 3, 15])))
            retried(lambda: rival.apply("orders", [Event(key)]))
        elif kind < 0.8:
            retried(lambda: rival.compact("orders", r.choice(["records", "objects", "by_tag"]), mode="full"))
        else:
            retried(lambda: rival.define(fewer if r.random() < 0.5 else DEFINITION))
        busy = False

    store.rival = act
    for _ in range(12):
        batch = r.sample(keys, 3)
        for key in batch:
            bench.put(key, documents(r, r.choice([0, 1, 6, 15])))
        retried(lambda batch=batch: bench.apply(*batch))  # type: ignore[misc]
        if r.random() < 0.5:
            retried(lambda: bench.engine.compact("orders", mode=r.choice(["tidy", "full"])))
        retried(lambda: bench.engine.collect("orders"))
    store.rival = None
    bench.engine.create_table(DEFINITION)
    assert bench.contents() == bench.rebuilt()


def retried(action: Callable[[], Any]) -> None:
    for _ in range(9):
        try:
            action()
        except (StorageError, CommitGaveUpError):
            continue
        return
    raise AssertionError("nine times in doubt")
