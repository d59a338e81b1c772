"""Compares a table's index with its bucket, and sends what differs through the protocol. Changes with what a
verification may find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from bucketdex.engine.apply import Applier
from bucketdex.engine.backfill import BATCH_KEYS, send
from bucketdex.engine.changes import Means
from bucketdex.engine.events import Event
from bucketdex.engine.folds import wrong_views
from bucketdex.engine.look import UNREADABLE, WAVE_KEYS, Look, Looker
from bucketdex.engine.walk import Pair, Stamp, Walk
from bucketdex.errors import BucketdexError, ObjectChangedError, SnapshotExpiredError, StorageError

Kind = Literal["missing", "stale", "extra", "wrong"]

SETTLE_SECONDS = 10.0  # longer than an event usually takes
SUSPECTS_MAX = 10_000
NAMED_MAX = 10_000
TRIES_MAX = 3


class Difference(msgspec.Struct, frozen=True):
    """A key whose index isn't what its object gives: `missing` (not indexed), `stale` (another object was indexed),
    `extra` (indexed, and no such object), `wrong` (the object that was indexed, with other rows or rejects).
    """

    key: str
    kind: Kind
    repaired: bool = False


class Verified(msgspec.Struct):
    """What a verification found. `differences` and `failed` name up to 10,000 keys each, `missing`, `stale`, `extra`,
    `wrong` and `failures` count all. `changing` keys were not reported, because they changed meanwhile; `views` says
    which views aren't the fold of `records`. `last_key`: where time ran out; all keys up to it are done.
    """

    objects: int = 0
    read: int = 0  # to their end
    missing: int = 0
    stale: int = 0
    extra: int = 0
    wrong: int = 0
    changing: int = 0
    repaired: int = 0
    failures: int = 0
    differences: list[Difference] = msgspec.field(default_factory=list)
    failed: dict[str, Exception] = msgspec.field(default_factory=dict)
    views: dict[str, str] = msgspec.field(default_factory=dict)
    last_key: str | None = None

    @property
    def found(self) -> int:
        """Keys that differ."""
        return self.missing + self.stale + self.extra + self.wrong

    @property
    def is_good(self) -> bool:
        """Whether the index is as it should be now: nothing differs that wasn't repaired, nothing was unreadable."""
        return self.found == self.repaired and not self.views and not self.failures

    def report(self, difference: Difference) -> None:
        """Counts and names a difference."""
        setattr(self, difference.kind, getattr(self, difference.kind) + 1)
        self.repaired += difference.repaired
        if len(self.differences) < NAMED_MAX:
            self.differences.append(difference)

    def fail(self, key: str, error: Exception) -> None:
        """Counts and names a key that couldn't be looked at or repaired."""
        self.failures += 1
        if len(self.failed) < NAMED_MAX:
            self.failed[key] = error


class _Suspect(NamedTuple):
    object: Stamp | None
    row: Stamp | None
    seen_at: float


class Verifier:
    """Verifies tables."""

    def __init__(self, means: Means, applier: Applier) -> None:
        self._means, self._applier = means, applier

    def verify(
        self,
        table: str,
        *,
        deep: bool = False,
        sample: float = 1.0,
        views: bool = True,
        repair: bool = False,
        start_after: str | None = None,
        in_time: Callable[[], bool] = lambda: True,
        settle_seconds: float = SETTLE_SECONDS,
        progress: Callable[[Verified], None] | None = None,
    ) -> Verified:
        """Compares the listing of the bucket with `objects`, by ETag and time in whole seconds.

        `deep` also reads the objects (a random `sample` of them: 0.01 is about one in a hundred), compares their rows
        and rejects with the index, and (`views`) every index and summary with the fold of `records`. `repair` applies
        the keys that differ, and looks again; a view that isn't the fold of `records` it can't mend: take the index or
        summary out of the definition and put it back, which builds it anew.
        An object that changes meanwhile, or whose event is on its way, is no error: what looks wrong is looked at
        again after `settle_seconds`, index and object, and reported only if neither has moved.
        Begins behind `start_after` and ends early once `in_time` says no: `last_key` says where to go on. Every call
        gets further, by a page or a wave of objects read, however little time it has.
        Cost: a LIST and a few GETs for each 1,000 keys, a GET for each that looks wrong; `deep` a GET for each object
        and the whole index. Memory: a page, up to 10,000 suspects, with `deep` the groups of the summaries.
        Raises BucketdexError (a share out of range, or not `deep`; a definition that changes meanwhile), StorageError.
        """
        if not 0 < sample <= 1:
            raise BucketdexError(f"a sample of {sample}: it has to be above 0 and at most 1")
        if sample != 1 and not deep:
            raise BucketdexError(f"a sample of {sample} is of the objects that are read: it needs deep (--deep)")
        run = _Run(
            self._means, self._applier, Walk(self._means, table, None, start_after), table,
            deep=deep, sample=sample, repair=repair, settle_seconds=settle_seconds, in_time=in_time,
        )  # fmt: skip
        for page in run.walk.pages():
            run.compare(page)
            if progress is not None:
                progress(run.found)
            if run.found.last_key is not None:
                break
        run.settle()
        if deep and views and run.found.last_key is None:
            run.found.views = run.views()
        return run.found


