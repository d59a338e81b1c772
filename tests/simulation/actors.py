"""Who is at work in a simulated world: writers, and the real engine in every part that a deployment gives it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
from checks import assert_consistent, assert_real, contents, snapshot_of
from messages import Message, PageMessage
from place import Place

from bucketdex.engine import Engine, Event
from bucketdex.errors import BucketdexError, SnapshotExpiredError, TableNotFoundError
from bucketdex.storage import Manifest, ManifestStore, is_successor
from bucketdex.views import BlockCache

VISIBILITY_S = 900.0
TWIN = bytes.maketrans(b"xy", b"yx")
REMEMBERED = 3  # generations that a reader looks at again later


class Writer:
    """Puts, overwrites, deletes and restores objects."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._bodies = [self._body() for _ in range(3)]  # few enough that A-B-A happens
        place.writing += 1

    def run(self) -> None:
        place, shape, r = self._place, self._place.shape, self._place.random
        for _ in range(shape.mutations):
            self._change(r.choice(shape.keys))
            place.counts["mutations"] += 1
            place.scheduler.pause(r.choice(shape.pauses_s))
        place.writing -= 1
        place.written_at = place.scheduler.now
        place.queue.end()

    def _change(self, key: str) -> None:
        data, r = self._place.data, self._place.random
        choice = r.random()
        if choice < 0.18:
            data.delete(key)
        elif choice < 0.27:
            data.delete_current_version(key)
        elif choice < 0.5 and key in data.archived:
            data.restore(key)
        else:
            data.put(key, self._next(key))
            if choice > 0.96:
                data.archived.add(key)  # put into a storage class that has to be restored first

    def _next(self, key: str) -> bytes:
        r, current = self._place.random, self._place.data.current(key)
        if current is not None and current.body and r.random() < 0.25:
            return current.body.translate(TWIN)  # as long as it was
        return r.choice(self._bodies) if r.random() < 0.6 else self._body()

    def _body(self) -> bytes:
        rows = self._place.random.choice(self._place.shape.rows)
        return b"".join(msgspec.json.encode(self._document()) + b"\n" for _ in range(rows))

    def _document(self) -> dict[str, Any]:
        r = self._place.random
        groups = ["x", "y", f"z{r.getrandbits(40):010x}z"] if self._place.shape.erasing else ["x", "y", None]
        return {"g": r.choice(groups), "a": r.choice([1, 2, 3, None, "bad"] if r.random() < 0.1 else [1, 2, 3]),
                "t": r.sample(["p", "q"], r.randrange(3))}  # fmt: skip


