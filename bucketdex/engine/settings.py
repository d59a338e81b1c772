"""The bounds that the engine works within. Each has one meaning and one default."""

from __future__ import annotations

from typing import Final

import msgspec

ERASE_SECONDS_MIN: Final = 4 * 3600.0  # below, a schedule of a quarter of an hour leaves no time for a second try


class Settings(msgspec.Struct, frozen=True):
    """All bounds of the engine; change them in tests, or for a machine with more memory."""

    alone_bytes: int = 4 * 2**20  # an object above this size is handled by itself, streamed
    alone_rows: int = 50_000  # so is one with more records
    wave_objects: int = 64  # objects in memory at once while a batch is fetched
    delta_rows_max: int = 2_500  # a commit with more rows brings sorted runs
    flush_rows: int = 100_000  # rows in memory before they are written as runs
    rejects_max: int = 1_000  # rejects kept of one object; the count says how many there were
    inline_bytes_max: int = 8 * 1024  # a delta up to this size travels in the manifest
    inline_total_max: int = 64 * 1024  # all inlined deltas of a manifest together
    touched_max: int = 4_096  # a commit of more keys is logged as touching every key
    log_bytes_max: int = 24 * 1024  # touched hashes that the commit log keeps
    log_entries_max: int = 256
    attempts_max: int = 12  # compare-and-swaps that one apply tries
    backoff_seconds_first: float = 0.02
    backoff_seconds_max: float = 2.0
    debt_deltas: int = 48  # live deltas of a view that call for a fold
    debt_rows: int = 8_000
    debt_bytes: int = 32 * 1024  # inlined bytes
    tier_runs: int = 4  # runs of one size tier that are merged into one
    tier_factor: int = 4
    retracted_share: float = 0.25  # of a view's rows: above this everything is merged, so that cancelled pairs go
    block_bytes: int = 32 * 1024  # of lines in a block, before compression
    step_rows: int = 2_000_000  # rows that one compaction step merges before it swaps
    merge_blocks: int = 16  # blocks a run that one round of a compaction reads at first
    sweep_generations: int = 512  # replacements of the manifest after which a collection also looks for orphans
    grace_seconds: float = 3600.0  # how long replaced files stay readable
    erase_seconds: float = 7 * 86_400.0  # after which no file holds a value that was deleted; see docs/protocol.md

    def __post_init__(self) -> None:
        """ValueError when what was deleted could not be gone in time."""
        if self.erase_seconds < max(ERASE_SECONDS_MIN, 4 * self.grace_seconds):
            raise ValueError(
                f"erase_seconds is {self.erase_seconds:g}: give it at least {ERASE_SECONDS_MIN:g}, "
                f"and four times grace_seconds, which is {self.grace_seconds:g}"
            )


class Backoff:
    """Full jitter, bounded: the n-th wait is uniform between 0 and first * 2**n, at most the maximum."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tries = 0

    def ceiling(self) -> float:
        """The longest that the next wait may be, in seconds."""
        bound = self._settings.backoff_seconds_first * 2**self._tries
        self._tries += 1
        return float(min(bound, self._settings.backoff_seconds_max))
