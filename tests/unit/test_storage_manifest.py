"""The manifest: encoding, loading, and a compare-and-swap whose PUTs may fail in every way."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Thread

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.errors import (
    AccessDeniedError,
    CorruptFileError,
    KeyMissingError,
    PreconditionFailedError,
    StorageError,
    TableNotFoundError,
    UpgradeRequiredError,
)
from bucketdex.runtime import Runtime
from bucketdex.storage import (
    CountingStore,
    Delta,
    FileEntry,
    Garbage,
    GetRequest,
    Got,
    Listed,
    LogEntry,
    Manifest,
    ManifestStore,
    ObjectStore,
    OpenObject,
    Run,
    SwapLostError,
    Versioned,
    ViewState,
    decode_manifest,
    encode_manifest,
    manifest_path,
    open_index_store,
    touch_hash,
)
from bucketdex.storage.manifest import PUTS_MAX
from bucketdex.storage.stores import Names

TABLE = "orders"
PATH = manifest_path(TABLE)


class QuietRuntime(Runtime):
    """Never waits; remembers how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def uniform(self, low: float, high: float) -> float:
        return high

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def first(commit: str = "c0") -> Manifest:
    return Manifest(1, 1, TABLE, 0, commit, log=[LogEntry(commit, 0, "definition", None)])


def following(base: Manifest, commit: str) -> Manifest:
    generation = base.generation + 1
    log = [*base.log, LogEntry(commit, generation, "commit", b"")]
    return msgspec.structs.replace(base, generation=generation, commit=commit, log=log)


def full() -> Manifest:
    entry = FileEntry("p", "a", "b", 3, 1, 100, 20, (2, 64))
    run = Run("r", [entry], 3, 1, 100, 4, 5.5, "k\x00", 1)
    return Manifest(
        format=1,
        reader=1,
        table=TABLE,
        generation=9,
        commit="c9",
        state="dropped",
        managed_by="Shop",
        definition={"fields": {"id": "string"}},
        revision=2,
        floor=3,
        log=[LogEntry("c9", 9, "commit", b"\x01" * 16, 2), LogEntry("c8", 8, "collection", None)],
        deltas=[Delta("d", 9, 1, 7, inline=b"\x00\xff"), Delta("e", 8, 1, 7, file=entry, part=(5, 7))],
        views={"by_day": ViewState("by_day", "index", "ff", 8, [run], "building", [(9, 8), (7, 3)])},
        garbage=[Garbage(9, 1.5, "by_day-ff", run=run), Garbage(9, 1.5, delta=Delta("f", 2, 1, 7))],
        updated_at=12.25,
    )


def test_a_manifest_comes_back_from_its_json() -> None:
    manifest = full()
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert manifest.views["by_day"].id == "by_day-ff"
    assert b'"format":1,"reader":1' in encode_manifest(first())


def test_a_manifest_for_newer_readers_is_refused_whatever_else_it_holds() -> None:
    with pytest.raises(UpgradeRequiredError, match="upgrade bucketdex"):
        decode_manifest(b'{"format":7,"reader":2,"log":"something new"}')
    assert decode_manifest(b'{"format":7,"reader":1,"table":"t","generation":1,"commit":"c","news":1}').format == 7


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"format":1}', b'{"format":1,"reader":1}', b"\x00" * 9])
def test_anything_else_is_a_corrupt_file(body: bytes) -> None:
    with pytest.raises(CorruptFileError, match=r"manifest\.json"):
        decode_manifest(body)


def test_a_damaged_manifest_is_named_with_its_table() -> None:
    store = open_index_store("memory://")
    store.put(PATH, b"{")
    with pytest.raises(CorruptFileError, match=PATH):
        ManifestStore(store, QuietRuntime()).load(TABLE)
    store.put(PATH, encode_manifest(first()).replace(b'"reader":1', b'"reader":9'))
    with pytest.raises(UpgradeRequiredError, match=PATH):
        ManifestStore(store, QuietRuntime()).load(TABLE)


@given(st.integers(0, 10**6))
def test_a_cut_manifest_is_a_corrupt_file(cut: int) -> None:
    body = encode_manifest(full())
    with pytest.raises(CorruptFileError):
        decode_manifest(body[: cut % len(body)])


def test_touch_hash_never_changes() -> None:
    assert touch_hash("orders/17.json") == 11474939794007757789
    assert touch_hash("") != touch_hash("\x00")


