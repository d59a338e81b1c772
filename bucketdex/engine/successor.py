"""Successors: tables that are built beside a live one to take its place. Changes with how one is announced and given
up.

A table that has to be read again gets a second table in the index bucket, of its own name and with its own manifest.
The live one names it in its manifest, and from then on each commit is made there first (docs/protocol.md).
"""

from __future__ import annotations

from contextlib import suppress

from bucketdex.engine.commit import replacement
from bucketdex.engine.land import land
from bucketdex.engine.settings import Settings
from bucketdex.errors import CommitGaveUpError, StorageError, TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import Manifest, ManifestStore, Versioned


class Successors:
    """Names successors in live manifests, and buries them."""

    def __init__(self, manifests: ManifestStore, runtime: Runtime, settings: Settings) -> None:
        self._manifests, self._runtime, self._settings = manifests, runtime, settings

    def of(self, manifest: Manifest) -> Versioned | None:
        """The successor that a manifest names; None when there is none, or only its tombstone. One GET where one is
        named.
        """
        if manifest.successor is None:
            return None
        try:
            found = self._manifests.load(manifest.successor)
        except TableNotFoundError:
            return None
        return found if found.manifest.state == "live" else None

    def announce(self, base: Versioned, first: Manifest) -> Versioned | None:
        """Makes `first` the manifest of a new successor of the table, in place of one that it has. None, to be tried
        again, when the table was changed meanwhile, or a sweep took the new one for forsaken.

        Four PUTs; a GET more where somebody came first. A crash leaves at most a successor that nobody names, which a
        sweep takes away.
        """
        before = base.manifest
        self._manifests.create(first.table, first)

        def change(current: Manifest) -> Manifest | None:
            same = (before.state, before.successor, before.revision)
            if (current.state, current.successor, current.revision) != same:
                return None
            new = replacement(current, "definition", self._runtime, self._settings)
            new.successor, new.managed_by = first.table, first.managed_by
            return new

        landed = land(self._manifests, self._runtime, self._settings, base, change)
        if landed is None:
            current = self._manifests.load(before.table)
            if current.manifest.successor == first.table:  # it had landed, and more followed than the log remembers
                landed = current
        self.bury(first.table if landed is None else before.successor)
        return landed if landed is not None and self.hold(first.table) else None

    def hold(self, name: str) -> bool:
        """Replaces the manifest of a successor that is named now: a sweep that looked at it before that can't bury it
        any more. False when one has.
        """

        def change(current: Manifest) -> Manifest | None:
            if current.state == "dropped":
                return None
            return replacement(current, "definition", self._runtime, self._settings)

        try:
            base = self._manifests.load(name)
            return land(self._manifests, self._runtime, self._settings, base, change) is not None
        except TableNotFoundError:
            return False

    def abandon(self, table: str, name: str) -> bool:
        """The table stays as it is: its successor of that name is named no more, and buried. False, with nothing
        changed, where the table has it no more: it was given up, swapped in, or replaced by another one meanwhile.
        """

        def change(current: Manifest) -> Manifest | None:
            if current.successor != name:
                return None
            new = replacement(current, "definition", self._runtime, self._settings)
            new.successor = None
            return new

        base = self._manifests.load(table)
        if land(self._manifests, self._runtime, self._settings, base, change) is None:
            return False
        self.bury(name)
        return True

    def bury(self, name: str | None) -> None:
        """Makes a tombstone of a successor that nobody names any more. If that fails, a sweep does it."""
        if name is None:
            return

        def change(current: Manifest) -> Manifest | None:
            return None if current.state == "dropped" else tombstone(current, self._runtime, self._settings)

        with suppress(StorageError, TableNotFoundError, CommitGaveUpError):
            land(self._manifests, self._runtime, self._settings, self._manifests.load(name), change)


def tombstone(current: Manifest, runtime: Runtime, settings: Settings) -> Manifest:
    """The last manifest of a successor: it lists nothing, for its files are either the live table's now or nobody's."""
    new = replacement(current, "definition", runtime, settings, touched=None)
    new.state, new.managed_by = "dropped", None
    new.views, new.deltas, new.garbage = {}, [], []
    return new
