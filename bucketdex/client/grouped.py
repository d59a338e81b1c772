"""Measures of a query's rows, grouped. Changes with how an aggregate may be answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bucketdex.client.context import Context
from bucketdex.client.running import Parts, preparer
from bucketdex.definition import Summary
from bucketdex.errors import QueryError
from bucketdex.query.aggregate import (
    SummaryRanges,
    aggregate,
    fitting_summary,
    grouping,
    renamed,
    summary_ranges,
    summary_rows,
)
from bucketdex.query.cursor import run
from bucketdex.query.plan import Plan
from bucketdex.query.reader import Reader
from bucketdex.storage import GetRequest

Answer = tuple[Summary, Plan | None, SummaryRanges | None, Mapping[str, str]]


class GroupedQuery:
    """Groups of a query's rows; `aggregate` runs it."""

    def __init__(
        self, context: Context, table: str, parts: Parts, terms: Sequence[str], opened: Callable[[Reader], None]
    ) -> None:
        self._context, self._table, self._parts, self._terms, self._opened = context, table, parts, terms, opened

    def aggregate(self, /, **measures: str) -> list[dict[str, Any]]:
        """One dict a group: the groups by name (`day(created_at)` is `created_at_day`) and the measures asked for, as
        `n="count()"`, `total="sum(amount)"`; in the order of the groups, null first.

        count, sum, avg, min, max, count_distinct, var, stddev, exact as in a summary. Answered from a stored summary
        where one has these groups and measures and the conditions are on its groups; else from the rows, which an index
        has to serve.
        """
        if self._parts.limit is not None or self._parts.order:
            raise QueryError("aggregates are over all rows that meet the conditions: leave out limit() and order_by()")
        return self._context.session.read(self._table, lambda reader: self._prepare(reader, measures), self._read)

    def _prepare(self, reader: Reader, measures: Mapping[str, str]) -> tuple[Answer, list[GetRequest]]:
        known = reader.known
        wanted = grouping(known.definition, self._terms, measures)
        where = self._parts.where
        fitting = fitting_summary(known.definition, wanted, where, lambda name: name not in known.building)
        if fitting is not None:
            summary, names = fitting
            ranges = summary_ranges(known.definition, summary, where)
            return (wanted, None, ranges, names), reader.predict(ranges.view, ranges.access.ranges)
        made, requests = preparer(replace(self._parts, columns=None))(reader)
        return (wanted, made, None, {}), requests

    def _read(self, reader: Reader, answer: Answer) -> list[dict[str, Any]]:
        self._opened(reader)
        wanted, made, ranges, names = answer
        if ranges is not None:
            return renamed(summary_rows(reader, ranges), wanted, names)
        assert made is not None
        needs = {term.field for term in wanted.group_by} | {m.field for m in wanted.measures if m.field is not None}
        return aggregate(wanted, reader.definition, (item.row for item in run(made, reader, needs=needs)))