def test_load_create_and_swap() -> None:
    store = CountingStore(open_index_store("memory://"))
    manifests = ManifestStore(store, QuietRuntime())
    with pytest.raises(TableNotFoundError, match="'orders'"):
        manifests.load(TABLE)
    base = manifests.create(TABLE, first())
    assert manifests.tables() == [TABLE]
    assert manifests.load(TABLE) == base
    assert manifests.load(TABLE, cached=base) is base
    store.reset()
    landed = manifests.swap(base, following(base.manifest, "c1"))
    assert store.requests == {"put": 1}
    assert manifests.load(TABLE, cached=base) == landed
    with pytest.raises(SwapLostError) as lost:
        manifests.swap(base, following(base.manifest, "c2"))
    assert lost.value.current == landed
    with pytest.raises(SwapLostError) as lost:
        manifests.create(TABLE, first("other"))
    assert lost.value.current == landed


def test_a_load_can_be_sent_along_with_other_requests() -> None:
    store = open_index_store("memory://")
    manifests = ManifestStore(store, QuietRuntime())
    base = manifests.create(TABLE, first())
    [same] = store.get_many([manifests.request(TABLE, base)])
    assert manifests.received(TABLE, same, base) is base
    landed = manifests.swap(base, following(base.manifest, "c1"))
    [changed] = store.get_many([manifests.request(TABLE, base)])
    assert manifests.received(TABLE, changed, base) == landed
    with pytest.raises(AccessDeniedError):
        manifests.received(TABLE, AccessDeniedError("403"), base)


def test_a_swap_must_be_the_next_generation_and_logged() -> None:
    manifests = ManifestStore(open_index_store("memory://"), QuietRuntime())
    base = manifests.create(TABLE, first())
    good = following(base.manifest, "c1")
    for wrong in ({"generation": 2}, {"commit": "other"}, {"log": []}, {"table": "t"}):
        with pytest.raises(AssertionError):
            manifests.swap(base, msgspec.structs.replace(good, **wrong))


class ToxicStore(ObjectStore):
    """Fails the PUTs and GETs of a manifest by a script, in every way that S3, a proxy and a client can."""

    def __init__(self, inner: ObjectStore, puts: Sequence[str], gets: Sequence[str]) -> None:
        self.inner = inner
        self.url = inner.url
        self.puts = list(puts)
        self.gets = list(gets)
        self.delayed: list[tuple[int, dict[str, object]]] = []  # (operations to wait, a PUT in flight)
        self.sent = 0

    def _tick(self) -> None:
        for index, (wait, put) in enumerate(self.delayed):
            self.delayed[index] = (wait - 1, put)
        for _, put in [item for item in self.delayed if item[0] <= 0]:
            self._arrive(put)
        self.delayed = [item for item in self.delayed if item[0] > 0]

    def _arrive(self, put: dict[str, object]) -> None:
        with suppress(PreconditionFailedError):
            self.inner.put(**put)

    def settle(self) -> None:
        """What is still in flight arrives."""
        for _, put in self.delayed:
            self._arrive(put)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        self._tick()
        self.sent += 1
        toxic = self.puts.pop(0) if self.puts else "ok"
        put = {"key": key, "body": body, "if_match": if_match, "if_absent": if_absent}
        if toxic.startswith("rival"):
            self._rival()
            toxic = toxic.removeprefix("rival ")
        if toxic == "ok":
            return self.inner.put(**put)
        if toxic == "before":
            raise StorageError("500, nothing written")
        if toxic == "conflict":
            raise PreconditionFailedError("409, nothing written")
        if toxic.startswith("late"):
            self.delayed.append((int(toxic[-1]), put))
            raise StorageError("timed out, still on its way")
        self.inner.put(**put)  # the rest fail after the effect, or honestly
        if toxic == "after":
            raise StorageError("500 after the effect")
        if toxic == "own":
            raise PreconditionFailedError("412 for one's own success")
        assert toxic == "after rival", toxic
        self._rival()
        raise StorageError("500 after the effect, and another commit on top")

    def get(self, request: GetRequest) -> Got:
        self._tick()
        toxic = self.gets.pop(0) if self.gets else "ok"
        if toxic == "fail":
            raise StorageError("500")
        if toxic == "rival":
            self._rival()
        return self.inner.get(request)

    def _rival(self) -> None:
        """Another writer's commit, if there is a manifest to build on."""
        try:
            got = self.inner.get(GetRequest(PATH))
        except KeyMissingError:
            self.inner.put(PATH, encode_manifest(first("rival0")))
            return
        current = decode_manifest(got.body)
        self.inner.put(PATH, encode_manifest(following(current, f"rival{current.generation + 1}")), if_match=got.etag)

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        raise NotImplementedError

    def delete_many(self, keys: Sequence[str]) -> None:
        raise NotImplementedError

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        raise NotImplementedError

    def folders(self, prefix: str) -> Names:
        raise NotImplementedError

    def tags(self, key: str) -> dict[str, str]:
        raise NotImplementedError

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self


