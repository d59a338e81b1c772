"""Uploads at a steady rate, and how long each takes to be in the index. Changes with what a lag is."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event as Flag
from threading import Thread

from bucketdex.definition import TableDefinition
from bucketdex.storage import ManifestStore, ObjectStore
from bucketdex.views import OBJECTS, BlockCache, Snapshot

LOOK_S = 0.25  # what a lag is told to


class Lags:
    """Seconds from the answer to an upload until a reader that looks four times a second finds it; by upload."""

    def __init__(
        self, uploaded: Callable[[str], None], manifests: ManifestStore, index: ObjectStore, table: str
    ) -> None:
        self._upload, self._manifests, self._index, self._table = uploaded, manifests, index, table
        self._cache, self._ended = BlockCache(), Flag()
        self._waiting: dict[str, float] = {}
        self.seen: list[float] = []

    def run(self, rate: float, until: Callable[[], bool], prefix: str) -> list[float]:
        """Uploads `rate` objects a second until `until()`, then waits for the last of them. Their lags, ascending."""
        self.seen, self._ended = [], Flag()
        looking = Thread(target=self._look)
        looking.start()
        began, count = time.monotonic(), 0
        try:
            while not until():
                key = f"{prefix}{count:06}.ndjson"
                self._upload(key)
                self._waiting[key] = time.monotonic()
                count += 1
                time.sleep(max(0.0, began + count / rate - time.monotonic()))
        finally:
            self._ended.set()
            looking.join()
        return sorted(self.seen)

    def _look(self) -> None:
        known = self._manifests.load(self._table)
        while not (self._ended.is_set() and not self._waiting):
            time.sleep(LOOK_S)
            waiting = list(self._waiting)
            current = self._manifests.load(self._table, cached=known)
            if current is known or not waiting:
                continue
            known = current
            definition = TableDefinition.from_dict(self._table, known.manifest.definition)
            found = Snapshot(self._index, known.manifest, definition, self._cache).lookup(OBJECTS, waiting)
            now = time.monotonic()
            self.seen += [now - self._waiting.pop(key) for key in found]


def share(lags: list[float], part: float) -> float:
    """The lag that this part of them stays below."""
    return lags[min(len(lags) - 1, int(part * len(lags)))] if lags else float("nan")
