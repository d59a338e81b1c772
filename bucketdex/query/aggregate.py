"""Measures over the rows of a query: the fold that summaries are made by, over rows read now or over a stored summary
that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from bucketdex.definition import GroupTerm, Summary, TableDefinition, row_codec
from bucketdex.errors import QueryError
from bucketdex.query.access import Access, Constraints, Layout, access
from bucketdex.query.columns import group_columns
from bucketdex.query.condition import AllOf, bind, predicate
from bucketdex.query.expression import Expression, names_in
from bucketdex.query.reader import Reader
from bucketdex.views import View
from bucketdex.views.results import group_values, measure_values
from bucketdex.views.summary import Groups, SummaryFold

BATCH_ROWS = 4096


def grouping(definition: TableDefinition, terms: Sequence[str], measures: Mapping[str, str]) -> Summary:
    """What `group_by` and `aggregate` were given, checked. QueryError names what doesn't fit."""
    if not measures:
        raise QueryError('aggregate() needs a measure, such as n="count()" or total="sum(amount)"')
    for name, text in measures.items():
        if not isinstance(text, str):
            raise QueryError(f'measure {name!r} is written as text, such as "sum(amount)", not a {type(text).__name__}')
    groups = tuple(definition.group(text) for text in terms)
    named = tuple(definition.measure(text, name) for name, text in measures.items())
    names = [term.name for term in groups] + list(measures)
    for name in names:
        if names.count(name) > 1:
            raise QueryError(f"two columns of the result would be named {name!r}: rename the measure")
    return Summary("aggregate", groups, named)


def aggregate(summary: Summary, definition: TableDefinition, rows: Iterable[Any]) -> list[dict[str, Any]]:
    """The groups of these rows with their measures, in the order of the groups; without terms always exactly one.

    Exact as a stored summary is. Memory: one state a group, and of `count_distinct` the distinct values.
    """
    fold = SummaryFold(View(summary.name, "summary", "", summary=summary), definition)
    groups: Groups = {} if summary.group_by else {(): fold.zero.copy()}
    distinct = _Distinct(summary, definition)
    stream = iter(rows)
    while batch := list(islice(stream, BATCH_ROWS)):
        fold.accumulate(groups, batch, 1)
        distinct.add(batch)
    return [
        group_values(fold, group) | measure_values(fold, groups[group], distinct.counts(group))
        for group in sorted(groups, key=fold.key)
    ]


class _Distinct:
    """The distinct values of each counted field by group."""

    def __init__(self, summary: Summary, definition: TableDefinition) -> None:
        codec = row_codec(definition)
        fields = {m.field for m in summary.measures if m.function == "count_distinct" and m.field is not None}
        self._values: dict[str, dict[tuple[Any, ...], set[Any]]] = {field: {} for field in fields}
        self._of = {field: attrgetter(codec.attribute(field)) for field in fields}
        self._groups = [(term.function(), attrgetter(codec.attribute(term.field))) for term in summary.group_by]

    def add(self, rows: list[Any]) -> None:
        if not self._values:
            return
        groups = [tuple([function(get(row)) for function, get in self._groups]) for row in rows]
        for field, seen in self._values.items():
            get = self._of[field]
            for group, row in zip(groups, rows, strict=True):
                value = get(row)
                if value is not None:
                    seen.setdefault(group, set()).add(value)

    def counts(self, group: tuple[Any, ...]) -> dict[str, int]:
        return {field: len(seen.get(group, ())) for field, seen in self._values.items()}


class SummaryRanges(NamedTuple):
    """The part of a stored summary that a condition on its groups means."""

    view: str
    access: Access


def summary_ranges(definition: TableDefinition, summary: Summary, expression: Expression | None) -> SummaryRanges:
    """The key ranges of a summary's groups. QueryError for columns that are no groups of it."""
    columns = group_columns(definition, summary)
    condition = bind(expression, columns)
    parts = condition.parts if isinstance(condition, AllOf) else (condition,)
    layout = Layout(summary.name, tuple(columns.by_name.values()))
    return SummaryRanges(summary.name, access(layout, Constraints(parts)))


def summary_rows(reader: Reader, ranges: SummaryRanges) -> Iterator[dict[str, Any]]:
    """The groups in these ranges with their measures, in the order of the groups."""
    keep = predicate(ranges.access.residual)
    for item, snapshot in reader.windows(ranges.view, ranges.access.ranges, reverse=False):
        yield from snapshot.summary_rows(ranges.view, item.low, item.high, keep)


def fitting_summary(
    definition: TableDefinition, wanted: Summary, expression: Expression | None, ready: Callable[[str], bool]
) -> tuple[Summary, dict[str, str]] | None:
    """A stored summary that has exactly these groups and all these measures, and whose groups are all that the
    condition is on.

    With it the names of its measures by those asked for.
    """
    terms = [_identity(term) for term in wanted.group_by]
    for summary in (*definition.summaries, *definition.retiring.summaries):
        plain = {term.field for term in summary.group_by if term.unit is None}
        if [_identity(term) for term in summary.group_by] != terms or not ready(summary.name):
            continue
        stored = {(measure.function, measure.field): measure.name for measure in summary.measures}
        names = {m.name: stored.get((m.function, m.field)) for m in wanted.measures}
        if names_in(expression) <= plain and None not in names.values():
            return summary, {name: known for name, known in names.items() if known is not None}
    return None


def renamed(rows: Iterable[dict[str, Any]], wanted: Summary, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of a stored summary as the query asked for them."""
    terms = [term.name for term in wanted.group_by]
    return [{name: row[name] for name in terms} | {name: row[known] for name, known in names.items()} for row in rows]


def _identity(term: GroupTerm) -> tuple[str, str | None, str | None]:
    return term.field, term.unit, term.timezone
