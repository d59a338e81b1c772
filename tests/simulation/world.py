"""One seed's world, played: everything at once under faults, then a calm end, then the checks at rest."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from actors import Builder, Collector, Compactor, Deployer, Indexer, Reader, Repairer, Writer
from backfills import Backfiller, work_off
from bounds import bounds
from bucket import Bucket
from checks import assert_consistent, assert_erased, assert_no_orphans, contents, definition_of, snapshot_of
from clients import Client
from memo import forget, install
from place import Place
from releases import releases
from scheduler import Scheduler
from shapes import draw
from toxics import Toxicity
from witness import SKEW_MAX_S

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event
from bucketdex.engine.folds import wrong_views
from bucketdex.storage import ManifestStore
from bucketdex.views import RECORDS

STEPS_MAX = 60_000
MAINTENANCE_S = 900.0
SECRET = re.compile(rb"z[0-9a-f]{10}z")


class World:
    """Builds everything from one seed, runs it, and checks it."""

    def __init__(self, seed: int) -> None:
        install()
        forget()
        self.scheduler = Scheduler(seed)
        self.shape = draw(self.scheduler.random)
        self.place = Place(self.scheduler, self.shape)
        self.counts: Counter[str] = self.place.counts
        self.definition = self.shape.definitions[0]

    def run(self) -> None:
        """Raises when something doesn't hold."""
        with (
            bounds(self.shape.manifest_bytes_max, self.shape.whole_file_bytes, self.counts),
            releases(self.scheduler),
        ):
            if not self.shape.late:
                self.place.engine(Toxicity()).define(self.definition)
            self._spawn()
            self.scheduler.run(STEPS_MAX)
            self._settle()
            self._check_at_rest()
            if self.shape.erasing:
                self._check_erased()

    def _spawn(self) -> None:
        shape, place = self.shape, self.place
        crew = [Writer] * shape.writers + [Indexer] * shape.indexers + [Compactor] * shape.compactors
        crew += [Collector] * shape.collectors + [Deployer] * shape.deployers + [Repairer] * shape.repairers
        crew += [Builder] * shape.builders + [Backfiller] * shape.backfillers + [Client] * shape.clients
        for i, member in enumerate([*crew, Reader]):
            skew_s = self.scheduler.random.uniform(-SKEW_MAX_S, SKEW_MAX_S)
            self.scheduler.spawn(f"{member.__name__} {i}", member(place).run, skew_s=skew_s)

    def _settle(self) -> None:
        """No more faults: what deployments, schedules, queues and their owners would bring about in time."""
        place, r = self.place, self.scheduler.random
        engine = place.engine(Toxicity())
        self._check_live()
        self._redrive(engine)
        self._repair(engine)
        if r.random() < 0.5:
            engine.compact("t", mode=r.choice(["tidy", "full"]))
        for _ in range(2):
            self.scheduler.now += 50_000
            engine.collect("t")

    def _redrive(self, engine: Engine) -> None:
        """What was given up is poison; once nothing is, it is sent again, once and completely."""
        place, shape = self.place, self.shape
        dead = place.queue.dead
        assert all(shape.is_poison(message.event.key) for message in dead), f"given up: {dead}"
        self.counts["dead letters"] += len(dead)
        if place.poison and not self._is_repaired_later and not shape.deployers:
            self._check_healthy(engine)
        place.poison = {}
        if shape.backfillers:
            work_off(place, engine)
            engine.define(self.definition)
            engine.follow_successor("t")
            work_off(place, engine)
        engine.create_table(self.definition)
        for message in dead:
            assert not engine.apply("t", [message.event]).failed

    @property
    def _is_repaired_later(self) -> bool:
        return bool(self.place.queue.lost or self.place.witness.dropped)

    def _repair(self, engine: Engine) -> None:
        """Events that never came, or came while the table was dropped."""
        if not self._is_repaired_later:
            return
        if set(self.shape.delivery.lost_kinds) == {"created"} and self.scheduler.random.random() < 0.7:
            assert not engine.backfill("t").failures
        else:
            assert not engine.verify("t", repair=True, settle_seconds=0.0).failures
        assert engine.verify("t", deep=True, settle_seconds=0.0).is_good

    def _check_live(self) -> None:
        """Before anybody heals anything: the table is what its own definition makes of the bucket."""
        place = self.place
        manifest = place.witness.manifests.get("t")
        if not self.shape.deployers or manifest is None or self._is_repaired_later or place.queue.dead:
            return
        found = contents(snapshot_of(place.calm_store(place.index), manifest))
        rebuilt = self._rebuilt(definition_of(manifest).settled())
        assert {name: rebuilt[name] for name in found if name in rebuilt} == {
            name: lines for name, lines in found.items() if name in rebuilt
        }, "the live table differs from a rebuild"
        self.counts["live tables compared"] += 1

    def _check_healthy(self, engine: Engine) -> None:
        """The keys that can be read are right, whatever their neighbours in a batch did."""
        manifest = engine.load("t").manifest
        found = contents(snapshot_of(self.place.calm_store(self.place.index), manifest))[RECORDS]
        rebuilt = self._rebuilt(self.definition)[RECORDS]
        for key in set(self.shape.keys) - set(self.place.poison):
            mark = f'"_key":"{key}"'.encode()
            assert [x for x in found if mark in x] == [x for x in rebuilt if mark in x], f"{key} differs from a rebuild"

    def _check_at_rest(self) -> None:
        store = self.place.calm_store(self.place.index)
        manifests = ManifestStore(store, self.place.runtime)
        assert manifests.tables() == ["t"]
        manifest = manifests.load("t").manifest
        found = assert_consistent(snapshot_of(store, manifest))
        assert found == self._rebuilt(self.definition), "the index differs from a rebuild"
        wrong = wrong_views(snapshot_of(store, manifest))  # hidden ones among them
        assert not wrong, f"not the fold of the records: {wrong}"
        assert_no_orphans(store, manifest)
        assert definition_of(manifest) == self.definition

    def _check_erased(self) -> None:
        """After a calm of `erase_seconds`, with the maintenance that a schedule brings, no file holds what was deleted."""
        engine, data = self.place.engine(Toxicity()), self.place.data
        rounds = int(self.shape.settings.erase_seconds / MAINTENANCE_S) + 1
        landed = 0
        for number in range(rounds):
            if number == rounds // 2:
                landed = self.counts["compaction landed"]
            self.scheduler.now += MAINTENANCE_S
            engine.collect("t")
            for view in engine.debt(engine.load("t").manifest):
                engine.compact("t", view, mode="tiered")
        left = b"".join(found.body for key in data.live_keys() if (found := data.current(key)) and found.body)
        gone = {secret for body in data.bodies.values() for secret in SECRET.findall(body)} - set(SECRET.findall(left))
        assert_erased(self.place.index, gone)
        self.counts["deleted values searched for"] += len(gone)
        assert self.counts["compaction landed"] == landed, "maintenance doesn't come to rest"
        self._check_at_rest()

    def _rebuilt(self, definition: TableDefinition) -> dict[str, Any]:
        index = self.place.calm_store(Bucket(lambda: 0.0))
        fresh = Engine(index, self.place.calm_store(self.place.data), self.place.runtime)
        fresh.define(definition)
        if keys := self.place.data.live_keys():
            assert not fresh.apply("t", [Event(key) for key in keys]).failed
        return contents(snapshot_of(index, fresh.load("t").manifest))


def run_seed(seed: int) -> Counter[str]:
    """Plays one seed; what happened, counted. Raises when something didn't hold."""
    return play(seed).counts


def play(seed: int) -> World:
    """Plays one seed; the world as it has come to rest."""
    world = World(seed)
    world.run()
    world.counts[f"world: {world.shape.kind}"] += 1
    world.counts["steps"] += world.scheduler.steps
    world.counts["events sent again"] += world.place.queue.resent
    world.counts["events lost"] += world.place.queue.lost
    return world
