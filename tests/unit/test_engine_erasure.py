"""What was deleted is in no file of the index once `erase_seconds` are over, whatever the traffic; and that costs little.

Secrets are planted in every place that a value can get to, overwritten and deleted, while writers and compactors crash
and run out of time. Then every byte of the index bucket is looked at, unpacked.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from enginekit import TINY, InterleavingStore, TestRuntime, contents, interrupted, read_in_blocks

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event, Settings
from bucketdex.engine.promote import promoted
from bucketdex.storage import Manifest, ManifestStore, open_data_store, open_index_store
from bucketdex.storage.paths import delta_path
from bucketdex.storage.stores import GetRequest
from bucketdex.storage.zstd import SKIPPABLE_HEADER, SKIPPABLE_MAGIC, _zstd
from bucketdex.views import BlockCache, Snapshot
from functions.compactor.maintenance import maintain

ERASE = 4 * 3600.0
ROUND = 900.0  # the schedule
ROUNDS = int(ERASE / ROUND)
DEFINITION = TableDefinition.from_dict(
    "people",
    {
        "source": {"prefix": "p/", "format": "ndjson"},
        "fields": {
            "mail": "string",
            "team": "string",
            "kind": "string",
            "names": {"type": "string", "path": "names[]"},
            "amount": "decimal",
            "number": "int",
            "at": "timestamp",
        },
        "indexes": {"by_mail": ["mail"], "by_name": ["names", "at"], "by_amount": ["amount"], "by_team": ["team"]},
        "summaries": {
            "teams": {
                "group_by": ["team"],
                "measures": {
                    "people": "count()",
                    "first": "min(mail)",
                    "last": "max(mail)",
                    "different": "count_distinct(mail)",
                    "least": "min(amount)",
                    "total": "sum(amount)",
                    "since": "max(at)",
                },
            },
            "mails": {"group_by": ["mail"], "measures": {"numbers": "sum(number)", "most": "max(number)"}},
            "kinds": {
                "group_by": ["kind"],
                "measures": {"first": "min(mail)", "names": "min(amount)", "most": "max(at)"},
            },
        },
    },
)
SHAPES = {
    "small": Settings(erase_seconds=ERASE),  # deltas in the manifest until their age calls for a fold
    "large": msgspec.structs.replace(TINY, erase_seconds=ERASE, grace_seconds=1800.0),  # runs, files, many steps
    "mixed": msgspec.structs.replace(TINY, erase_seconds=ERASE, inline_bytes_max=300, alone_rows=9, tier_runs=9),
}


class CrashError(Exception):
    """The process is gone."""


class World:
    """A bucket whose people come and go, their index, and the maintenance that a schedule runs."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.r = random.Random(seed + 1000)  # secrets must not be the names of files
        self.store = InterleavingStore(open_index_store("memory://"))
        self.data = open_data_store("memory://")
        self.runtime = TestRuntime(seed)
        self.settings = settings
        self.engine = Engine(self.store, self.data, self.runtime, settings=settings)
        self.engine.define(DEFINITION)
        self.bucket: dict[str, list[dict[str, Any]]] = {}
        self.events: set[str] = set()
        self.gone: list[bytes] = []  # needles of what the bucket lost since the last commit
        self.deleted: dict[bytes, float] = {}  # needles, and when their deletion was committed
        self.crashes = 0
        self.files: dict[str, bytes] = {}

    def person(self) -> dict[str, Any]:
        r = self.r
        low = r.choice("0m~")  # of every group the first, in the middle, the last
        secret = f"{low}{r.getrandbits(64):016x}"
        return {
            "mail": secret + "@" * r.choice([1, 300]),
            "team": r.choice(["a", "b", f"team {r.getrandbits(64):016x}"]),
            "names": [f"{r.getrandbits(64):016x}" for _ in range(r.randrange(3))],
            "amount": f"{r.choice(['-', ''])}{r.getrandbits(44)}.{r.getrandbits(40)}1",
            "number": r.choice([1, "one " + secret]),  # a reject, which keeps what it can't index
            "at": f"20{r.randrange(10, 99)}-01-01T00:00:00.{r.randrange(10**6):06d}Z",
        }

    def change(self, keys: int) -> None:
        """Some objects are put, replaced or deleted; each is announced."""
        for _ in range(keys):
            key = f"p/{self.r.randrange(12)}"
            gone = self.bucket.pop(key, [])
            if self.r.random() < 0.35:
                self.data.delete_many([key])
            else:
                made = [self.person() for _ in range(self.r.choice([1, 1, 2, 12]))]
                kept = gone[: self.r.randrange(3)] if self.r.random() < 0.5 else []
                gone = gone[len(kept) :]
                self.bucket[key] = kept + made
                body = b"".join(json.dumps(person).encode() + b"\n" for person in self.bucket[key])
                self.data.put(key, body)
            for person in gone:
                self.gone += needles(person)
            self.events.add(key)

    def apply(self) -> None:
        """What was announced is indexed, or the writer crashes at its swap and the events come back."""
        if self.events:
            with self.crashing(0.3):
                result = self.engine.apply("people", [Event(key) for key in sorted(self.events)])
                assert not result.failed
                self.deleted |= dict.fromkeys(self.gone, self.runtime.clock)
                self.events, self.gone = set(), []

    def round(self) -> None:
        """One run of the schedule: a compactor with more or less time, which crashes now and then."""
        with self.crashing(0.2):
            left = interrupted(self.r.choice([90, 300]))
            maintain(self.engine, "people", time_left=left)
        self.runtime.clock += ROUND

    def crashing(self, probability: float) -> Any:
        return _Crashing(self, probability)

    def manifest(self) -> Manifest:
        return self.engine.load("people").manifest

    def found(self) -> Iterator[tuple[str, bytes]]:
        """Every file of the index, unpacked."""
        listed = [entry.key for entry in self.store.list("")]
        self.files = {path: body for path, body in self.files.items() if path in listed}
        for path in listed:
            if path not in self.files or path.endswith("manifest.json"):
                self.files[path] = unpacked(self.store.get(GetRequest(path)).body)
        yield from self.files.items()

    def rebuilt(self) -> dict[str, Any]:
        """What an index made from nothing out of the bucket holds."""
        index = open_index_store("memory://")
        fresh = Engine(index, self.data, TestRuntime(99))
        fresh.define(DEFINITION)
        fresh.apply("people", [Event(listed.key) for listed in self.data.list("")])
        return contents(Snapshot(index, fresh.load("people").manifest, DEFINITION, BlockCache()))

    def contents(self) -> dict[str, Any]:
        return contents(Snapshot(self.store, self.manifest(), DEFINITION, BlockCache()))

    def overdue(self) -> list[tuple[str, bytes]]:
        """Deleted values that are still somewhere though their time is over."""
        late = [needle for needle, at in self.deleted.items() if at + ERASE < self.runtime.clock]
        everything = b"".join(body for _, body in self.found()) if late else b""
        still = [needle for needle in late if needle in everything]
        return [(path, needle) for needle in still for path, body in self.found() if needle in body]


