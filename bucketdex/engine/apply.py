"""Applies a batch of events to a table: attempts at one commit until one lands, large objects each in a commit of their
own. Changes with how a batch is divided.

An event only says "look at this key". Every key is read after its base was loaded and committed only if nobody
committed it in between, so the reads of one key are ordered as its commits are. docs/protocol.md argues why nothing is
lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from bucketdex.engine.attempt import Attempt
from bucketdex.engine.changes import EventsByKey, Means
from bucketdex.engine.commit import RedoEverythingError
from bucketdex.engine.events import ApplyResult, Event
from bucketdex.engine.settings import Backoff
from bucketdex.errors import CommitGaveUpError, ObjectChangedError, SnapshotExpiredError, TableNotFoundError


class Applier:
    """Applies batches to tables."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def apply(self, table: str, events: Iterable[Event]) -> ApplyResult:
        """Applies all events; large objects follow the others, each in a commit of its own. Where the table has a
        successor, all are applied to it first, and what fails there fails here.

        Guarantee: when it returns, the effect of every key in `applied` or `skipped` is in the index. Keys in `failed`
        are to be sent again.
        Cost: 1 GET of the manifest, 1 GET an object, old-row reads for keys that may be known, 1 or 2 PUTs (more for
        bulk commits); while there is a successor, all of it twice.
        Raises CommitGaveUpError, with nothing changed, when too many others came first.
        """
        by_key: EventsByKey = {}
        for event in events:
            by_key.setdefault(event.key, []).append(event)
        large = {k: e for k, e in by_key.items() if max((x.size or 0) for x in e) > self._means.settings.alone_bytes}
        small = {k: e for k, e in by_key.items() if k not in large}
        ahead = _Ahead(self, by_key)
        result = ApplyResult(generation=0)
        if small:
            deferred: set[str] = set()
            result.add(self._commit(table, small, deferred, ahead))
            large |= {key: its_events for key, its_events in small.items() if key in deferred}
        for key, its_events in large.items():
            result.add(self._alone(table, key, its_events, ahead))
        return result

    def _alone(self, table: str, key: str, events: list[Event], ahead: _Ahead) -> ApplyResult:
        try:
            return self._commit(table, {key: events}, None, ahead)
        except TableNotFoundError:
            raise
        except Exception as error:  # whatever it is, it is this object's alone
            return ApplyResult(generation=0, failed={key: error})

    def _commit(self, table: str, by_key: EventsByKey, deferred: set[str] | None, ahead: _Ahead) -> ApplyResult:
        """One commit of the keys; what turns out to be too large for a batch goes to `deferred` (None: stream it)."""
        backoff = Backoff(self._means.settings)
        redone = 0
        cause: Exception | None = None
        for _ in range(self._means.settings.attempts_max):
            base = self._means.manifests.load(table)
            if base.manifest.state == "dropped":
                return ApplyResult(generation=base.manifest.generation, skipped=set(by_key))
            failed = ahead.failures(base.manifest.successor)
            here = {key: events for key, events in by_key.items() if key not in failed}
            attempt = Attempt(self._means, base, here, deferred)
            try:
                result = attempt.run(backoff)
                result.redone += redone
                result.failed |= {key: failed[key] for key in by_key if key in failed}
                return result
            except (RedoEverythingError, SnapshotExpiredError, ObjectChangedError) as error:
                cause = error
                redone += len(by_key)
                if deferred is not None:
                    deferred.clear()
                self._means.runtime.sleep(self._means.runtime.uniform(0, backoff.ceiling()))
        raise CommitGaveUpError(
            f"table {table}: {self._means.settings.attempts_max} attempts came to nothing "
            f"(the last: {cause}); nothing was changed, send the batch again"
        ) from cause


class _Ahead:
    """Makes a batch of a table be in the successor that it has, before any of it is committed to the table itself.

    That is the one which the batch's base names. One that is announced later reads every object after that: it needs no
    batch whose base, and so whose events, are older.
    """

    def __init__(self, applier: Applier, by_key: EventsByKey) -> None:
        self._applier, self._by_key = applier, by_key
        self._failed: dict[str, dict[str, Exception]] = {}

    def failures(self, successor: str | None) -> dict[str, Exception]:
        """The keys that the successor could not take; the others it has. A successor that is gone takes part in
        nothing.
        """
        if successor is None:
            return {}
        if successor not in self._failed:
            events = [event for events in self._by_key.values() for event in events]
            try:
                self._failed[successor] = self._applier.apply(successor, events).failed
            except TableNotFoundError:
                self._failed[successor] = {}
        return self._failed[successor]
