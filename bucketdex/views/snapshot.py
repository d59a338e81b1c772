"""One generation of a table's index, readable: ranges, counts and look-ups over its views. Pure GETs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bucketdex.definition import TableDefinition
from bucketdex.errors import SnapshotExpiredError, StorageError, UpgradeRequiredError
from bucketdex.storage import Delta, FileEntry, GetRequest, Got, Manifest, ObjectStore, Run
from bucketdex.views.cache import BlockCache
from bucketdex.views.cursor import Merge, blocks_in, clip, files_in
from bucketdex.views.keys import key_range
from bucketdex.views.loader import Loader, Need
from bucketdex.views.merge import Entries, fold_rows
from bucketdex.views.results import group_values, measure_values
from bucketdex.views.spec import View, values_view_name, view_of
from bucketdex.views.summary import SummaryFold, summary_fold


class Entry(NamedTuple):
    """One folded line of a view: its sort key, its bytes, its net weight."""

    key: str
    line: bytes
    weight: int


class Visible(NamedTuple):
    """The pieces of one view that make up a generation."""

    runs: list[Run]
    deltas: list[Delta]


def visible(manifest: Manifest, name: str, generation: int) -> Visible:
    """The runs and unfolded deltas of a view at a generation, from the manifest as it is now.

    SnapshotExpiredError when that generation's fold is no longer recorded.
    """
    state = manifest.views[name]
    if generation >= manifest.generation:
        return Visible(list(state.runs), [d for d in manifest.deltas if d.added > state.folded])
    folded = max((f for g, f in state.folds if g <= generation), default=None)
    if folded is None:
        raise SnapshotExpiredError(
            f"generation {generation} of {manifest.table} is past its grace period: begin anew, from the newest"
        )
    gone = [g for g in manifest.garbage if g.removed > generation]
    runs = [r for r in state.runs if r.added <= generation]
    runs += [g.run for g in gone if g.run is not None and g.view == state.id and g.run.added <= generation]
    deltas = [*manifest.deltas, *(g.delta for g in gone if g.delta is not None)]
    return Visible(runs, [d for d in deltas if folded < d.added <= generation])


def current_view(manifest: Manifest, definition: TableDefinition, name: str) -> View:
    """The view of that name. UpgradeRequiredError when the index holds it as another version made it: its lines, keys
    or groups may mean something else, so neither can they be read nor may ours be put among them.
    """
    view = view_of(definition, name)
    state = manifest.views.get(name)
    if state is not None and state.hash != view.hash:
        raise UpgradeRequiredError(
            f"view {name} of table {manifest.table} was made by another version of bucketdex or of its time zones: "
            "use that version, or deploy the table with this one"
        )
    return view


class Snapshot:
    """Reads one generation. Every answer it gives belongs to that generation, whatever is committed meanwhile."""

    def __init__(
        self,
        store: ObjectStore,
        manifest: Manifest,
        definition: TableDefinition,
        cache: BlockCache,
        *,
        at: int | None = None,
    ) -> None:
        self.manifest = manifest
        self.definition = definition
        self.generation = manifest.generation if at is None else at
        self._store = store
        self._cache = cache
        self._predicted: dict[GetRequest, Need] = {}
        self._predictor = self._loader()  # holds the footers that predicted blocks are decoded by

    def view(self, name: str) -> View:
        """The view of that name; raises as `current_view` does."""
        return current_view(self.manifest, self.definition, name)

    def scan(self, name: str, lo: str | None, hi: str | None, *, reverse: bool = False) -> Iterator[Entry]:
        """Folded entries with lo <= sort key < hi, in order. Blocks are read in rounds of 1, 2, 4 ... a run."""
        for keys, lines, weights in self.batches(name, lo, hi, reverse=reverse):
            for i, key in enumerate(keys):
                yield Entry(key, lines[i], 1 if weights is None else weights[i])

    def batches(
        self, name: str, lo: str | None, hi: str | None, *, reverse: bool = False, blocks_first: int = 1
    ) -> Iterator[Entries]:
        """As `scan`, by the batch; for whole views start with more blocks a round."""
        loader = self._loader()
        return self._merge(loader, name, lo, hi, reverse=reverse, blocks_first=blocks_first).batches()

    def delta_entries(self, name: str, through: int) -> list[Entries]:
        """The entries, sorted, of each delta up to generation `through` that the view hasn't folded. One round for
        those that aren't inlined.
        """
        loader = self._loader()
        pieces = visible(self.manifest, name, self.generation)
        pieces = pieces._replace(deltas=[delta for delta in pieces.deltas if delta.added <= through])
        loader.load(self._delta_needs(pieces.deltas))
        view = self.view(name)
        return [loader.delta_lines(delta).entries(view, self.definition) for delta in pieces.deltas]

    def merge(
        self, name: str, runs: list[Run], deltas: Sequence[Delta] = (), *, blocks_first: int = 1
    ) -> Iterator[Entries]:
        """The folded entries of some runs and deltas of a view: for compaction, and for what has changed."""
        view, loader = self.view(name), self._loader()
        loader.load(self._delta_needs(deltas))
        memory = [loader.delta_lines(delta).entries(view, self.definition) for delta in deltas]
        return Merge(view, self.definition, loader, runs, memory, None, None, blocks_first=blocks_first).batches()

    def predict(self, name: str, lo: str | None, hi: str | None, reverse: bool = False) -> list[GetRequest]:
        """The requests that the first round of `scan` would send for what isn't in memory; none is sent here."""
        loader = self._predictor
        pieces = visible(self.manifest, name, self.generation)
        needs = [n for n in self._delta_needs(pieces.deltas) if loader.get(n.place) is None]
        needs += self._merge(loader, name, lo, hi, reverse=reverse, deltas=False).first_needs()
        return self._expect(needs)

    def warm(self, requests: list[GetRequest], results: list[Got | StorageError]) -> None:
        """Takes the answers to predicted requests, so that `scan` finds them in memory."""
        needs = [self._predicted.pop(request) for request in requests]
        self._predictor.absorb(needs, results)
        for need in needs:
            self._predictor.release(need.place)

    def count(self, name: str, lo: str | None, hi: str | None) -> int:
        """The net weight of [lo, hi): whole files and blocks by their recorded weights, only those at the ends are
        read.
        """
        loader = self._loader()
        pieces = visible(self.manifest, name, self.generation)
        view = self.view(name)
        total, partial = _whole_files(pieces.runs, lo, hi)
        footers = [loader.need_footer(entry) for entry, _ in partial if not loader.is_whole(entry)]
        loader.load([*self._delta_needs(pieces.deltas), *footers])
        parts = [clip(loader.delta_lines(delta).entries(view, self.definition), lo, hi) for delta in pieces.deltas]
        ends: list[tuple[Need, str | None]] = []
        for entry, low in partial:
            inside, needs = self._ends(loader, view, entry, low, hi)
            total += inside
            ends += [(need, low) for need in needs]
        loader.load(need for need, _ in ends)
        parts += [clip(loader.get(need.place) or Entries([], [], None), low, hi) for need, low in ends]
        return total + sum(len(part.keys) if part.weights is None else sum(part.weights) for part in parts)

    def predict_count(self, name: str, lo: str | None, hi: str | None) -> list[GetRequest]:
        """The requests that `count` would send next for what isn't in memory; none is sent here."""
        loader = self._predictor
        pieces = visible(self.manifest, name, self.generation)
        view = self.view(name)
        needs = self._delta_needs(pieces.deltas)
        for entry, low in _whole_files(pieces.runs, lo, hi)[1]:
            footer = loader.need_footer(entry)
            known = loader.is_whole(entry) or loader.get(footer.place) is not None
            needs += self._ends(loader, view, entry, low, hi)[1] if known else [footer]
        return self._expect([need for need in needs if loader.get(need.place) is None])

    def _ends(
        self, loader: Loader, view: View, entry: FileEntry, low: str | None, hi: str | None
    ) -> tuple[int, list[Need]]:
        """Of a file that a range covers in part: the weight of the blocks inside, and those at the ends."""
        if loader.is_whole(entry):
            return 0, [loader.need_file(view, entry)]
        footer = loader.footer(entry)
        separators = footer.separators
        total, needs = 0, []
        for i in blocks_in(footer, low, hi):
            inside_low = low is None or separators[i] >= low
            last = i + 1 == len(separators)
            inside_high = hi is None or (entry.last < hi if last else separators[i + 1] <= hi)
            if inside_low and inside_high:
                total += footer.weights[i]
            else:
                needs.append(loader.need_block(view, entry, i))
        return total, needs

    def lookup(self, name: str, keys: Iterable[str]) -> dict[str, Entries]:
        """All folded entries of objects in `objects`, `records` or `rejects`, by object key; keys without any are left
        out.

        A filter that excludes a key saves its block. At most three rounds, whatever the number of keys.
        """
        loader = self._loader()
        view = self.view(name)
        pieces = visible(self.manifest, name, self.generation)
        ranges = {key: key_range(key) for key in keys}
        spots = [
            (key, entry, low) for run in pieces.runs for key, (lo, hi) in ranges.items()
            for files, low in [files_in(run, lo, hi)] for entry in files
        ]  # fmt: skip
        self._load_indexes(loader, [(entry, ranges[key][0]) for key, entry, _ in spots], pieces)
        wanted: list[tuple[str, str | None, Need]] = []
        for key, entry, low in spots:
            if loader.is_whole(entry):
                wanted.append((key, low, loader.need_file(view, entry)))
            elif not loader.excluded(entry, ranges[key][0]):
                blocks = blocks_in(loader.footer(entry), low, ranges[key][1])
                wanted += [(key, low, loader.need_block(view, entry, i)) for i in blocks]
        loader.load(need for _, _, need in wanted)
        parts: dict[str, list[Entries]] = {}
        for key, low, need in wanted:
            part = clip(loader.get(need.place) or Entries([], [], None), low, ranges[key][1])
            if part.keys:
                parts.setdefault(key, []).append(part)
        for delta in pieces.deltas:
            entries = loader.delta_lines(delta).entries(view, self.definition)
            for key, found in _ranges_of(entries, ranges):
                parts.setdefault(key, []).append(found)
        folded = {key: fold_rows(found) for key, found in parts.items()}
        return {key: entries for key, entries in folded.items() if entries.keys}

    def _load_indexes(self, loader: Loader, spots: list[tuple[Any, str]], pieces: Visible) -> None:
        needs = self._delta_needs(pieces.deltas)
        for entry, component in spots:
            if not loader.is_whole(entry):
                needs.append(loader.need_footer(entry))
                if entry.filter[0]:
                    needs.append(loader.need_filter(entry, component))
        loader.load(needs)

    def summary_rows(
        self, name: str, lo: str | None, hi: str | None, keep: Callable[[Mapping[str, Any]], bool] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The groups of a summary with lo <= sort key < hi that have rows and that `keep`, given their stored values by
        name, doesn't drop; with their measures, as Python values.
        """
        view = self.view(name)
        fold = summary_fold(view, self.definition)
        assert view.summary is not None
        distinct_fields = [m.field for m in view.summary.measures if m.function == "count_distinct" and m.field]
        for entry in self.scan(name, lo, hi):
            group, state = fold.decode(entry.line)
            if state[0] == 0 or (keep is not None and not keep(dict(zip(fold.terms, group, strict=True)))):
                continue
            self.settle(fold, group, state)
            distinct = {field: self._distinct(fold, group, field) for field in distinct_fields}
            yield group_values(fold, group) | measure_values(fold, state, distinct)

    def settle(self, fold: SummaryFold, group: tuple[Any, ...], state: list[Any]) -> None:
        """Asks the hidden summary for every min or max that a retraction may have taken away."""
        for slot in fold.contested(state):
            name = values_view_name(fold.summary.name, slot.field)
            value = next(self._values(fold, group, name, reverse=slot.name == "max"), None)
            fold.settle(state, slot, value)

    def _distinct(self, fold: SummaryFold, group: tuple[Any, ...], field: str) -> int:
        name = values_view_name(fold.summary.name, field)
        return sum(1 for _ in self._values(fold, group, name, reverse=False))

    def _values(self, fold: SummaryFold, group: tuple[Any, ...], name: str, *, reverse: bool) -> Iterator[Any]:
        """The non-null values of a group that have rows, in order."""
        prefix = fold.key(group)
        hidden = summary_fold(self.view(name), self.definition)
        # Nulls are the empty component, so "past it" leaves them out; a summary without groups has an empty prefix.
        hi = prefix[:-1] + "\x01" if prefix else None
        for entry in self.scan(name, prefix + "\x01", hi, reverse=reverse):
            values, state = hidden.decode(entry.line)
            if state[0]:
                yield values[-1]

    def _loader(self) -> Loader:
        return Loader(self._store, self.definition, self._cache)

    def _expect(self, needs: list[Need]) -> list[GetRequest]:
        self._predicted |= {need.request: need for need in needs}
        return [need.request for need in needs]

    def _delta_needs(self, deltas: Iterable[Delta]) -> list[Need]:
        loader = self._loader()
        return [loader.need_delta(d) for d in deltas if not d.inline]

    def _merge(
        self, loader: Loader, name: str, lo: str | None, hi: str | None, *, reverse: bool,
        blocks_first: int = 1, deltas: bool = True,
    ) -> Merge:  # fmt: skip
        view = self.view(name)
        pieces = visible(self.manifest, name, self.generation)
        memory = []
        if deltas:
            loader.load(self._delta_needs(pieces.deltas))
            memory = [loader.delta_lines(delta).entries(view, self.definition) for delta in pieces.deltas]
        return Merge(
            view, self.definition, loader, pieces.runs, memory, lo, hi, reverse=reverse, blocks_first=blocks_first
        )


def _whole_files(runs: list[Run], lo: str | None, hi: str | None) -> tuple[int, list[tuple[FileEntry, str | None]]]:
    """The weight of the files that lie within a range, and those that lie in it in part, each with the range's low
    end.
    """
    total = 0
    partial: list[tuple[FileEntry, str | None]] = []
    for run in runs:
        files, low = files_in(run, lo, hi)
        for entry in files:
            if (low is None or entry.first >= low) and (hi is None or entry.last < hi):
                total += entry.weight
            else:
                partial.append((entry, low))
    return total, partial


def _ranges_of(entries: Entries, ranges: dict[str, tuple[str, str]]) -> Iterator[tuple[str, Entries]]:
    """The part of sorted entries that belongs to each key."""
    if not entries.keys:
        return
    for key, (lo, hi) in ranges.items():
        start = bisect_left(entries.keys, lo)
        if start < len(entries.keys) and entries.keys[start] < hi:
            yield key, clip(entries, lo, hi)
