"""A stored summary as the user asks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bucketdex.client.context import Context
from bucketdex.definition import Summary, TableDefinition
from bucketdex.definition.table import retires_for
from bucketdex.errors import QueryError, SnapshotExpiredError, ViewBuildingError
from bucketdex.query.aggregate import SummaryRanges, summary_ranges, summary_rows
from bucketdex.query.columns import unknown
from bucketdex.query.expression import Column, Expression, conjunction
from bucketdex.query.reader import Cost, Reader
from bucketdex.storage import GetRequest


class SummaryQuery:
    """The groups of a summary. Rows are dicts of the groups by name and the measures, in the order of the groups.

    Conditions are on groups (`created_at_day="2026-01-02"`); those on the leading ones become key ranges, the others
    filter. One round trip when warm; min, max and count_distinct of a group whose extreme was retracted cost a look-up
    more.
    """

    def __init__(self, context: Context, table: str, name: str, where: Expression | None = None) -> None:
        self._context, self._table, self._name, self._where = context, table, name, where
        self._reader: Reader | None = None

    def where(self, /, *conditions: Expression, **equals: object) -> SummaryQuery:
        """The groups that also meet all of these."""
        added = conjunction(conditions, equals)
        both = conjunction([part for part in (self._where, added) if part is not None], {})
        return SummaryQuery(self._context, self._table, self._name, both)

    def get(self, /, **groups: object) -> dict[str, Any] | None:
        """The one group of these values, every group named, with its measures; None when it has no rows."""
        narrowed = self.where(*(Column(name) == value for name, value in groups.items()))

        def prepare(reader: Reader) -> tuple[SummaryRanges, list[GetRequest]]:
            terms = {term.name for term in self._summary(reader).group_by}
            if terms - set(groups):
                missing = ", ".join(sorted(terms - set(groups)))
                raise QueryError(f"get() of summary {self._name!r} needs every group: {missing} is missing")
            return narrowed._prepare(reader)

        def read(reader: Reader, ranges: SummaryRanges) -> dict[str, Any] | None:
            self._reader = reader
            return next(summary_rows(reader, ranges), None)

        return self._context.session.read(self._table, prepare, read)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The groups, as they are read."""
        for again in (True, False):
            yielded = False
            try:
                reader, ranges = self._context.session.open(self._table, self._prepare)
                self._reader = reader
                for row in summary_rows(reader, ranges):
                    yielded = True
                    yield row
                return
            except SnapshotExpiredError:
                if yielded or not again:
                    raise
                self._context.session.forget(self._table)

    def rows(self) -> list[dict[str, Any]]:
        """All groups."""
        return list(self)

    @property
    def cost(self) -> Cost:
        """Requests, bytes and round trips of the last run."""
        return Cost() if self._reader is None else self._reader.cost

    def _prepare(self, reader: Reader) -> tuple[SummaryRanges, list[GetRequest]]:
        summary = self._summary(reader)
        try:
            ranges = summary_ranges(reader.definition, summary, self._where)
        except QueryError as error:
            summary_ranges(reader.definition, find_summary(reader.definition, self._name), self._where)
            raise self._building() from error  # its new groups are asked for
        return ranges, reader.predict(ranges.view, ranges.access.ranges)

    def _summary(self, reader: Reader) -> Summary:
        """The summary, or as it was before its last change while it is built anew. ViewBuildingError where it wasn't
        there before.
        """
        declared = find_summary(reader.definition, self._name)
        if self._name not in reader.known.building:
            return declared
        for summary in reader.definition.retiring.summaries:
            if retires_for(summary.name) == self._name:
                return summary
        raise self._building()

    def _building(self) -> ViewBuildingError:
        return ViewBuildingError(f"summary {self._name!r} is still being built: try again when status() says ready")


def find_summary(definition: TableDefinition, name: str) -> Summary:
    """The summary of that name. QueryError with a suggestion where there is none."""
    for summary in definition.summaries:
        if summary.name == name:
            return summary
    names = [summary.name for summary in definition.summaries]
    raise QueryError(unknown("summary", name, names, f"table {definition.name!r}"))
