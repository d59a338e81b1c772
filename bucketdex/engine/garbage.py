"""Moves what a compaction replaced to the garbage list, where snapshots within the grace period still find it."""

from __future__ import annotations

import msgspec

from bucketdex.runtime import Runtime
from bucketdex.storage import Delta, Garbage, Manifest, ObjectStore, Run
from bucketdex.storage.paths import delta_path


def retire_runs(manifest: Manifest, view_id: str, runs: list[Run], now: float) -> None:
    """The runs become garbage of the manifest's generation."""
    manifest.garbage.extend(Garbage(removed=manifest.generation, removed_at=now, view=view_id, run=run) for run in runs)


def retire_all(manifest: Manifest, now: float) -> None:
    """Every run and delta becomes garbage of the manifest's generation; no view is left."""
    for state in manifest.views.values():
        retire_runs(manifest, state.id, state.runs, now)
    manifest.garbage.extend(Garbage(removed=manifest.generation, removed_at=now, delta=d) for d in manifest.deltas)
    manifest.views, manifest.deltas = {}, []


def retire_deltas(manifest: Manifest, now: float, moved: dict[str, Delta]) -> None:
    """Deltas that every view has folded become garbage; inlined ones as `moved` has put them into a file."""
    folded = min(state.folded for state in manifest.views.values())
    for delta in manifest.deltas:
        if delta.added <= folded:
            kept = moved.get(delta.id, delta)
            manifest.garbage.append(Garbage(removed=manifest.generation, removed_at=now, delta=kept))
    manifest.deltas = [delta for delta in manifest.deltas if delta.added > folded]


def move_inlined(
    store: ObjectStore, runtime: Runtime, manifest: Manifest, view_name: str, folded: int
) -> dict[str, Delta]:
    """Writes the inlined deltas that will be garbage once this view has folded up to `folded` as one file, each a part
    of it. At most one PUT.
    """
    others = [state.folded for state in manifest.views.values() if state.name != view_name]
    through = min([folded, *others])
    going = [delta for delta in manifest.deltas if delta.inline and delta.added <= through]
    if not going:
        return {}
    path = delta_path(manifest.table, manifest.generation, runtime.token())
    moved, offset = {}, 0
    for delta in going:
        assert delta.file is not None
        entry = msgspec.structs.replace(delta.file, path=path)
        moved[delta.id] = msgspec.structs.replace(delta, inline=b"", file=entry, part=(offset, len(delta.inline)))
        offset += len(delta.inline)
    store.put(path, b"".join(delta.inline for delta in going))
    return moved
