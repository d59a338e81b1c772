"""Where an index is, and the tables in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bucketdex.client.context import Context
from bucketdex.client.stack import stack_outputs
from bucketdex.client.table import Table
from bucketdex.definition import TableDefinition
from bucketdex.errors import BucketdexError, TableNotFoundError
from bucketdex.runtime import Runtime, system_runtime
from bucketdex.storage import ManifestStore, open_data_store, open_index_store
from bucketdex.views.cache import DEFAULT_BYTES

if TYPE_CHECKING:
    from bucketdex.storage.opening import StoreLike

INDEX_VARIABLE = "BUCKETDEX_INDEX"
DATA_VARIABLE = "BUCKETDEX_DATA"


class Database:
    """The tables of one index bucket. Opening one makes no request. Safe between threads; use one for all of them,
    because it keeps the last manifests and up to `cache_bytes` of blocks in memory.

    `index`: `s3://bucket[/prefix]`, or an obstore store with conditional update (S3Store, MemoryStore); by default what
    BUCKETDEX_INDEX says. `data`: the data bucket, needed only for original records and for changes made in this
    process; by default BUCKETDEX_DATA.
    """

    def __init__(
        self,
        index: StoreLike | None = None,
        data: StoreLike | None = None,
        *,
        runtime: Runtime | None = None,
        cache_bytes: int = DEFAULT_BYTES,
    ) -> None:
        index = index if index is not None else os.environ.get(INDEX_VARIABLE) or None
        if index is None:
            raise BucketdexError(f"where is the index? Pass Database('s3://bucket') or set {INDEX_VARIABLE}")
        data = data if data is not None else os.environ.get(DATA_VARIABLE) or None
        self._store = open_index_store(index)
        data_store = None if data is None else open_data_store(data)
        self._context = Context(self._store, data_store, runtime or system_runtime(), cache_bytes)

    @classmethod
    def from_stack(cls, name: str, **options: Any) -> Database:
        """The database of a deployed stack, by its outputs IndexBucketName and DataBucketName. One request to
        CloudFormation.
        """
        outputs = stack_outputs(name)
        data = outputs.get("DataBucketName")
        return cls(f"s3://{outputs['IndexBucketName']}", None if data is None else f"s3://{data}", **options)

    def table(self, name: str) -> Table:
        """A table. One request, none when its manifest is in memory. TableNotFoundError where there is none of that
        name.
        """
        self._context.session.known(name)
        return Table(self._context, name)

    def tables(self) -> list[str]:
        """The names of all tables, ascending. One list request and one GET a table, the GETs in one round."""
        manifests = ManifestStore(self._store, self._context.runtime)
        names = manifests.tables()
        answers = self._store.get_many([manifests.request(name) for name in names])
        live = []
        for name, answer in zip(names, answers, strict=True):
            try:
                manifest = manifests.received(name, answer).manifest
            except TableNotFoundError:  # files that a drop has left behind
                continue
            if manifest.state == "live":
                live.append(name)
        return sorted(live)

    def create_table(self, definition: TableDefinition) -> Table:
        """Makes the table be as defined, in this process; idempotent. New indexes and summaries are built before it
        returns. Where fields or source are changed and the table has objects, it reads all of them again into a second
        table, which then takes this one's place (`Table.rebuild`): that needs the data bucket. ManagedByStackError
        where a stack manages it.
        """
        engine = self._context.engine
        if engine.define(definition).manifest.successor is not None:
            _ = self._context.data
        engine.create_table(definition)
        self._context.session.forget(definition.name)
        return self.table(definition.name)

    def drop_table(self, name: str) -> None:
        """Drops a table's index; the data stays. ManagedByStackError where a stack manages it."""
        self._context.engine.drop_table(name)
        self._context.session.forget(name)

    def __repr__(self) -> str:
        return f"<Database {self._store.url}>"
