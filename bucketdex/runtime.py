"""What the engine may know of the outside: time, randomness, waiting, concurrency. The simulator hands in its own."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

CONCURRENCY_MAX = 32


class Runtime:
    """Clock, randomness, waiting and concurrency of this process. Subclass it to take control of all four."""

    def __init__(self, concurrency_max: int = CONCURRENCY_MAX) -> None:
        self._concurrency_max = concurrency_max
        self._pool: ThreadPoolExecutor | None = None

    def now(self) -> float:
        """Seconds since the epoch. Decides only how long readers are indulged, never what is live."""
        return time.time()

    def token(self) -> str:
        """16 random hexadecimal characters: names of files and commit ids."""
        return secrets.token_hex(8)

    def uniform(self, low: float, high: float) -> float:
        """A random number for jitter."""
        return random.uniform(low, high)  # noqa: S311 (jitter, not a secret)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Apply `function` to every item, concurrently; results in the order of the items, the first error raised."""
        work = list(items)
        if len(work) <= 1:
            return [function(item) for item in work]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._concurrency_max, thread_name_prefix="bucketdex")
        return list(self._pool.map(function, work))


@cache
def system_runtime() -> Runtime:
    """The runtime of this process."""
    return Runtime()