class _Run:
    """One verification."""

    def __init__(
        self,
        means: Means,
        applier: Applier,
        walk: Walk,
        table: str,
        *,
        deep: bool,
        sample: float,
        repair: bool,
        settle_seconds: float,
        in_time: Callable[[], bool],
    ) -> None:
        self._means, self._applier, self.walk, self._table = means, applier, walk, table
        self._deep, self._sample, self._repair, self._settle_seconds = deep, sample, repair, settle_seconds
        self._in_time = in_time
        self._looker = Looker(means, walk)
        self._suspects: dict[str, _Suspect] = {}
        self.found = Verified()

    def compare(self, page: Iterator[Pair]) -> None:
        """Compares a page, or as much of it as there is time for; what looks wrong becomes a suspect."""
        to_read: list[Pair] = []
        for pair in page:
            self.found.objects += pair.listed is not None
            if pair.object_stamp != pair.row_stamp:
                self.suspect(pair.key, pair.object_stamp, pair.row_stamp)
            elif self._deep and (self._sample == 1 or self._means.runtime.uniform(0, 1) < self._sample):
                to_read.append(pair)
                if len(to_read) == WAVE_KEYS:
                    self.read(to_read)
                    to_read = []
                    if not self._in_time():
                        self._stop_at(pair.key)
            if self.found.last_key is not None:
                break
        self.read(to_read)
        if self.walk.reached is not None and not self.walk.ended and not self._in_time():
            self._stop_at(self.walk.reached)

    def suspect(self, key: str, there: Stamp | None, row: Stamp | None) -> None:
        """Remembers a key that looks wrong, to look again."""
        self._suspects[key] = _Suspect(there, row, self._means.runtime.now())
        if len(self._suspects) >= SUSPECTS_MAX:
            self.settle()

    def read(self, pairs: list[Pair]) -> None:
        """Reads objects to their end."""
        for key, look in self._looker.look([pair.key for pair in pairs], deep=True).items():
            if isinstance(look, ObjectChangedError):
                self.suspect(key, None, None)
                continue
            if isinstance(look, StorageError):
                self.found.fail(key, look)
                continue
            self.found.read += 1
            if not look.agree:
                self.suspect(key, look.object, look.row)

    def settle(self) -> None:
        """Looks again at all suspects, after the events that are on their way have had their time."""
        if not self._suspects:
            return
        runtime = self._means.runtime
        wait = max(suspect.seen_at for suspect in self._suspects.values()) + self._settle_seconds - runtime.now()
        if wait > 0:
            runtime.sleep(min(wait, self._settle_seconds))  # the clock may have been put back
        suspects, self._suspects = self._suspects, {}
        keys = sorted(suspects)
        for start in range(0, len(keys), BATCH_KEYS):
            if start and not self._in_time():  # the others will be met again
                self._stop_at(keys[start - 1])
                return
            part = {key: suspects[key] for key in keys[start : start + BATCH_KEYS]}
            confirmed = self._confirmed(part)
            repaired = self._mend(list(confirmed)) if self._repair else set()
            for key, kind in confirmed.items():
                self.found.report(Difference(key, kind, key in repaired))

    def _stop_at(self, key: str) -> None:
        before = self.found.last_key
        self.found.last_key = key if before is None else min(before, key)

    def _confirmed(self, suspects: dict[str, _Suspect]) -> dict[str, Kind]:
        confirmed: dict[str, Kind] = {}
        for key, look in self._looker.look(suspects, deep=self._deep).items():
            if isinstance(look, ObjectChangedError):
                self.found.changing += 1
            elif isinstance(look, StorageError):
                self.found.fail(key, look)
            elif not look.agree:
                before = suspects[key]
                if look.row == before.row and _is_same(before.object, look.object):
                    confirmed[key] = _kind(look)
                else:
                    self.found.changing += 1
        return confirmed

    def _mend(self, keys: list[str]) -> set[str]:
        """Applies keys; those that agree afterwards."""
        if not keys:
            return set()
        result = send(self._applier, self._means.runtime, self._table, [Event(key) for key in keys])
        for key, error in result.failed.items():
            self.found.fail(key, error)
        looks = self._looker.look([key for key in keys if key not in result.failed], deep=self._deep)
        return {key for key, look in looks.items() if isinstance(look, Look) and look.agree}

    def views(self) -> dict[str, str]:
        """What isn't the fold of `records`, in one snapshot: the newest, and a newer one if that expires."""
        for _ in range(TRIES_MAX - 1):
            try:
                return wrong_views(self.walk.snapshot())
            except SnapshotExpiredError:
                continue
        return wrong_views(self.walk.snapshot())


def _is_same(listed: Stamp | None, got: Stamp | None) -> bool:
    """Whether a listing and a GET mean one object. A listing may round the time where a GET cuts it, and doesn't say
    whether the object can be read.
    """
    if listed is None or got is None:
        return listed is got
    return got == UNREADABLE or (listed.etag == got.etag and abs(listed.second - got.second) <= 1)


def _kind(look: Look) -> Kind:
    if look.object is None:
        return "extra"
    if look.row is None:
        return "missing"
    return "stale" if look.object != look.row else "wrong"