PUTS = [
    "ok",
    "before",
    "conflict",
    "after",
    "own",
    "after rival",
    "late 1",
    "late 2",
    "late 4",
    "rival ok",
    "rival before",
    "rival late 2",
]
GETS = ["ok", "fail", "rival"]


def attempt(puts: Sequence[str], gets: Sequence[str], *, create: bool) -> str:
    """One swap (or create) of "mine" under a script; checks what every outcome promises."""
    inner = open_index_store("memory://")
    toxic = ToxicStore(inner, puts, gets)
    manifests = ManifestStore(toxic, QuietRuntime())
    plain = ManifestStore(inner, QuietRuntime())
    base = None if create else plain.create(TABLE, first())
    result: Versioned | None = None
    try:
        result = (
            manifests.create(TABLE, first("mine"))
            if base is None
            else manifests.swap(base, following(base.manifest, "mine"))
        )
        outcome = "landed"
    except SwapLostError as lost:
        outcome = "lost"
        assert all(entry.id != "mine" for entry in lost.current.manifest.log)
        assert lost.current.manifest.generation > 0 or base is None
    except StorageError:
        outcome = "unknown"
    toxic.settle()
    try:
        log = plain.load(TABLE).manifest.log
    except TableNotFoundError:
        log = []
        assert create
    ids = [entry.id for entry in log]
    assert [entry.generation for entry in log] == list(range(len(log))), "a commit was overwritten"
    assert len(set(ids)) == len(ids)
    if outcome == "landed":
        assert ids.count("mine") == 1
        assert result is not None
        assert any(entry.id == "mine" for entry in result.manifest.log)
        assert inner.get(GetRequest(PATH)).etag == result.etag or result.manifest.generation < log[-1].generation
    if outcome == "lost":
        assert "mine" not in ids
    assert toxic.sent <= PUTS_MAX
    return outcome


@pytest.mark.parametrize("create", [False, True])
def test_every_outcome_of_a_swap_is_told_truly(create: bool) -> None:
    outcomes = {
        attempt(puts, gets, create=create)
        for puts in itertools.product(PUTS, repeat=3)
        for gets in itertools.product(GETS, repeat=2)
    }
    assert outcomes == {"landed", "lost"}


@given(st.lists(st.sampled_from(PUTS), max_size=12), st.lists(st.sampled_from(GETS), max_size=12), st.booleans())
def test_long_troubles_end_too(puts: list[str], gets: list[str], create: bool) -> None:
    attempt(puts, gets, create=create)


def test_a_store_that_always_fails_is_given_up() -> None:
    assert attempt(["before"] * 50, [], create=False) == "unknown"
    assert attempt(["conflict"] * 50, ["fail"] * 50, create=True) == "unknown"
    toxic = ToxicStore(open_index_store("memory://"), ["before"] * 50, [])
    runtime = QuietRuntime()
    base = ManifestStore(toxic.inner, runtime).create(TABLE, first())
    with pytest.raises(StorageError, match=r"whether generation 1 was written is unknown") as failure:
        ManifestStore(toxic, runtime).swap(base, following(base.manifest, "c1"))
    assert str(failure.value.__cause__) == "500, nothing written"
    assert toxic.sent == PUTS_MAX
    assert len(runtime.slept) == PUTS_MAX - 1
    assert sum(runtime.slept) < 15


def test_a_denied_swap_fails_at_once() -> None:
    class Denied(ToxicStore):
        def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
            self.sent += 1
            raise AccessDeniedError("403")

    toxic = Denied(open_index_store("memory://"), [], [])
    base = ManifestStore(toxic.inner, QuietRuntime()).create(TABLE, first())
    with pytest.raises(AccessDeniedError):
        ManifestStore(toxic, QuietRuntime()).swap(base, following(base.manifest, "c1"))
    assert toxic.sent == 1


def test_concurrent_writers_lose_no_commit() -> None:
    manifests = ManifestStore(open_index_store("memory://"), QuietRuntime())
    manifests.create(TABLE, first())

    def write(writer: int) -> None:
        for number in range(20):
            base = manifests.load(TABLE)
            while True:
                try:
                    manifests.swap(base, following(base.manifest, f"w{writer}-{number}"))
                    break
                except SwapLostError as lost:
                    base = lost.current

    threads = [Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [entry.id for entry in manifests.load(TABLE).manifest.log]
    assert len(ids) == len(set(ids)) == 161
    assert {f"w{i}-{n}" for i in range(8) for n in range(20)} < set(ids)