class _Crashing:
    def __init__(self, world: World, probability: float) -> None:
        r = world.r
        self.world, self.left = world, r.randrange(20 if r.random() < probability else 10**9)

    def __enter__(self) -> None:
        def swap() -> None:
            self.left -= 1
            if self.left < 0:
                raise CrashError

        self.world.store.before_swap = swap

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> bool:
        self.world.store.before_swap = None
        self.world.crashes += kind is CrashError
        return kind is CrashError


def needles(person: dict[str, Any]) -> list[bytes]:
    """What shows that a file holds something of a person: digits, so in any of a value's forms."""
    found = [person["mail"][:17], person["team"][5:], *person["names"]]
    found += [person["amount"].strip("-").partition(".")[0], person["at"]]
    return [text.encode() for text in found if len(text) > 8]


def unpacked(body: bytes) -> bytes:
    """A file with all that is in it: frames decompressed, those for skipping too, and what a manifest inlines."""
    parts = [body]
    if body.startswith(b"{"):
        parts += [unpacked(base64.b64decode(text)) for text in re.findall(rb'"inline":"([^"]+)"', body)]
    while len(body) > SKIPPABLE_HEADER.size and not body.startswith(b"{"):
        magic, length = SKIPPABLE_HEADER.unpack_from(body)
        if magic == SKIPPABLE_MAGIC:
            payload, body = body[8 : 8 + length], body[8 + length :]
            if payload.startswith(b"\x28\xb5\x2f\xfd"):
                parts.append(unpacked(payload))
        else:
            decompressor = _zstd.ZstdDecompressor()
            parts.append(decompressor.decompress(body))
            body = decompressor.unused_data
    return b"\n".join(parts)


