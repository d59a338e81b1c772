"""Walks, backfill and verify over whatever keys S3 allows, in pages of any size, while everything moves."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from enginekit import TINY, TestRuntime
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event, walk
from bucketdex.errors import KeyMissingError, SnapshotExpiredError, TableNotFoundError
from bucketdex.storage import Got, Listed, ObjectStore, OpenObject, open_index_store
from bucketdex.views import BlockCache, Snapshot

# Borders of the orders that have to agree: of bytes, of code points, of the escape, of prefixes.
CHARACTERS = "\x00\x01\x02ab/.+ é\ud7ff\ue000\uffff\U00010000\U0010ffff"
keys_after = st.text(CHARACTERS, max_size=4)
prefixes = st.one_of(
    st.sampled_from(["a/", "a", "\U0010ffff", "\ud7ff", "b\x01"]), st.text(CHARACTERS, min_size=1, max_size=2)
)


class Bucket(ObjectStore):
    """A bucket in memory that takes any key and lists by UTF-8 bytes. `before(operation)` may change it."""

    url = "memory://odd"

    def __init__(self, runtime: TestRuntime) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.runtime = runtime
        self.moving: Any = lambda: None

    def put(self, key: str, body: bytes, **_: Any) -> str:
        self.runtime.clock += 1.0
        self.objects[key] = (body, self.runtime.clock)
        return self._etag(key)

    def delete_many(self, keys: Any) -> None:
        for key in keys:
            self.objects.pop(key, None)

    def open(self, key: str, **_: Any) -> OpenObject:
        self.moving()
        if key not in self.objects:
            raise KeyMissingError(key)
        body, modified = self.objects[key]
        info = Got(key, b"", self._etag(key), len(body), modified, storage_class="STANDARD")
        return OpenObject(info, iter([body]), lambda: None)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        done = (start_after or "").encode()
        while True:
            self.moving()
            rest = sorted(key.encode() for key in self.objects if key.startswith(prefix))
            page = [key.decode() for key in rest if key > done][:2]  # S3's pages: keys may come and go between them
            for key in page:
                if key in self.objects:
                    body, modified = self.objects[key]
                    yield Listed(key, len(body), self._etag(key), modified)
            if not page:
                return
            done = page[-1].encode()

    def _etag(self, key: str) -> str:
        return f'"{hashlib.blake2b(self.objects[key][0], digest_size=8).hexdigest()}"'

    def get(self, request: Any) -> Any:
        raise NotImplementedError

    def folders(self, prefix: str) -> Any:
        raise NotImplementedError

    def tags(self, key: str) -> dict[str, str]:
        return {}

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self


def table(prefix: str) -> TableDefinition:
    return TableDefinition.from_dict(
        "t",
        {
            "source": {"prefix": prefix, "format": "ndjson"},
            "fields": {"n": "int", "s": "string"},
            "indexes": {"by_n": ["n"], "by_s": ["s", "n"]},
            "summaries": {
                "sums": {"group_by": ["s"], "measures": {"n": "count()", "least": "min(n)", "all": "sum(n)"}}
            },
        },
    )


class World:
    def __init__(self, prefix: str) -> None:
        self.runtime = TestRuntime(1)
        self.bucket, self.index = Bucket(self.runtime), open_index_store("memory://")
        self.engine = Engine(self.index, self.bucket, self.runtime, settings=TINY)
        self.prefix, self.definition = prefix, table(prefix)
        self.engine.define(self.definition)
        self.contents_made = 0

    def put(self, key: str) -> None:
        self.contents_made += 1
        lines = [{"n": self.contents_made + i, "s": "xy"[i % 2]} for i in range(self.contents_made % 3)]
        self.bucket.put(key, b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, {"n": "bad"}][:3]))

    def rows(self) -> dict[str, int]:
        """The number of records of each key that is indexed."""
        manifest = self.engine.load("t").manifest
        snapshot = Snapshot(self.index, manifest, self.definition, BlockCache())
        return {json.loads(e.line)["_key"]: json.loads(e.line)["records"] for e in snapshot.scan("objects", None, None)}


@settings(max_examples=60, deadline=None)
@given(prefixes, st.lists(keys_after, max_size=14, unique=True), st.integers(1, 5), st.data())
def test_keys_of_any_kind_are_walked_once_and_in_order(
    prefix: str, ends: list[str], page_keys: int, data: st.DataObject
) -> None:
    world = World(prefix)
    everybody = [prefix + end for end in ["\x00b", "\x01b", *ends]] + data.draw(
        st.lists(keys_after, max_size=4), label="others"
    )
    listed = [key for key in dict.fromkeys(everybody) if key and data.draw(st.booleans())]
    indexed = [key for key in dict.fromkeys(everybody) if key.startswith(prefix) and data.draw(st.booleans())]
    for key in {*listed, *indexed}:
        world.put(key)
    if indexed:
        assert not world.engine.apply("t", [Event(key) for key in indexed]).failed
    if data.draw(st.booleans(), label="compact"):
        world.engine.compact("t")
    world.bucket.delete_many([key for key in world.bucket.objects if key not in listed])
    own = [key for key in listed if key.startswith(prefix)]
    start_after = data.draw(st.one_of(st.none(), st.sampled_from([*everybody, "a", prefix]), keys_after))
    narrower = data.draw(
        st.sampled_from([None, "", prefix[:1], prefix, prefix + "\x01", prefix + "a", prefix + "\U0010ffff"])
    )
    means = world.engine._verifier._means
    path = walk.Walk(means, "t", narrower, start_after)
    pairs = [
        (pair.key, pair.listed is not None, pair.row is not None) for page in path.pages(page_keys) for pair in page
    ]
    wanted = sorted(key for key in {*own, *indexed} if key > (start_after or "") and key.startswith(narrower or ""))
    assert pairs == [(key, key in own, key in indexed) for key in wanted]
    assert path.ended
    if start_after is None and not narrower:
        turn = world.engine.verify("t", deep=True)
        assert {item.key: item.kind for item in turn.differences} == {
            key: "missing" if key in own else "extra" for key in {*own, *indexed} if not (key in own and key in indexed)
        }
        assert world.engine.backfill("t").due == len(set(own) - set(indexed))
        assert world.engine.verify("t", repair=True).is_good
        assert sorted(world.rows()) == sorted(own) and world.engine.verify("t", deep=True).found == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["a/", "\ud7ff"]))
def test_whatever_moves_meanwhile_the_end_is_exact(seed: int, prefix: str) -> None:
    """Uploads, deletions, late and lost events, folds, collections past the grace period, a table that is dropped and
    made again, clocks that jump: nothing is reported that isn't so, nothing waits for long, and what is left is exact."""
    world, r = World(prefix), random.Random(seed)
    live = Engine(world.index, world.bucket, TestRuntime(seed + 2), settings=TINY)
    keys = [prefix + "".join(r.choices(CHARACTERS, k=r.randrange(4))) for _ in range(9)]
    late: list[str] = []
    slept: list[float] = []
    depth = [0]

    def step() -> None:
        what, key = r.randrange(16), r.choice(keys)
        if what < 4:
            world.put(key)
            late.append(key)
        elif what < 6:
            world.bucket.delete_many([key])
            late.append(key)
        elif what < 9 and late:
            live.apply("t", [Event(key) for key in late if r.random() < 0.9])
            late.clear()
        elif what == 9:
            live.compact("t", mode="full")
        elif what == 10:
            live._applier._means.runtime.clock = world.runtime.clock + 1_000  # type: ignore[attr-defined]
            live.sweep("t")
            live.collect("t")
        elif what == 11:
            world.runtime.clock += r.choice([-5_000.0, -3.0, 0.4, 5_000.0])
        elif what == 12 and r.random() < 0.3:
            live.drop_table("t")
            live.define(world.definition)
        elif what == 13 and r.random() < 0.3:
            live.rebuild("t")
        elif what == 14 and live.successor("t"):
            live.build_successor("t")
        else:
            world.put(key)
            live.apply("t", [Event(key)])

    def moving() -> None:
        if not depth[0] and r.random() < 0.5:  # (our own reading is moved, not that of the movers)
            depth[0] += 1
            step()
            depth[0] -= 1

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.runtime.clock += seconds
        world.bucket.moving()

    world.runtime.sleep = sleep  # type: ignore[method-assign]
    for _ in range(12):
        step()
    world.bucket.moving = moving
    for _ in range(3):
        with suppress(SnapshotExpiredError, TableNotFoundError):
            world.engine.backfill("t", rate=r.choice([None, 2.0]))
        with suppress(SnapshotExpiredError, TableNotFoundError):
            found = world.engine.verify(
                "t", deep=r.random() < 0.5, views=False, repair=r.random() < 0.5, settle_seconds=7.0
            )
            assert found.failures == 0, found.failed
    assert max(slept, default=0.0) <= 7.0, "a clock that jumps makes nobody wait"
    world.bucket.moving = lambda: None
    found = world.engine.verify("t", repair=True)
    assert found.is_good, found
    assert sorted(world.rows()) == sorted(world.bucket.objects)
    again = world.engine.verify("t", deep=True)
    assert (again.found, again.views, again.failures) == (0, {}, 0)
