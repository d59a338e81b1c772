"""Promotion: a successor takes the place of its table, in one swap. Changes with what a manifest says of runs and
deltas.
"""

from __future__ import annotations

import msgspec

from bucketdex.engine.commit import replacement
from bucketdex.engine.garbage import retire_all
from bucketdex.engine.settings import Backoff, Settings
from bucketdex.engine.successor import Successors
from bucketdex.errors import CommitGaveUpError
from bucketdex.runtime import Runtime
from bucketdex.storage import Manifest, ManifestStore, Run, SwapLostError
from bucketdex.storage.entries import ANY_GENERATION


class Promoter:
    """Swaps successors in."""

    def __init__(self, manifests: ManifestStore, successors: Successors, runtime: Runtime, settings: Settings) -> None:
        self._manifests, self._successors = manifests, successors
        self._runtime, self._settings = runtime, settings

    def promote(self, table: str, name: str) -> bool:
        """Puts the definition, views and deltas of the successor of that name in place of the table's own. False, with
        nothing changed, where the table has it no more, or a view of it is still being built.

        Whoever calls it has seen to it that this successor knows every object: the bucket isn't looked at. What it
        replaces can't be read any more, not even within the grace period, but files stay that long for queries that
        are under way. Two GETs and two PUTs. CommitGaveUpError when too many commits come first.
        """
        backoff = Backoff(self._settings)
        for _ in range(self._settings.attempts_max):
            base = self._manifests.load(table)
            if base.manifest.successor != name:
                return False
            # After the live one: each commit that this has in it was made there before it was made here.
            successor = self._successors.of(base.manifest)
            if successor is None or any(view.state == "building" for view in successor.manifest.views.values()):
                return False
            try:
                self._manifests.swap(base, promoted(base.manifest, successor.manifest, self._runtime, self._settings))
            except SwapLostError:
                self._runtime.sleep(self._runtime.uniform(0, backoff.ceiling()))
                continue
            self._successors.bury(successor.manifest.table)
            return True
        raise CommitGaveUpError(
            f"table {table}: {self._settings.attempts_max} swaps lost to other commits; promote its successor again"
        )


def promoted(live: Manifest, successor: Manifest, runtime: Runtime, settings: Settings) -> Manifest:
    """The live manifest with the successor's content. Files stay where they are; all that the table had is garbage.

    The successor's generations are shifted so that its newest is this one: their order is all that counts (the numbers
    may be negative). Of what was before, nothing can be read: each view's history begins here.
    """
    new = replacement(live, "definition", runtime, settings, touched=None)
    retire_all(new, runtime.now())
    new.definition, new.revision, new.successor = successor.definition, live.revision + 1, None
    new.promoted = successor.table
    shift = new.generation - successor.generation

    def moved(run: Run) -> Run:
        through = run.through if run.through == ANY_GENERATION else run.through + shift
        return msgspec.structs.replace(run, added=new.generation, since=run.since + shift, through=through)

    new.deltas = [msgspec.structs.replace(delta, added=delta.added + shift) for delta in successor.deltas]
    for name, state in successor.views.items():
        folded = state.folded + shift
        new.views[name] = msgspec.structs.replace(
            state, runs=[moved(run) for run in state.runs], folded=folded, folds=[(new.generation, folded)]
        )
    return new
