"""Backfills as a deployment works them off: turns of a function, pages in a queue of their own, and commands."""

from __future__ import annotations

from contextlib import suppress

from actors import apply_pages
from place import Place

from bucketdex.engine import Engine
from bucketdex.errors import BackfillError


class Backfiller:
    """The backfiller function, any number of turns at once, and whoever commands it."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> None:
        self._place.processes(self._turn, self._place.hesitant_engine)

    def _turn(self, engine: Engine) -> float:
        place, r = self._place, self._place.random
        if r.random() < 0.3:
            with suppress(BackfillError), place.cut_short("commands"):
                self._command(engine)
        steps = iter(range(r.choice([1, 3, 10, 40])))
        for job in engine.continue_backfills(place.pages, in_time=lambda: next(steps, None) is not None):
            place.counts[f"turns that left a job {job.state}"] += 1
        return r.choice([1.0, 20.0, 200.0])

    def _command(self, engine: Engine) -> None:
        r = self._place.random
        choice = r.random()
        if choice < 0.5:
            engine.follow_successor("t")
        elif choice < 0.7:
            engine.start_backfill("t", force=r.random() < 0.2, rate=r.choice([None, None, 2.0]))
        else:
            jobs = engine.jobs
            r.choice([jobs.pause, jobs.resume, jobs.resume, jobs.cancel])("t")


def work_off(place: Place, engine: Engine) -> None:
    """Ends the backfills under way, as turns, indexers and compactors do in time when nothing goes wrong."""
    for _ in range(100):
        saved = engine.jobs.load("t")
        if saved is None or saved.job.state in ("done", "cancelled"):
            break
        if saved.job.state != "running":  # somebody looks at it
            engine.jobs.resume("t")
        steps = iter(range(10))
        engine.continue_backfills(place.pages, in_time=lambda steps=steps: next(steps, None) is not None)
        place.scheduler.now += 2_000
        apply_pages(place, engine, place.pages.receive(100, 900.0))
        for manifest in engine.manifests("t"):
            for name, state in manifest.views.items():
                if state.state == "building":
                    engine.compact(manifest.table, name, mode="tiered")
    else:
        raise AssertionError(f"a backfill that never ends: {saved}")
    place.scheduler.now += 2_000
    apply_pages(place, engine, place.pages.receive(1_000, 900.0))
    assert not place.pages.waiting
