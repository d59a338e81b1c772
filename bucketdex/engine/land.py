"""Swaps in a change that touches no keys: a compaction, a collection, a definition. Tried again on every newer base
while it still makes sense.
"""

from __future__ import annotations

from collections.abc import Callable

from bucketdex.engine.settings import Backoff, Settings
from bucketdex.errors import CommitGaveUpError
from bucketdex.runtime import Runtime
from bucketdex.storage import Manifest, ManifestStore, SwapLostError, Versioned


def land(
    manifests: ManifestStore,
    runtime: Runtime,
    settings: Settings,
    base: Versioned,
    change: Callable[[Manifest], Manifest | None],
) -> Versioned | None:
    """Swaps `change(manifest)` in. None, with nothing changed, when `change` says of a newer manifest that its inputs
    are gone.
    """
    backoff = Backoff(settings)
    for _ in range(settings.attempts_max):
        new = change(base.manifest)
        if new is None:
            return None
        try:
            return manifests.swap(base, new)
        except SwapLostError as lost:
            runtime.sleep(runtime.uniform(0, backoff.ceiling()))
            base = manifests.load(base.manifest.table, cached=lost.current)  # what stood before the wait is old
    raise CommitGaveUpError(
        f"table {base.manifest.table}: {settings.attempts_max} swaps lost to other commits; try again"
    )