class Indexer:
    """The indexer function: new messages together, those received before each by itself."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._batch, self._place.indexing_engine)

    def _batch(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        if place.pages.visible() and r.random() < 0.5:
            apply_pages(place, engine, place.pages.receive(r.choice([1, 3, 10]), VISIBILITY_S))
            return r.choice(place.shape.polls_s)
        messages = place.queue.receive(r.choice([1, 3, 10]), VISIBILITY_S)
        if not messages:
            place.queue.wait(place.pages.wakes_at)
            return r.choice(place.shape.polls_s) if len(place.shape.polls_s) > 2 else 0.0
        fresh = [message for message in messages if message.receives == 1]
        for group in ([fresh] if fresh else []) + [[message] for message in messages if message.receives > 1]:
            self._apply(engine, group)
        return r.choice(place.shape.polls_s)

    def _apply(self, engine: Engine, group: list[Message]) -> None:
        place = self._place
        with place.scheduler.call() as call:
            result = engine.apply("t", [message.event for message in group])
        assert place.witness.landed[call] >= result.commits, "a commit is said to have landed that didn't"
        place.counts["commits"] += result.commits
        place.counts["redone"] += result.redone
        place.counts["skipped"] += len(result.skipped)
        for message in group:
            if message.event.key in result.failed:
                error = result.failed[message.event.key]
                assert isinstance(error, BucketdexError), error
                place.queue.postpone(message, place.random.random() * 15)
            else:
                place.queue.done(message)
        for key in {message.event.key: None for message in group}:
            place.promises.acknowledged(key)


def apply_pages(place: Place, engine: Engine, messages: list[PageMessage]) -> None:
    """What the indexer function does with pages: those received for the first time together, a commit a table."""
    fresh = [message for message in messages if message.receives == 1]
    together = [[m for m in fresh if m.table == table] for table in sorted({m.table for m in fresh})]
    for group in (*together, *([message] for message in messages if message.receives > 1)):
        _apply_group(place, engine, group)


def _apply_group(place: Place, engine: Engine, group: list[PageMessage]) -> None:
    table = group[0].table
    failed: set[str] = set()
    try:
        with place.scheduler.call():
            result = engine.apply(table, [Event(key) for message in group for key in message.keys])
        failed |= set(result.failed)
        place.counts["commits of pages"] += result.commits
    except TableNotFoundError:  # its table has another successor by now, or none any more
        if not is_successor(table):
            raise
        place.counts["pages of a successor that is gone"] += len(group)
    for message in group:
        if failed & set(message.keys):
            place.pages.postpone(message, place.random.random() * 15)
        else:
            place.pages.done(message)


class Compactor:
    """Compacts one view after another; any number of these may run by mistake."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._seen = "", 0

    def run(self) -> None:
        self._place.processes(self._compact, self._place.hesitant_engine)

    def _compact(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        table = "t"
        manifest = engine.load(table).manifest
        if manifest.successor is not None and r.random() < 0.5:
            table = manifest.successor
            with suppress(TableNotFoundError):  # given up meanwhile
                manifest = engine.load(table).manifest
        if (table, manifest.generation) == self._seen or not manifest.views:
            quick = place.writing and (place.shape.rebuilds or place.shape.flickers)
            return r.choice([1.0, 5.0] if quick else [5.0, 100.0, 500.0])
        self._seen = table, manifest.generation
        steps = iter(range(1 if r.random() < place.shape.interrupted else r.randrange(2, 8)))
        due = engine.debt(manifest)
        if place.shape.flickers:
            due = [name for name in due if manifest.views[name].state == "building"] or due
        view = (
            due[0] if due and r.random() < 0.4 else r.choice(due if due and r.random() < 0.5 else list(manifest.views))
        )
        mode = r.choice(["tiered", "tidy", "full"])
        place.counts["compactions"] += engine.compact(
            "t", view, mode=mode, in_time=lambda: next(steps, None) is not None
        )
        return r.choice([0.01, 1.0, 20.0])


class Collector:
    """Collects and sweeps."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._collect, self._place.engine)

    def _collect(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        successor = engine.successor("t")
        table = "t" if successor is None or r.random() < 0.5 else successor
        with suppress(TableNotFoundError):  # a successor that was given up meanwhile
            if r.random() < place.shape.sweeps:
                place.counts["orphans swept"] += engine.sweep(table).deleted
                place.counts["sweeps"] += 1
            else:
                place.counts["collected"] += engine.collect(table).deleted
                place.counts["collections"] += 1
        return r.choice([1.0, 5.0, 30.0] if place.shape.kind == "sweeping" and place.writing else [1.0, 300.0, 700.0])


class Deployer:
    """Defines the table this way and that, has it rebuilt, drops it and makes it anew."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._dropped = False

    def run(self) -> None:
        self._place.processes(self._define, self._place.deploying_engine)

    def _define(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        if "t" not in place.witness.manifests:
            engine.create_table(place.shape.definitions[0])
            return 0.0
        assert not self._dropped or place.witness.manifests["t"].state == "dropped", "a dropped table is back"
        self._dropped = False
        if place.shape.drops and r.random() < 0.3:
            engine.drop_table("t")
            place.counts["drops"] += 1
            self._dropped = place.shape.deployers == 1  # nobody else makes it anew
            return r.choice([0.0, 1.0, 50.0])
        definition = r.choice(place.shape.definitions)
        with place.cut_short("definitions"):
            if place.shape.backfillers and r.random() < 0.7:  # as a deployment, which leaves the rest to turns
                if r.random() < 0.3:
                    engine.rebuild("t")
                else:
                    engine.define(definition)
                engine.follow_successor("t")
                place.counts["deployments"] += 1
            elif place.shape.rebuilds and r.random() < 0.4:
                change = r.choice([engine.rebuild, engine.rebuild, engine.abandon])
                change("t")
                place.counts["rebuilds begun" if change == engine.rebuild else "rebuilds given up"] += 1
            else:
                change = r.choice([engine.define, engine.create_table, engine.create_table])
                if place.shape.flickers:
                    change = engine.define
                change(definition)
                place.counts["definitions"] += 1
            if place.shape.deployers == 1:
                place.witness.check_announced("t")
        if place.shape.flickers and place.writing:
            return r.choice([1.0, 5.0])
        return r.choice([1.0, 5.0, 50.0] if place.shape.rebuilds and place.writing else [0.1, 5.0, 100.0, 500.0])


class Builder:
    """Fills the table's successor, whenever there is one, and puts it in its place."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._build, self._place.hesitant_engine)

    def _build(self, engine: Engine) -> float:
        place = self._place
        with place.cut_short("builds"):
            if engine.successor("t") is not None:
                engine.build_successor("t")
                place.counts["builds"] += 1
        return place.random.choice([1.0, 5.0] if place.writing else [1.0, 20.0, 200.0])


class Repairer:
    """Backfills, verifies and repairs, or has keys read again, beside live traffic."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._repair, self._place.indexing_engine)

    def _repair(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        with place.cut_short("repairs"):
            choice = r.random()
            if choice < 0.2:
                self._reindex(engine)
            elif choice < 0.6:
                engine.backfill("t", force=r.random() < 0.2, rate=r.choice([None, None, 2.0]))
                place.counts["backfills"] += 1
            else:
                deep = r.random() < 0.5
                found = engine.verify("t", repair=r.random() < 0.7, deep=deep, settle_seconds=1.0)
                wrong = {name: why for name, why in found.views.items() if "can't be read" not in why}
                assert not wrong, f"views are called wrong: {wrong}"
                place.counts["verifications"] += 1
                place.counts["repaired"] += found.repaired
        return r.choice([1.0, 100.0, 1_000.0])

    def _reindex(self, engine: Engine) -> None:
        place = self._place
        key = place.random.choice(place.shape.keys)
        changes = place.data.changes(key)
        result = engine.reindex("t", [key])
        place.counts["keys read again"] += 1
        if key in result.applied:
            place.promises.applied[key] = changes


class Reader:
    """Reads whole snapshots, new ones and some of the past, and checks each."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._store = place.calm_store(place.index)
        self._manifests = ManifestStore(self._store, place.runtime)
        self._cache = BlockCache(2_000_000)
        self._known: dict[int, tuple[int, dict[str, Any]]] = {}  # by generation: the revision, and what was in it

    def run(self) -> None:
        place, r = self._place, self._place.random
        generation = 0
        while "t" not in place.witness.manifests and not place.resting:
            place.scheduler.pause(1.0)
        while not place.resting:
            manifest = self._manifests.load("t").manifest
            assert manifest.generation >= generation, "generations go back"
            generation = manifest.generation
            if manifest.state == "live" and (manifest.generation not in self._known or r.random() < 0.1):
                if self._known and r.random() < 0.4:
                    self._look_back(manifest)
                self._check(manifest)
            pause_s = r.choice([5.0, 100.0, 1_000.0])
            place.scheduler.wait(place.queue.bell, place.scheduler.now + pause_s)
            place.scheduler.pause(r.random() * min(pause_s, 30.0))

    def _check(self, manifest: Manifest) -> None:
        try:
            if self._place.random.random() < 0.2:
                self._cache = BlockCache(2_000_000)
            found = assert_consistent(snapshot_of(self._store, manifest, cache=self._cache))
            assert_real(found, self._place.data.bodies)
        except SnapshotExpiredError:
            self._place.counts["reads expired"] += 1
            return
        self._place.counts["snapshots checked"] += 1
        before = self._known.setdefault(manifest.generation, (manifest.revision, found))
        assert before[1] == found, f"generation {manifest.generation} has changed"
        while len(self._known) > REMEMBERED:
            del self._known[min(self._known)]

    def _look_back(self, manifest: Manifest) -> None:
        """A generation of the past, put together from the manifest of now, is what it was then."""
        at = self._place.random.choice(sorted(self._known))
        revision, then = self._known[at]
        if revision != manifest.revision:
            return
        try:
            found = contents(snapshot_of(self._store, manifest, at=at, cache=self._cache))
        except SnapshotExpiredError:
            self._place.counts["reads expired"] += 1
            return
        self._place.counts["snapshots of the past"] += 1
        assert {name: found[name] for name in then} == then, f"generation {at} is another one now"
