"""From rows to the entries of a derived view: an index's lines, or a summary's partials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bucketdex.definition import TableDefinition, row_codec
from bucketdex.storage import split_weights
from bucketdex.views.keys import ViewKeys, suffixes, view_keys
from bucketdex.views.lines import STORED, unmark
from bucketdex.views.merge import Entries, fold_rows, sort_entries
from bucketdex.views.spec import RECORDS, View
from bucketdex.views.summary import Groups, summary_fold


class WeightedRows(NamedTuple):
    """Rows with their `records` lines, the tails of their sort keys, and weights (None: all 1).

    `distinct`: all tails are known to differ and all weights to be 1, so that no view has anything to cancel.
    """

    rows: Sequence[Any]
    lines: list[bytes]
    tails: list[str]
    weights: list[int] | None
    distinct: bool = False


def weighted_rows(definition: TableDefinition, lines: list[bytes], weights: list[int] | None) -> WeightedRows:
    """Rows from lines of `records`."""
    rows = row_codec(definition).decode_lines(b"\n".join(lines)) if lines else []
    return WeightedRows(rows, lines, suffixes(rows), weights)


def derive(view: View, definition: TableDefinition, batch: WeightedRows) -> Entries:
    """The entries that rows have in `records`, an index or a summary: sorted, not cancelled."""
    if view.kind == "records":
        return sort_entries(Entries(batch.tails, batch.lines, batch.weights))
    if view.kind == "index":
        keys: ViewKeys = view_keys(view, definition)
        return sort_entries(keys.index_entries(batch.rows, batch.lines, batch.tails, batch.weights))
    fold = summary_fold(view, definition)
    groups: Groups = {}
    for weight, rows in _by_weight(batch):
        fold.accumulate(groups, rows, weight)
    return fold.entries(groups)


class DeltaLines:
    """The lines of one delta by stored view; entries of any view are derived from them on demand, and kept."""

    def __init__(self, blocks: list[bytes]) -> None:
        self._lines: dict[str, tuple[list[bytes], list[int]]] = {name: ([], []) for name in STORED}
        self._derived: dict[str, Entries] = {}
        self._rows: tuple[TableDefinition, WeightedRows] | None = None
        for block in blocks:
            lines, weights = split_weights(block)
            for i, marked in enumerate(lines):
                name, line = unmark(marked)
                kept = self._lines[name]
                kept[0].append(line)
                kept[1].append(1 if weights is None else weights[i])

    def entries(self, view: View, definition: TableDefinition) -> Entries:
        """The sorted, cancelled entries that this delta has in a view."""
        found = self._derived.get(view.id)
        if found is None:
            found = self._derived[view.id] = self._derive(view, definition)
        return found

    def _derive(self, view: View, definition: TableDefinition) -> Entries:
        if view.kind in ("objects", "rejects"):
            lines, weights = self._lines[view.name]
            keys = view_keys(view, definition).of_block(b"\n".join(lines)) if lines else []
            return fold_rows([Entries(keys, lines, weights)])
        if self._rows is None or self._rows[0] != definition:
            self._rows = (definition, weighted_rows(definition, *self._lines[RECORDS]))
        entries = derive(view, definition, self._rows[1])
        return entries if view.kind == "summary" else fold_rows([entries])


def _by_weight(batch: WeightedRows) -> list[tuple[int, Sequence[Any]]]:
    if batch.weights is None:
        return [(1, batch.rows)]
    groups: dict[int, list[Any]] = {}
    for row, weight in zip(batch.rows, batch.weights, strict=True):
        groups.setdefault(weight, []).append(row)
    return list(groups.items())
