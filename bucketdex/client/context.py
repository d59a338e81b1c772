"""What a Database hands to its tables and queries: the session, the stores, the engine made on first use."""

from __future__ import annotations

from functools import cached_property

from bucketdex.engine import Engine
from bucketdex.errors import BucketdexError
from bucketdex.query.session import Session
from bucketdex.runtime import Runtime
from bucketdex.storage import ObjectStore
from bucketdex.views import BlockCache


class Context:
    """Shared by all that one Database made. Safe between threads."""

    def __init__(self, index: ObjectStore, data: ObjectStore | None, runtime: Runtime, cache_bytes: int) -> None:
        self.index = index
        self.runtime = runtime
        self._data = data
        self._cache = BlockCache(cache_bytes)
        self.session = Session(index, runtime, self._cache)

    @property
    def data(self) -> ObjectStore:
        """The data bucket. BucketdexError where the Database wasn't told of one."""
        if self._data is None:
            raise BucketdexError(
                "this needs the data bucket: open Database(index, data='s3://...'), set BUCKETDEX_DATA, "
                "or use Database.from_stack()"
            )
        return self._data

    @cached_property
    def engine(self) -> Engine:
        """The engine over this index. Without a data bucket it compacts and defines, and nothing is applied."""
        return Engine(self.index, self.index if self._data is None else self._data, self.runtime, cache=self._cache)
