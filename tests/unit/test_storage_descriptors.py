"""Big manifests: parts move to immutable objects, and nobody who loads one can tell."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.errors import CorruptFileError, StorageError
from bucketdex.runtime import Runtime
from bucketdex.storage import (
    CountingStore,
    FileEntry,
    Garbage,
    GetRequest,
    LogEntry,
    Manifest,
    ManifestStore,
    ObjectStore,
    Run,
    SwapLostError,
    Versioned,
    ViewState,
    base_generation,
    decode_manifest,
    manifest_path,
    open_index_store,
    table_of,
)
from bucketdex.storage.descriptors import PART_BYTES_MIN, join_manifest, split_manifest

TABLE = "orders"
BOUND = 20_000


class QuietRuntime(Runtime):
    """Never waits."""

    def sleep(self, seconds: float) -> None:
        pass


def run(name: str, files: int) -> Run:
    entries = [
        FileEntry(f"tables/orders/views/v/{n:012d}-{name}", f"k{n}", f"k{n}z", 9, 9, 99, 9) for n in range(files)
    ]
    return Run(name, entries, 9 * files, 9 * files, 99 * files, 1)


def grown(base: Manifest | None, commit: str, sizes: dict[str, list[int]], garbage: list[int]) -> Manifest:
    """The next manifest, with runs of so many files by view, and garbage of these generations."""
    generation = 0 if base is None else base.generation + 1
    views = {
        view: ViewState(view, "index", "ff", 0, [run(f"{view}{n}", size) for n, size in enumerate(counts)])
        for view, counts in sizes.items()
    }
    rubbish = [Garbage(removed, 1.0, "v-ff", run(f"g{n}", 3)) for n, removed in enumerate(sorted(garbage))]
    log = [*(base.log if base else []), LogEntry(commit, generation, "commit", b"")]
    return Manifest(1, 1, TABLE, generation, commit, log=log, views=views, garbage=rubbish)


def names(store: ObjectStore) -> set[str]:
    return {item.key for item in store.list("tables/orders/descriptors/")}


SIZES = st.dictionaries(st.sampled_from(["a", "b"]), st.lists(st.integers(0, 300), max_size=4))
GARBAGE = st.lists(st.integers(0, 400), max_size=150)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SIZES, GARBAGE), min_size=1, max_size=5))
def test_what_is_swapped_in_is_loaded(steps: list[tuple[dict[str, list[int]], list[int]]]) -> None:
    store = CountingStore(open_index_store("memory://"))
    writer = ManifestStore(store, QuietRuntime(), bytes_max=BOUND)
    current: Versioned | None = None
    for number, (sizes, garbage) in enumerate(steps):
        new = grown(current.manifest if current else None, f"c{number}", sizes, garbage)
        current = writer.create(TABLE, new) if current is None else writer.swap(current, new)
        loaded = ManifestStore(store, QuietRuntime()).load(TABLE)
        assert loaded == current
        assert writer.load(TABLE) == current
        assert msgspec.structs.replace(loaded.manifest, descriptors=[]) == new
        live = set(loaded.manifest.descriptors)
        assert live <= names(store)
        stored = store.get(GetRequest(manifest_path(TABLE))).body
        assert set(decode_manifest(stored).descriptors) == live
        for path in live:
            assert base_generation(path) < max(1, new.generation)
            assert table_of(path) == TABLE


def test_a_small_manifest_is_one_object() -> None:
    store = CountingStore(open_index_store("memory://"))
    manifests = ManifestStore(store, QuietRuntime())
    base = manifests.create(TABLE, grown(None, "c0", {"a": [100]}, []))
    assert base.manifest.descriptors == []
    assert store.requests == {"put": 1}


def test_a_big_one_is_within_its_bound_and_writes_only_what_changed() -> None:
    store = CountingStore(open_index_store("memory://"))
    manifests = ManifestStore(store, QuietRuntime(), bytes_max=BOUND)
    sizes = {"a": [500, 400], "b": [300, 5]}
    base = manifests.create(TABLE, grown(None, "c0", sizes, list(range(60))))
    assert len(base.manifest.descriptors) == 4
    assert len(store.get(GetRequest(manifest_path(TABLE))).body) <= BOUND
    before = names(store)

    store.reset()
    second = manifests.swap(base, grown(base.manifest, "c1", sizes, list(range(60))))
    assert store.requests == {"put": 1}, "nothing but the manifest"
    assert set(second.manifest.descriptors) == before

    store.reset()
    third = manifests.swap(second, grown(second.manifest, "c2", sizes | {"b": [301, 5]}, [*range(60), 64]))
    assert store.requests == {"put": 2}
    assert len(set(third.manifest.descriptors) & before) == 3, "garbage of an older group of generations stays"

    store.reset()
    assert manifests.load(TABLE) == third
    assert store.requests == {"get": 1}, "descriptors are immutable, and known"
    store.reset()
    reader = ManifestStore(store, QuietRuntime())
    assert reader.load(TABLE) == third
    assert (store.requests, store.rounds) == ({"get": 5}, 2)
    assert reader.load(TABLE) == third
    assert store.requests == {"get": 6}, "descriptors are immutable, and known"

    fourth = manifests.swap(third, grown(third.manifest, "c3", {"a": [1]}, []))
    assert fourth.manifest.descriptors == []


def test_a_lost_swap_brings_the_whole_manifest_back() -> None:
    store = open_index_store("memory://")
    ours, theirs = (ManifestStore(store, QuietRuntime(), bytes_max=BOUND) for _ in range(2))
    base = ours.create(TABLE, grown(None, "c0", {"a": [500]}, []))
    landed = theirs.swap(theirs.load(TABLE), grown(base.manifest, "theirs", {"a": [500, 600]}, []))
    with pytest.raises(SwapLostError) as lost:
        ours.swap(base, grown(base.manifest, "ours", {"a": [501]}, []))
    assert lost.value.current == landed
    again = ours.swap(lost.value.current, grown(lost.value.current.manifest, "ours", {"a": [501]}, []))
    assert theirs.load(TABLE) == again


class CollectedStore(CountingStore):
    """Replaces the manifest and deletes its descriptors just after it was read, `times` times."""

    times = 0

    def get_many(self, requests):  # type: ignore[no-untyped-def]
        answers = super().get_many(requests)
        if self.times and requests[0].key == manifest_path(TABLE):
            self.times -= 1
            plain = ManifestStore(self.inner, QuietRuntime(), bytes_max=BOUND)
            base = plain.load(TABLE)
            commit = f"later{base.manifest.generation}"
            plain.swap(base, grown(base.manifest, commit, {"a": [500 + base.manifest.generation]}, []))
            self.inner.delete_many(base.manifest.descriptors)
        return answers


def test_a_load_starts_over_when_descriptors_were_collected_meanwhile() -> None:
    store = CollectedStore(open_index_store("memory://"))
    ManifestStore(store.inner, QuietRuntime(), bytes_max=BOUND).create(TABLE, grown(None, "c0", {"a": [499]}, []))
    store.times = 2
    assert ManifestStore(store, QuietRuntime()).load(TABLE).manifest.commit == "later1"
    store.times = 10**6
    with pytest.raises(StorageError, match="descriptors"):
        ManifestStore(store, QuietRuntime()).load(TABLE)


def test_a_damaged_descriptor_is_named() -> None:
    store = open_index_store("memory://")
    manifests = ManifestStore(store, QuietRuntime(), bytes_max=BOUND)
    [path] = manifests.create(TABLE, grown(None, "c0", {"a": [500]}, [])).manifest.descriptors
    body = store.get(GetRequest(path)).body
    for damaged in (b"", body[:-1], body + b"x", bytes([body[0]]) + body[1:-1] + bytes([body[-1] ^ 1])):
        store.put(path, damaged)
        with pytest.raises(CorruptFileError, match=path):
            ManifestStore(store, QuietRuntime()).load(TABLE)


def test_parts_too_small_to_matter_stay() -> None:
    manifest = grown(None, "c0", {"a": [3] * 200}, [])
    split = split_manifest(manifest, bytes_max=1000)
    assert len(split.body) > 1000 + PART_BYTES_MIN
    assert split.parts == {}
    assert join_manifest(split.manifest, []) == manifest
