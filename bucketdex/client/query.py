"""A query as the user builds and runs it. Changes with what can be asked of a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

from bucketdex.client.context import Context
from bucketdex.client.grouped import GroupedQuery
from bucketdex.client.originals import Originals
from bucketdex.client.paging import Page, read_page
from bucketdex.client.running import Parts, preparer, stream
from bucketdex.errors import QueryError, ScanRequiredError
from bucketdex.query.access import Access
from bucketdex.query.cursor import Found, first_requests, run
from bucketdex.query.distinct import distinct_values, leap
from bucketdex.query.expression import Column, Expression, Ordering, conjunction, ordering
from bucketdex.query.plan import Explanation, Plan, explanation
from bucketdex.query.project import projector
from bucketdex.query.reader import Cost, Reader
from bucketdex.query.suggest import line_of
from bucketdex.storage import GetRequest


class Query:
    """Rows of a table that meet conditions, in an order. Each method gives a new query; nothing is read before one is
    run.

    Every run reads one snapshot, the newest there is. Rows are dicts of the declared fields and `_key` (and `_at`, the
    byte range, where an object holds many records), as Python values: Decimal, datetime with UTC, date, int, float,
    bool, str, None, a list for a multi-valued field.

    A run costs one round trip when all it reads can be told from the manifest in memory or is in memory itself, three
    when nothing is; then one more for every growing round of blocks. It raises ScanRequiredError when no index serves
    it, QueryError for unknown columns and unfit values, SnapshotExpiredError when it takes longer than the index keeps
    replaced files.
    """

    def __init__(self, context: Context, table: str, parts: Parts | None = None) -> None:
        self._context = context
        self._table = table
        self._parts = parts or Parts()
        self._reader: Reader | None = None
        self._originals: Originals | None = None

    def where(self, /, *conditions: Expression, **equals: object) -> Query:
        """Rows that also meet all of these: `where(col.amount > 9, country="DE")`. None means null, a list in."""
        added = conjunction(conditions, equals)
        return self._with(where=conjunction([part for part in (self._parts.where, added) if part is not None], {}))

    def order_by(self, *columns: str | Column | Ordering) -> Query:
        """In this order, in place of any before: names, `"-name"` for descending. Nulls first ascending, last
        descending; ties by `_key` and `_at` in the direction of the last column.
        """
        return self._with(order=ordering(columns))

    def limit(self, count: int) -> Query:
        """At most this many rows."""
        if type(count) is not int or count < 0:
            raise QueryError(f"limit() takes a whole number from 0 up, not {count!r}")
        return self._with(limit=count)

    def select(self, *columns: str | Column) -> Query:
        """Rows with these columns only, in this order."""
        names = tuple(_name(column) for column in columns)
        if not names:
            raise QueryError("select() takes names of columns")
        return self._with(columns=names)

    def allow_scan(self) -> Query:
        """Run it even where no index serves it: it may read the whole table."""
        return self._with(scan=True)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, as they are read; sorted in memory first where no index has the order."""
        return self._projected(self._parts)

    def rows(self) -> list[dict[str, Any]]:
        """All rows."""
        return list(self)

    def first(self) -> dict[str, Any] | None:
        """The first row, or None."""
        limit = 1 if self._parts.limit is None else min(1, self._parts.limit)
        return next(self._projected(replace(self._parts, limit=limit)), None)

    def keys(self) -> list[str]:
        """The keys of the rows' objects, each once, in the order of the rows."""
        return list(dict.fromkeys(item.row.key for _, item in self._stream(self._parts, needs=())))

    def records(self) -> list[dict[str, Any]]:
        """The original records of the rows, in their order, from the data bucket: one GET each, of the record's bytes
        alone where the object isn't packed, up to 32 at once, after one look-up of the objects' ETags.

        ObjectChangedError when an object was replaced since it was indexed, KeyMissingError when it is gone.
        """
        self._originals = Originals(self._context.data, self._context.runtime)
        found = list(self._stream(self._parts, needs=()))
        return self._originals.fetch(found[0][0], [item.row for _, item in found]) if found else []

    def count(self) -> int:
        """How many rows. Where the condition is exactly a key range of an index, from the recorded counts of its files
        and blocks: only the blocks at the ends are read, in one round trip when the files' footers are in memory. Else
        every row of the ranges is read.
        """

        plans = preparer(replace(self._parts, order=(), columns=None), predicts=False)

        def counted(made: Plan) -> Access | None:
            exact = len(made.branches) == 1 and made.branches[0].exact
            return made.branches[0].access if exact else None

        def prepare(reader: Reader) -> tuple[Plan, list[GetRequest]]:
            made, _ = plans(reader)
            access = counted(made)
            if access is None:
                return made, first_requests(made, reader)
            return made, reader.predict_count(access.layout.view, access.ranges)

        def read(reader: Reader, made: Plan) -> int:
            self._opened(reader)
            access = counted(made)
            if access is None:
                return sum(1 for _ in run(made, reader, needs=()))
            total = reader.count(access.layout.view, access.ranges)
            return total if made.limit is None else min(total, made.limit)

        return self._context.session.read(self._table, prepare, read)

    def page(self, size: int = 50, token: str | None = None) -> Page:
        """Up to `size` rows, and the token that the page after is asked for with. All pages read the generation that
        the first one read, so no row repeats or is left out; a token lives as long as replaced files are kept.

        SnapshotExpiredError after that (an hour by default); QueryError for a token of another query. A token holds the
        last row's sort key, so it is as confidential as that.
        """
        return read_page(self._context, self._table, self._parts, size, token, self._opened)

    def explain(self) -> Explanation:
        """What running it would do: views, key ranges, filters, order, predicted requests. Costs one request."""

        def read(reader: Reader, made: Plan) -> Explanation:
            return explanation(made, reader.generation, len(first_requests(made, reader)))

        return self._context.session.read(self._table, preparer(self._parts, predicts=False), read)

    def group_by(self, *terms: str | Column) -> GroupedQuery:
        """Groups of the rows, by columns or calendar units: `group_by("country", "day(created_at)")`."""
        return GroupedQuery(self._context, self._table, self._parts, [_name(term) for term in terms], self._opened)

    def aggregate(self, /, **measures: str) -> dict[str, Any]:
        """Measures of all rows: `aggregate(n="count()", total="sum(amount)")`."""
        return self.group_by().aggregate(**measures)[0]

    def distinct(self, column: str | Column) -> list[Any]:
        """The distinct values of a column in order, null first; of a multi-valued one its values.

        Without conditions from an index that starts with the column, by leaps; else from the rows.
        """
        name, parts = _name(column), self._parts
        everything = parts.where is None and parts.limit is None

        def prepare(reader: Reader) -> tuple[Plan | None, list[GetRequest]]:
            if everything and leap(reader, reader.known.columns[name]) is not None:
                return None, []
            if everything and not parts.scan:
                line = line_of([name], [layout.view for layout in reader.known.layouts])
                raise ScanRequiredError(
                    f"no index starts with {name!r}; add to [indexes] of the table\n    {line}\n"
                    "or read everything by .allow_scan()"
                )
            return preparer(parts)(reader)

        def read(reader: Reader, made: Plan | None) -> list[Any]:
            self._opened(reader)
            bound = reader.known.columns[name]
            if made is None:
                return list(leap(reader, bound) or ())
            return distinct_values(bound, (item.row for item in run(made, reader, needs=(name,))))

        return self._context.session.read(self._table, prepare, read)

    @property
    def cost(self) -> Cost:
        """Requests, bytes and round trips of the last run of this very query; so far, while it is being iterated."""
        index = Cost() if self._reader is None else self._reader.cost
        return index if self._originals is None else index + self._originals.cost

    def __repr__(self) -> str:
        return f"<Query of table {self._table!r}>"  # without conditions: they may hold values of sensitive fields

    def _with(self, **changes: Any) -> Query:
        return Query(self._context, self._table, replace(self._parts, **changes))

    def _opened(self, reader: Reader) -> None:
        self._reader = reader

    def _stream(self, parts: Parts, needs: Collection[str] | None) -> Iterator[tuple[Reader, Found]]:
        return stream(self._context, self._table, parts, self._opened, needs)

    def _projected(self, parts: Parts) -> Iterator[dict[str, Any]]:
        project: Callable[[Any], dict[str, Any]] | None = None
        for reader, found in self._stream(parts, needs=parts.columns):
            project = project or projector(reader.definition, reader.known.columns, parts.columns)
            yield project(found.row)


def _name(column: str | Column) -> str:
    if isinstance(column, Column):
        return column.name
    if not isinstance(column, str):
        raise QueryError(f"a column is named by text, not by a {type(column).__name__}")
    return column
