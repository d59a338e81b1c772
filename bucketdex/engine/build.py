"""Builds a table's successor within one process: reads every object, builds what is missing, promotes. Changes with
what a build may be asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bucketdex.engine.backfill import Backfiller, Progress
from bucketdex.engine.promote import Promoter
from bucketdex.engine.successor import Successors
from bucketdex.errors import BucketdexError
from bucketdex.storage import ManifestStore

PASSES_MAX = 3  # over all objects, while some can't be read
ROUNDS_MAX = 10  # of a successor that is defined anew while it is built


class _Target(NamedTuple):
    name: str
    revision: int


class Builder:
    """Builds successors. `build_views` builds the views of a table that were added to rows."""

    def __init__(
        self,
        manifests: ManifestStore,
        backfiller: Backfiller,
        successors: Successors,
        promoter: Promoter,
        build_views: Callable[[str], object],
    ) -> None:
        self._manifests, self._backfiller = manifests, backfiller
        self._successors, self._promoter = successors, promoter
        self._build_views = build_views

    def build(self, table: str, *, rate: float | None, progress: Progress | None) -> None:
        """Backfills the table's successor and promotes it. Nothing where there is none.

        One pass without a failure is enough: it has read, after the successor was announced, every object that was
        there at that time and still is; what was uploaded or deleted since goes to the successor by its events. It may
        run beside live traffic, be stopped and run again.
        Raises BucketdexError, with the table as it was, when objects can't be read; StorageError, CommitGaveUpError.
        """
        for _ in range(ROUNDS_MAX):
            target = self._target(table)
            if target is None:
                return
            try:
                self._fill(target.name, rate, progress)
                self._build_views(target.name)
            except BucketdexError:
                if self._target(table) == target:
                    raise
                continue  # it was defined anew, or another took its place
            if self._promoter.promote(table, target.name):
                return
        raise BucketdexError(f"table {table}: it was defined anew again and again while it was rebuilt; run it again")

    def _target(self, table: str) -> _Target | None:
        """What is to be built now; None where there is nothing."""
        gone: str | None = None
        for _ in range(ROUNDS_MAX):
            manifest = self._manifests.load(table).manifest
            if manifest.successor is None:
                return None
            if manifest.successor == gone:
                break
            successor = self._successors.of(manifest)
            if successor is not None:
                return _Target(manifest.successor, successor.manifest.revision)
            gone = manifest.successor  # unless it was promoted or given up between the two loads
        raise BucketdexError(f"table {table}: what was to take its place is gone; define it or rebuild it again")

    def _fill(self, name: str, rate: float | None, progress: Progress | None) -> None:
        """Passes over all objects until one has no failures."""
        for _ in range(PASSES_MAX):
            done = self._backfiller.backfill(name, rate=rate, progress=progress)
            if not done.failures:
                return
        key, error = next(iter(done.failed.items()))
        raise BucketdexError(
            f"{done.failures} objects could not be read, {key!r} first: {error}; the table stays as it is, run it again"
        ) from error
