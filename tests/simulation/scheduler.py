"""Runs actors one step at a time in an order that a seed decides, on a clock that only waiting moves."""

from __future__ import annotations

import random
from collections.abc import Callable

from greenlet import getcurrent, greenlet

START = 1_700_000_000.0


class Crash(BaseException):
    """The process is gone at this very store call; nothing of it runs any more."""


class Actor:
    """One process of the simulated world."""

    def __init__(self, name: str, run: greenlet, skew_s: float) -> None:
        self.name, self.run, self.skew_s = name, run, skew_s
        self.wakes_at = 0.0


class Scheduler:
    """Owns the clock, all randomness and the turn. Actors give the turn back wherever they touch the world."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = START
        self.steps = 0
        self._actors: list[Actor] = []
        self._current: Actor | None = None
        self._main = getcurrent()
        self.failure: BaseException | None = None

    @property
    def elapsed_s(self) -> float:
        """Virtual time since the beginning."""
        return self.now - START

    def spawn(self, name: str, body: Callable[[], None], *, delay_s: float = 0.0, skew_s: float = 0.0) -> None:
        """Adds an actor that begins in `delay_s`."""

        def run() -> None:
            try:
                body()
            except Crash:
                pass
            except BaseException as error:
                self.failure = error

        actor = Actor(name, greenlet(run, self._main), skew_s)
        actor.wakes_at = self.now + delay_s
        self._actors.append(actor)

    def pause(self, delay_s: float = 0.0) -> None:
        """Gives up the turn, for at least `delay_s` of virtual time."""
        actor = self._current
        if actor is None:  # the test itself, after the actors have come to rest
            self.now += delay_s
            return
        actor.wakes_at = self.now + delay_s
        self._main.switch()

    def skew_s(self) -> float:
        """How far the clock of the running actor is off."""
        return self._current.skew_s if self._current else 0.0

    def run(self, steps_max: int) -> None:
        """Runs until every actor has ended. Raises what an actor raised."""
        while self._actors:
            if self.steps >= steps_max:
                names = [actor.name for actor in self._actors]
                raise AssertionError(f"no rest after {steps_max} steps: {names} still run")
            ready = [actor for actor in self._actors if actor.wakes_at <= self.now]
            if not ready:
                self.now = min(actor.wakes_at for actor in self._actors)
                continue
            self.steps += 1
            self.now += 0.001
            actor = ready[self.random.randrange(len(ready))]
            self._current = actor
            actor.run.switch()
            self._current = None
            if actor.run.dead:
                self._actors.remove(actor)
            if self.failure is not None:
                raise self.failure
