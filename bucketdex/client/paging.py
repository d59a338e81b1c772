"""Pages of a query: all of one generation, each found again by its token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from bucketdex.client.context import Context
from bucketdex.client.running import Parts, preparer
from bucketdex.errors import QueryError, SnapshotExpiredError
from bucketdex.query import token as tokens
from bucketdex.query.cursor import position, run
from bucketdex.query.plan import Plan
from bucketdex.query.project import projector
from bucketdex.query.reader import Reader

PAGE_SIZE_MAX = 10_000


class Page(NamedTuple):
    """One page of rows. `next_token` is None on the last one."""

    rows: list[dict[str, Any]]
    next_token: str | None


def read_page(
    context: Context, table: str, parts: Parts, size: int, token: str | None, opened: Callable[[Reader], None]
) -> Page:
    """Up to `size` rows after those of the token's page. Raises as `Query.page` says."""
    if type(size) is not int or not 1 <= size <= PAGE_SIZE_MAX:
        raise QueryError(f"page() takes a size from 1 to {PAGE_SIZE_MAX}, not {size!r}")
    query = tokens.query_fingerprint(table, parts.where, (parts.order, parts.limit, parts.columns))
    last = None if token is None else tokens.decode(token, query)
    after = None if last is None else last.position
    given = 0 if last is None else last.given
    wanted = size if parts.limit is None else min(size, parts.limit - given)

    def read(reader: Reader, made: Plan) -> Page:
        opened(reader)
        fingerprint = tokens.plan_fingerprint(made)
        if last is not None and last.plan != fingerprint:
            raise SnapshotExpiredError("page(): the table's indexes have changed since; start without a token")
        found = list(run(made, reader, after))
        project = projector(reader.definition, reader.known.columns, parts.columns)
        rows = [project(item.row) for item in found[:wanted]]
        if len(found) <= wanted or given + wanted == parts.limit:
            return Page(rows, None)
        last_place = position(made, found[wanted - 1])
        return Page(
            rows, tokens.encode(tokens.Token(reader.generation, query, fingerprint, given + wanted, last_place))
        )

    # One row more than wanted tells whether there is a page after this one.
    prepare = preparer(replace(parts, limit=wanted + 1), after)
    return context.session.read(table, prepare, read, at=None if last is None else last.generation)
