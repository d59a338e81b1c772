"""What was read of immutable files, kept in memory within a bound: footers, filters, decoded blocks, deltas."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

DEFAULT_BYTES = 64 * 2**20


class BlockCache:
    """Least recently used entries go first. Names of files are never used twice, so nothing in here can be stale. Safe
    between threads.
    """

    def __init__(self, bytes_max: int = DEFAULT_BYTES) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[tuple[Any, ...], tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[Any, ...]) -> Any | None:
        """The value, or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def put(self, key: tuple[Any, ...], value: Any, size: int) -> None:
        """Keeps a value of about `size` bytes, unless it alone is over the bound."""
        if size > self._bytes_max:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= old[1]
            self._entries[key] = (value, size)
            self._bytes += size
            while self._bytes > self._bytes_max:
                _, (_, freed) = self._entries.popitem(last=False)
                self._bytes -= freed