@pytest.fixture(autouse=True)
def small_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of manifests move to descriptors soon."""
    monkeypatch.setitem(ManifestStore.__init__.__kwdefaults__, "bytes_max", 12_000)
    monkeypatch.setattr("bucketdex.storage.descriptors.PART_BYTES_MIN", 500)


@pytest.mark.parametrize(("shape", "seed", "in_blocks"), [("small", 1, False), ("large", 8, True), ("mixed", 6, False)])
def test_what_was_deleted_is_gone_in_time(
    shape: str, seed: int, in_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_blocks:
        read_in_blocks(monkeypatch)
    world = World(seed, SHAPES[shape])
    checked = 0
    for number in range(3 * ROUNDS):
        if world.r.random() < 0.3:
            world.change(world.r.randrange(1, 4))
        world.apply()
        world.round()
        assert world.overdue() == [], number
        if number % ROUNDS == ROUNDS - 1:
            assert not world.events
            assert world.contents() == world.rebuilt(), number
            checked += world.crashes
    living = [needle for people in world.bucket.values() for person in people for needle in needles(person)[:1]]
    everything = b"".join(body for _, body in world.found())
    assert living and all(needle in everything for needle in living), "the search finds what is there"
    assert len(world.deleted) > 100 and checked


@pytest.mark.parametrize(("shape", "seed"), [("small", 22), ("mixed", 23)])
def test_what_was_deleted_leaves_successors_too(shape: str, seed: int) -> None:
    """Those under way, given up, and promoted."""
    world = World(seed, SHAPES[shape])
    for number in range(3 * ROUNDS):
        if world.r.random() < 0.3:
            world.change(world.r.randrange(1, 4))
        world.apply()
        choice = world.r.random()
        if choice < 0.08:
            world.engine.rebuild("people")
        elif choice < 0.14:
            world.engine.build_successor("people")
        elif choice < 0.18:
            world.engine.abandon("people")
        world.round()
        assert world.overdue() == [], number
    world.apply()
    assert world.contents() == world.rebuilt()


def test_a_promotion_keeps_what_is_before_what() -> None:
    world = World(11, SHAPES["large"])
    name = world.engine.rebuild("people")
    world.engine.compact("people", mode="full")
    for number in range(12):
        world.change(2)
        world.apply()
        world.engine.compact(name, None if number % 3 else "by_mail", mode="full", in_time=interrupted(9))
    world.change(9)
    world.apply()
    live, successor = world.manifest(), world.engine.load(name).manifest
    assert successor.generation > live.generation + 9, "its numbers would be of the future"
    new = promoted(live, successor, world.runtime, world.settings)
    compared = 0
    for view, state in successor.views.items():
        pairs = list(zip(state.runs, new.views[view].runs, strict=True))
        for old_run, new_run in pairs:
            for old_delta, new_delta in zip(successor.deltas, new.deltas, strict=True):
                assert (new_delta.added <= new_run.through) == (old_delta.added <= old_run.through)
            for old_other, new_other in pairs:
                assert new_run.since <= new_other.through or old_run.since > old_other.through
                compared += old_run.since > old_other.through
            assert new_run.through <= new.generation
    assert compared and successor.deltas


def quiet(world: World, rounds: int) -> list[str]:
    """What the schedule did to the table in so many rounds without traffic, by kind of swap."""
    begun = world.manifest().generation
    kinds: dict[int, str] = {}
    for _ in range(rounds):
        maintain(world.engine, "people", time_left=interrupted(150))
        kinds |= {entry.generation: entry.kind for entry in world.manifest().log if entry.generation > begun}
        world.runtime.clock += ROUND
    return list(kinds.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_quiet_table_is_soon_left_alone(shape: str) -> None:
    world = World(3, SHAPES[shape])
    for _ in range(6):
        world.change(3)
        world.apply()
        world.round()
    world.apply()
    quiet(world, ROUNDS)
    assert all(not run.retracted_at for view in world.manifest().views.values() for run in view.runs)
    assert all(not run.retracted for view in world.manifest().views.values() for run in view.runs)
    assert world.engine.debt(world.manifest()) == []
    after = quiet(world, 4 * ROUNDS)
    assert set(after) <= {"collection"}
    assert len(after) <= 4 * 4 + 1, "no more than the sweeps"


def test_steady_deletions_cost_few_merges() -> None:
    """Each view is merged whole about twice in `erase_seconds`, not whenever something is retracted."""
    steps = {}
    for erase in (ERASE, 10_000 * ERASE):
        world = World(5, msgspec.structs.replace(SHAPES["small"], erase_seconds=erase))
        steps[erase] = 0
        for _ in range(3 * ROUNDS):
            world.change(2)
            world.apply()
            steps[erase] += maintain(world.engine, "people", time_left=lambda: True)
            world.runtime.clock += ROUND
    views = len(world.manifest().views)
    assert steps[ERASE] - steps[10_000 * ERASE] <= views * 3 * (4 + 2), "folds and merges: a quarter and half"


def test_a_merge_that_takes_many_rounds_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though somebody goes on writing, all over the range."""
    read_in_blocks(monkeypatch)
    bounds = {"step_rows": 10, "block_bytes": 200, "merge_blocks": 1, "retracted_share": 1.0, "tier_runs": 99}
    world = World(2, msgspec.structs.replace(SHAPES["small"], **bounds))
    for key in range(24):
        people = [world.person() for _ in range(12)]
        world.data.put(f"p/{key}", b"".join(json.dumps(person).encode() + b"\n" for person in people))
    world.engine.apply("people", [Event(f"p/{key}") for key in range(24)])
    world.engine.compact("people", "by_mail", mode="full")
    world.data.delete_many(["p/0"])
    world.engine.apply("people", [Event("p/0")])
    world.runtime.clock += ERASE * 0.6
    world.engine.compact("people", "by_mail", mode="tidy", in_time=interrupted(1))  # folds
    lows = []
    for number in range(40):
        late = world.runtime.clock - ERASE / 2
        runs = world.manifest().views["by_mail"].runs
        due = [run.start or "" for run in runs if run.retracted_at and run.retracted_at < late]
        if not due:
            break
        lows.append(min(due))
        world.engine.compact("people", "by_mail", mode="tiered", in_time=interrupted(1))
        world.runtime.clock += 1
        world.data.delete_many([f"p/{1 + number % 23}"])
        world.engine.apply("people", [Event(f"p/{1 + number % 23}")])
        world.engine.compact("people", "by_mail", mode="tidy", in_time=interrupted(1))  # folds
    assert 5 < len(lows) < 30
    assert lows == sorted(lows)


