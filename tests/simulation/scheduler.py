"""Runs actors one step at a time in an order that a seed decides, on a clock that only waiting moves."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

from greenlet import getcurrent, greenlet

START = 1_700_000_000.0
CALM_STEPS_MAX = 2_500  # of the test itself; a thousand are many


class Crash(BaseException):
    """The process is gone at this very store call; nothing of it runs any more."""


class Actor:
    """One process of the simulated world. `call` numbers what it is asked to do; `newer` says that its code is of
    the next release.
    """

    def __init__(self, name: str, run: greenlet | None, skew_s: float) -> None:
        self.name, self.run, self.skew_s = name, run, skew_s
        self.wakes_at = 0.0
        self.call = 0
        self.newer = False


class Scheduler:
    """Owns the clock, all randomness and the turn. Actors give the turn back wherever they touch the world."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = START
        self.steps = self._calm_steps = 0
        self.failure: BaseException | None = None
        self._actors: list[Actor] = []
        self._main = getcurrent()
        self._outside = Actor("the end", None, 0.0)  # the test itself, after the actors have come to rest
        self.current = self._outside
        self._calls = 0
        self._notes: list[tuple[object, ...]] = []

    @property
    def is_over(self) -> bool:
        """Whether the actors have come to rest, and the test itself goes on."""
        return self.current is self._outside

    @property
    def elapsed_s(self) -> float:
        """Virtual time since the beginning."""
        return self.now - START

    @property
    def digest(self) -> str:
        """Of everything that was noted so far."""
        return blake2b("\n".join(map(repr, self._notes)).encode(), digest_size=16).hexdigest()

    def note(self, *what: object) -> None:
        """Something that must be the same, at the same moment, whenever the seed is played."""
        self._notes.append((self.now, self.current.name, *what))

    @contextmanager
    def call(self) -> Iterator[int]:
        """Numbers what the running actor does in it."""
        actor = self.current
        self._calls += 1
        actor.call = self._calls
        try:
            yield actor.call
        finally:
            actor.call = 0

    def spawn(
        self, name: str, body: Callable[[], None], *, delay_s: float = 0.0, skew_s: float = 0.0, call: int = 0
    ) -> None:
        """Adds an actor that begins in `delay_s`."""

        def run() -> None:
            try:
                body()
            except Crash:
                pass
            except BaseException as error:
                self.failure = self.failure or error

        actor = Actor(name, greenlet(run, self._main), skew_s)
        actor.wakes_at = self.now + delay_s
        actor.call = call
        self._actors.append(actor)

    def pause(self, delay_s: float = 0.0) -> None:
        """Gives up the turn, for at least `delay_s` of virtual time."""
        if self.current is self._outside:
            self.now += delay_s
            self._calm_steps += 1
            assert self._calm_steps < CALM_STEPS_MAX, "work that never ends"
            return
        self.current.wakes_at = self.now + delay_s
        self._main.switch()

    def wait(self, bell: list[Actor], until: float) -> None:
        """Gives up the turn until that time, or until `ring` says earlier."""
        actor = self.current
        bell.append(actor)
        self.pause(max(0.0, until - self.now))
        bell.remove(actor)

    def ring(self, bell: list[Actor], at: float) -> None:
        """Wakes those who wait, at that time."""
        for actor in bell:
            actor.wakes_at = min(actor.wakes_at, at)

    def run(self, steps_max: int) -> None:
        """Runs until every actor has ended. Raises what an actor raised."""
        while self._actors:
            if self.steps >= steps_max:
                names = [actor.name for actor in self._actors]
                raise AssertionError(f"no rest after {steps_max} steps: {names} still run")
            now = self.now
            ready = [actor for actor in self._actors if actor.wakes_at <= now]
            if not ready:
                self.now = min([actor.wakes_at for actor in self._actors])
                continue
            self.steps += 1
            self.now += 0.001
            actor = ready[int(self.random.random() * len(ready))] if len(ready) > 1 else ready[0]
            self.current = actor
            assert actor.run is not None
            actor.run.switch()
            self.current = self._outside
            if actor.run.dead:
                self._actors.remove(actor)
            if self.failure is not None:
                raise self.failure
