"""Sorting and cancelling weighted lines: the fold of the views that keep rows."""

from __future__ import annotations

from itertools import islice
from operator import eq, itemgetter, le
from typing import NamedTuple


class Entries(NamedTuple):
    """Parallel lists: sort keys, lines without weight, weights (None: all 1)."""

    keys: list[str]
    lines: list[bytes]
    weights: list[int] | None

    def weight_list(self) -> list[int]:
        """The weights, spelled out."""
        return [1] * len(self.keys) if self.weights is None else self.weights


NOTHING = Entries([], [], None)


def concatenate(parts: list[Entries]) -> Entries:
    """One behind the other, unsorted."""
    parts = [part for part in parts if part.keys]
    if len(parts) == 1:
        return parts[0]
    keys: list[str] = []
    lines: list[bytes] = []
    for part in parts:
        keys += part.keys
        lines += part.lines
    if all(part.weights is None for part in parts):
        return Entries(keys, lines, None)
    weights: list[int] = []
    for part in parts:
        weights += part.weight_list()
    return Entries(keys, lines, weights)


def sort_entries(entries: Entries) -> Entries:
    """By sort key; concatenated runs cost little more than a merge, because the sort finds them."""
    keys, lines, weights = entries
    if all(map(le, keys, islice(keys, 1, None))):
        return entries
    order = sorted(range(len(keys)), key=keys.__getitem__)
    pick = itemgetter(*order)
    return Entries(list(pick(keys)), list(pick(lines)), None if weights is None else list(pick(weights)))


def cancel(entries: Entries) -> Entries:
    """Adds up the weights of equal lines of sorted entries and drops what reaches zero; ties are put in the order of
    their bytes.
    """
    keys = entries.keys
    distinct = not any(map(eq, keys, islice(keys, 1, None)))
    if distinct and (entries.weights is None or all(entries.weights)):
        return entries
    return _cancel_ties(entries)


def _cancel_ties(entries: Entries) -> Entries:
    keys, lines, _ = entries
    weights = entries.weight_list()
    out = Entries([], [], [])
    kept = out.weight_list()
    total = len(keys)
    start = 0
    while start < total:
        key = keys[start]
        end = start + 1
        while end < total and keys[end] == key:
            end += 1
        if end == start + 1:
            if weights[start]:
                out.keys.append(key)
                out.lines.append(lines[start])
                kept.append(weights[start])
        else:
            sums: dict[bytes, int] = {}
            for i in range(start, end):
                sums[lines[i]] = sums.get(lines[i], 0) + weights[i]
            for line in sorted(sums):
                if sums[line]:
                    out.keys.append(key)
                    out.lines.append(line)
                    kept.append(sums[line])
        start = end
    return Entries(out.keys, out.lines, None if all(w == 1 for w in kept) else kept)


def fold_rows(parts: list[Entries]) -> Entries:
    """Sorted and cancelled union of weighted rows."""
    return cancel(sort_entries(concatenate(parts)))
