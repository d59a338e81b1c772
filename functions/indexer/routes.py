"""Which tables an event is for. Changes with which definitions of a table are in force at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine
from bucketdex.errors import BucketdexError, TableNotFoundError
from bucketdex.runtime import Runtime

Route = Callable[[str], Iterable[str]]


class Routes:
    """The tables of this bundle, by its own definitions and by those that the index has of them: a table whose source
    was changed answers by the old one until its successor takes its place, and an event may be older than a deployment.

    The index is read once a process. Nobody but the stack defines its tables, and it does so before it updates the
    indexer; so what is in force while a process lives was there at its start, or is the bundle's own. While a
    deployment is rolled back it may be neither: what the registrar starts then begins after that.
    """

    def __init__(self, engine: Engine, runtime: Runtime, tables: Iterable[TableDefinition]) -> None:
        self._engine, self._runtime = engine, runtime
        self._claims = {table.name: [table] for table in tables}
        self._unread = list(self._claims)

    def read(self) -> Route:
        """Names the tables that claim a key: none, one, or two while keys move from one to the other. What can't be
        read is tried again with the next call; meanwhile a key that nothing else claims raises why (BucketdexError).

        A GET of each manifest, where it was not read yet.
        """
        found = dict(zip(self._unread, self._runtime.map(self._in_index, self._unread), strict=True))
        for name, definitions in found.items():
            if not isinstance(definitions, BucketdexError):
                self._claims[name] += [other for other in definitions if other not in self._claims[name]]
        failed = {name: error for name, error in found.items() if isinstance(error, BucketdexError)}
        self._unread = list(failed)

        def route(key: str) -> list[str]:
            claiming = [
                name for name, claims in self._claims.items() if any(claim.match(key) is not None for claim in claims)
            ]
            for error in () if claiming else failed.values():
                raise error
            return claiming

        return route

    def _in_index(self, name: str) -> list[TableDefinition] | BucketdexError:
        try:
            manifests = self._engine.manifests(name)
            return [TableDefinition.from_dict(name, one.definition) for one in manifests if one.state == "live"]
        except TableNotFoundError:  # it is yet to be registered, as the bundle has it
            return []
        except BucketdexError as error:
            return error