@pytest.mark.parametrize("deleted_first", [True, False])
def test_what_an_interrupted_merge_leaves_of_its_inputs_is_erased(
    deleted_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file still holds what the merge has taken out of it, and no retraction that would say so."""
    monkeypatch.setattr("bucketdex.views.loader.WHOLE_FILE_BYTES", 0)
    bounds = {"step_rows": 1, "block_bytes": 50, "merge_blocks": 1, "tier_runs": 2, "retracted_share": 9.0}
    world = World(4, msgspec.structs.replace(SHAPES["small"], **bounds))

    def commit(key: str, *people: dict[str, Any]) -> None:
        if people:
            world.data.put(key, b"".join(json.dumps(person).encode() + b"\n" for person in people))
        else:
            world.data.delete_many([key])
        world.engine.apply("people", [Event(key)])
        world.engine.compact("people", "by_mail", mode="tidy", in_time=interrupted(1))  # folds

    lowest = "0: of this nothing stays"
    commit("p/0", world.person() | {"mail": lowest, "number": 1}, *[world.person() for _ in range(60)])
    commit("p/1", *[world.person() | {"mail": f"{number:04}"} for number in range(2)])
    if deleted_first:
        commit("p/0", *[world.person() for _ in range(60)])
    world.engine.compact("people", "by_mail", mode="full", in_time=interrupted(1))
    assert any(run.start for run in world.manifest().views["by_mail"].runs)
    if not deleted_first:
        commit("p/0", world.person())
    world.engine.compact("people", "by_mail", mode="tiered")
    quiet(world, ROUNDS + 1)
    assert not [path for path, body in world.found() if lowest.encode() in body]


@pytest.mark.parametrize("view", ["mails", "by_mail"])
def test_a_merge_of_some_runs_keeps_their_age(view: str) -> None:
    world = World(8, msgspec.structs.replace(SHAPES["small"], tier_runs=2, retracted_share=9.0))
    people = [world.person() | {"number": number} for number in range(60)]
    secret = people[-1]["mail"][:17].encode()
    for key, held in (("p/0", people), ("p/0", people[:-1]), ("p/1", [world.person() | {"number": 1}])):
        world.data.put(key, b"".join(json.dumps(person).encode() + b"\n" for person in held))
        world.engine.apply("people", [Event(key)])
        world.engine.compact("people", view, mode="tidy", in_time=interrupted(1))  # folds
    assert len(world.manifest().views[view].runs) == 3
    world.engine.compact("people", view, mode="tiered")
    assert len(world.manifest().views[view].runs) == 2
    quiet(world, ROUNDS + 1)
    assert not [path for path, body in world.found() if secret in body]


def test_a_merge_that_cannot_be_whole_waits_for_the_fold() -> None:
    """A summary's merge leaves its age as it is unless it is whole: it would be due again at once, for ever."""
    bounds = {"step_rows": 1, "block_bytes": 50, "merge_blocks": 1, "tier_runs": 2, "delta_rows_max": 9}
    world = World(6, msgspec.structs.replace(SHAPES["small"], **bounds))
    for key, count in (("p/0", 1), ("p/1", 12), ("p/2", 12)):
        people = [world.person() | {"number": number} for number in range(count)]
        world.data.put(key, b"".join(json.dumps(person).encode() + b"\n" for person in people))
        world.engine.apply("people", [Event(key)])
    read = world.manifest().views["mails"]
    assert read.folded == 1 and len(read.runs) == 2 and world.manifest().deltas[0].added < read.runs[0].since
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bucketdex.views.loader.WHOLE_FILE_BYTES", 0)
        world.engine.compact("people", "mails", mode="tiered", in_time=interrupted(1))
    assert any(run.retracted_at for run in world.manifest().views["mails"].runs)
    quiet(world, ROUNDS)
    assert not any(run.retracted_at for run in world.manifest().views["mails"].runs)
    assert "compaction" not in quiet(world, ROUNDS)


def test_what_has_waited_longest_comes_first() -> None:
    """A schedule that runs out of time gets to every view, though others are due again and again."""
    world = World(10, msgspec.structs.replace(SHAPES["small"], tier_runs=2))
    for view in ("teams", "by_mail", "records"):
        for key in ("p/0", "p/0"):
            world.data.put(key, json.dumps(world.person() | {"number": 1}).encode())
            world.engine.apply("people", [Event(key)])
            world.engine.compact("people", view, mode="tidy", in_time=interrupted(1))
        world.runtime.clock += 60
    world.runtime.clock += ERASE
    assert world.engine.debt(world.manifest())[:3] == ["teams", "by_mail", "records"]


def test_a_full_compaction_erases_at_once() -> None:
    world = World(7, SHAPES["small"])
    for _ in range(4):
        world.change(6)
        world.apply()
    world.engine.compact("people", mode="full")
    deleted = list(world.deleted)
    live = {file.path for view in world.manifest().views.values() for run in view.runs for file in run.files}
    assert deleted and live
    for path, body in world.found():
        assert path not in live or not any(needle in body for needle in deleted), path


def test_a_sweep_that_crashed_is_made_up_for() -> None:
    """Also where nothing is committed any more, so that no generation is above the floor."""
    world = World(9, SHAPES["small"])
    orphan = delta_path("people", 0, "0123456789abcdef")
    world.store.put(orphan, b"a secret")
    world.runtime.clock += ERASE / 4 + 1
    deletes, world.store.delete_many = world.store.delete_many, failing  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        world.engine.collect("people")
    world.store.delete_many = deletes  # type: ignore[method-assign]
    world.engine.collect("people")
    assert orphan in [listed.key for listed in world.store.list("")], "not at every collection"
    world.runtime.clock += ERASE / 4 + 1
    world.engine.collect("people")
    assert [listed.key for listed in world.store.list("")] == ["tables/people/manifest.json"]


def failing(keys: Any) -> None:
    raise CrashError


@pytest.mark.parametrize("bounds", [{"erase_seconds": ERASE - 1}, {"erase_seconds": ERASE, "grace_seconds": 3601.0}])
def test_bounds_that_cannot_be_kept_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="erase_seconds is"):
        Settings(**bounds)  # type: ignore[arg-type]
