"""Which objects of a table are due: those that the bucket has otherwise than the index. Changes with what makes an
object due.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bucketdex.engine.changes import Means
from bucketdex.engine.inventory import Inventory
from bucketdex.engine.walk import Pair, Walk
from bucketdex.storage import Listed


class Page(NamedTuple):
    """A page of keys. `due` holds those to apply, in order; `listed` and `unchanged` count the table's own. All keys up
    to `cursor` are in this page or in one before it: a later `after`.
    """

    listed: int
    unchanged: int
    due: list[Listed]
    cursor: str | None


class Lister:
    """One way through the objects of a table, behind the key `after`.

    Due is an object that the index lacks or holds by another ETag or time (in whole seconds, as S3's GET gives it), and
    with `force` every one. `again`: an earlier pass has sent what was due, so what would look different for ever is
    not: objects that can't be read (their rows have no ETag), times that a listing rounds where a GET cuts them.
    With `inventory`, a report of S3 Inventory is gone through instead of the listing, and what the index has of a later
    time than the report is not due (by a report without times, what it has by the same ETag); `after` is then a place
    in the report.
    Raises as `Walk` and `Inventory` do.
    """

    def __init__(
        self, means: Means, table: str, *, prefix: str | None = None, after: str | None = None, force: bool = False,
        again: bool = False, inventory: str | None = None,
    ) -> None:  # fmt: skip
        self.walk = Walk(means, table, prefix, None if inventory else after)
        self._report = Inventory(means, self.walk, inventory, after, force=force) if inventory else None
        self._force, self._again = force, again

    def pages(self, page_keys: int | None = None) -> Iterator[Page]:
        """The pages, of 1,000 listed keys unless said otherwise, each compared with the index as it is right after it
        was listed. Cost: see `Walk.pages`, `Inventory.pages`.
        """
        source = self._report or self.walk
        for pairs in source.pages(page_keys):
            yield self._page(pairs, source.reached)

    def _page(self, pairs: Iterable[Pair], cursor: str | None) -> Page:
        listed = 0
        due = []
        for pair in pairs:
            if pair.listed is not None:
                listed += 1
                if self._is_due(pair):
                    due.append(pair.listed)
        return Page(listed, listed - len(due), due, cursor)

    def _is_due(self, pair: Pair) -> bool:
        if self._force or pair.row is None:
            return True
        there, row = pair.object_stamp, pair.row_stamp
        assert there is not None and row is not None
        if self._report is not None:
            if not there.second:  # no time
                return there.etag != row.etag
            newer = there.second > row.second
            return newer or (there.second == row.second and there.etag not in ("", row.etag))
        if self._again:
            return bool(row.etag) and (there.etag != row.etag or abs(there.second - row.second) > 1)
        return there != row
