"""Checks that every index and summary of a snapshot is what its `records` come to. Changes when there is a new kind of
view.

Indexes and hidden summaries are compared by fingerprints, which add up in any order, so they need no sorting and no
memory; of a summary all groups are held.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

from bucketdex.definition import TableDefinition
from bucketdex.engine.look import Fingerprint
from bucketdex.errors import CorruptFileError
from bucketdex.views import OBJECTS, RECORDS, Snapshot, View, views_of
from bucketdex.views.derive import WeightedRows, derive, weighted_rows
from bucketdex.views.lines import decode_object
from bucketdex.views.merge import Entries
from bucketdex.views.summary import Groups, State, SummaryFold, summary_fold

BLOCKS_FIRST = 8


class Tally(ABC):
    """What one view should hold, gathered from `records`."""

    @abstractmethod
    def add(self, batch: WeightedRows) -> None:
        """Takes in some records."""

    @abstractmethod
    def difference(self, snapshot: Snapshot) -> str | None:
        """How the view differs, or None. Reads all of it."""


def wrong_views(snapshot: Snapshot) -> dict[str, str]:
    """The views that aren't the fold of `records` in this snapshot, with what is wrong; views that are still being
    built are left out. A damaged file makes its view wrong; one of `records` raises CorruptFileError.

    Cost: reads the index once. SnapshotExpiredError when that takes longer than the grace period.
    """
    definition = snapshot.definition
    ready = [view for view in views_of(definition) if snapshot.manifest.views[view.name].state == "ready"]
    tallies = {view.name: tally for view in ready if (tally := _tally(view, definition)) is not None}
    for entries in snapshot.batches(RECORDS, None, None, blocks_first=BLOCKS_FIRST):
        batch = weighted_rows(definition, entries.lines, entries.weight_list())
        for tally in tallies.values():
            tally.add(batch)
    wrong = {}
    for name, tally in tallies.items():
        try:
            found = tally.difference(snapshot)
        except (CorruptFileError, msgspec.DecodeError) as error:
            found = f"it can't be read: {error.args[0]}"  # without the remedy: a view has one of its own
        if found is not None:
            wrong[name] = found
    return wrong


def _tally(view: View, definition: TableDefinition) -> Tally | None:
    if view.name == OBJECTS:
        return _CountTally()
    if view.kind == "index":
        return _IndexTally(view, definition)
    if view.kind == "summary":
        fold = summary_fold(view, definition)
        return _HiddenTally(view, fold) if view.hidden else _SummaryTally(view, fold)
    return None


class _CountTally(Tally):
    """How many records each object's row says it has."""

    def __init__(self) -> None:
        self._expected = Fingerprint()

    def add(self, batch: WeightedRows) -> None:
        counts: dict[str, int] = {}
        for row, weight in zip(batch.rows, _weights(batch), strict=True):
            counts[row.key] = counts.get(row.key, 0) + weight
        for key, count in counts.items():
            self._expected.add(_bytes(key), count)

    def difference(self, snapshot: Snapshot) -> str | None:
        found = Fingerprint()
        for entries in snapshot.batches(OBJECTS, None, None, blocks_first=BLOCKS_FIRST):
            for line, weight in zip(entries.lines, entries.weight_list(), strict=True):
                row = decode_object(line)
                found.add(_bytes(row.key), weight * row.records)
        return _unlike(found, self._expected, "records counted")


class _IndexTally(Tally):
    """The lines of an index."""

    def __init__(self, view: View, definition: TableDefinition) -> None:
        self._view, self._definition = view, definition
        self._expected = Fingerprint()

    def add(self, batch: WeightedRows) -> None:
        _add_lines(self._expected, derive(self._view, self._definition, batch))

    def difference(self, snapshot: Snapshot) -> str | None:
        found = Fingerprint()
        for entries in snapshot.batches(self._view.name, None, None, blocks_first=BLOCKS_FIRST):
            _add_lines(found, entries)
        return _unlike(found, self._expected, "entries")


class _HiddenTally(Tally):
    """The rows of each (group, value); there may be as many of these as rows."""

    def __init__(self, view: View, fold: SummaryFold) -> None:
        self._name, self._fold = view.name, fold
        self._expected = Fingerprint()

    def add(self, batch: WeightedRows) -> None:
        groups = _grouped(self._fold, batch)
        for group, state in groups.items():
            self._expected.add(_bytes(self._fold.key(group)), state[0])

    def difference(self, snapshot: Snapshot) -> str | None:
        found = Fingerprint()
        for entry in snapshot.scan(self._name, None, None):
            group, state = self._fold.decode(entry.line)
            found.add(_bytes(self._fold.key(group)), state[0])
        return _unlike(found, self._expected, "rows")


class _SummaryTally(Tally):
    """The settled state of each group."""

    def __init__(self, view: View, fold: SummaryFold) -> None:
        self._name, self._fold = view.name, fold
        self._expected: Groups = {}

    def add(self, batch: WeightedRows) -> None:
        for group, state in _grouped(self._fold, batch).items():
            mine = self._expected.get(group)
            if mine is None:
                self._expected[group] = state
            else:
                self._fold.merge(mine, state)

    def difference(self, snapshot: Snapshot) -> str | None:
        wrong = 0
        left = dict(self._expected)
        for entry in snapshot.scan(self._name, None, None):
            group, state = self._fold.decode(entry.line)
            expected = left.pop(group, self._fold.zero)
            if state[0]:
                snapshot.settle(self._fold, group, state)
            wrong += self._comparable(state) != self._comparable(expected)
        wrong += sum(1 for state in left.values() if state[0])
        return f"{wrong} of {len(self._expected)} groups are wrong" if wrong else None

    def _comparable(self, state: State) -> State:
        """What readers see of a state: counts and sums, and extremes where there are rows."""
        kept = ("n", "sum", "sq", "min", "max") if state[0] else ("n", "sum", "sq")
        return [state[0], *(state[slot.place] for slot in self._fold.slots if slot.name in kept)]


def _grouped(fold: SummaryFold, batch: WeightedRows) -> Groups:
    groups: Groups = {}
    if all(weight == 1 for weight in _weights(batch)):
        fold.accumulate(groups, batch.rows, 1)
    else:
        for row, weight in zip(batch.rows, _weights(batch), strict=True):
            fold.accumulate(groups, [row], weight)
    return groups


def _weights(batch: WeightedRows) -> list[int]:
    return [1] * len(batch.rows) if batch.weights is None else batch.weights


def _add_lines(fingerprint: Fingerprint, entries: Entries) -> None:
    for line, weight in zip(entries.lines, entries.weight_list(), strict=True):
        fingerprint.add(line, weight)


def _unlike(found: Fingerprint, expected: Fingerprint, what: str) -> str | None:
    if found == expected:
        return None
    if found.rows != expected.rows:
        return f"{found.rows} {what} instead of {expected.rows}"
    return f"its {expected.rows} {what} are others than `records` gives"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
