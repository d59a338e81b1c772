"""What is different in the engine's modules for the length of one world: bounds that are constants, and a count of how
unknown outcomes were settled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bucketdex.engine import walk
from bucketdex.storage import ManifestStore, SwapLostError, descriptors
from bucketdex.views import loader

SMALL_PART_BYTES = 700
PAGE_KEYS = 3


@contextmanager
def bounds(manifest_bytes_max: int, whole_file_bytes: int, counts: Counter[str]) -> Iterator[None]:
    """Manifests above this bound are split into descriptors, files above this one are read by the block; walks are in
    pages of a few keys.
    """
    defaults = ManifestStore.__init__.__kwdefaults__
    assert defaults is not None
    before = dict(defaults), descriptors.PART_BYTES_MIN, walk.PAGE_KEYS, loader.WHOLE_FILE_BYTES
    settle = ManifestStore._settle

    def settling(store: ManifestStore, *arguments: Any) -> Any:
        try:
            settled = settle(store, *arguments)
        except SwapLostError:
            counts["conflicts" if getattr(store._once, "was_told", False) else "unknown outcomes: lost"] += 1
            raise
        counts["unknown outcomes: open, asked again" if settled is None else "unknown outcomes: landed"] += 1
        return settled

    defaults["bytes_max"] = manifest_bytes_max
    descriptors.PART_BYTES_MIN = SMALL_PART_BYTES  # type: ignore[misc]
    walk.PAGE_KEYS = PAGE_KEYS
    loader.WHOLE_FILE_BYTES = whole_file_bytes
    ManifestStore._settle = settling  # type: ignore[method-assign]
    try:
        yield
    finally:
        defaults.update(before[0])
        descriptors.PART_BYTES_MIN = before[1]  # type: ignore[misc]
        walk.PAGE_KEYS = before[2]
        loader.WHOLE_FILE_BYTES = before[3]
        ManifestStore._settle = settle  # type: ignore[method-assign]
