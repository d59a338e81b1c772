"""From what a deployment asks for to definitions, successors and backfills."""

from __future__ import annotations

from collections.abc import Iterable

from aws_lambda_powertools.utilities.data_classes import CloudFormationCustomResourceEvent

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine
from bucketdex.errors import TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import Manifest
from functions.backfills import Backfiller, put_off
from functions.maintenance_queue import MaintenanceQueue


class Registrar:
    """Commits what a deployment asks for.

    announced_s: so many seconds later, S3 announces what the deployment makes it announce.
    """

    def __init__(
        self,
        engine: Engine,
        runtime: Runtime,
        maintenance: MaintenanceQueue,
        backfiller: Backfiller,
        announced_s: float,
    ) -> None:
        self._engine, self._runtime, self._announced_s = engine, runtime, announced_s
        self._maintenance, self._backfiller = maintenance, backfiller

    def register(self, tables: Iterable[TableDefinition], event: CloudFormationCustomResourceEvent) -> None:
        """Commits every definition, has what it changed built (views from rows, successors by a backfill), and drops
        the stack's tables that are gone from the deployment. Those that come back are backfilled.

        A table whose source was another in the deployment before (which may be one that failed) has missed events, even
        if its definition has stayed or is the old one again: it gets a successor in any case. All of it may be done
        twice. Nothing happens on deletion: the index stays as readable as its bucket.
        """
        if event.request_type == "Delete":
            return
        wanted, before = event.resource_properties, event.old_resource_properties
        sources, old_sources = wanted.get("Sources", {}), before.get("Sources", {})
        building = False
        for table in tables:
            name, source = table.name, sources.get(table.name)
            moved = old_sources.get(name, source) != source
            building = self._define(table, wanted["ManagedBy"], moved=moved) or building
        for name in sorted(set(before.get("Tables", ())) - set(wanted["Tables"])):
            known = self._known(name)  # a deployment that failed may have named others'
            if known is not None and known.managed_by == wanted["ManagedBy"]:
                self._engine.drop_table(name, managed_by=wanted["ManagedBy"])
        if building:
            self._backfiller.wake()

    def _define(self, table: TableDefinition, managed_by: str, *, moved: bool) -> bool:
        """Whether a backfill has been started."""
        engine, name, known = self._engine, table.name, self._known(table.name)
        revived = known is not None and known.state == "dropped"
        if revived:  # first of all: once it is live, nothing tells that it lacks its objects
            engine.start_revived_backfill(name)
            self._put_off(name)
        engine.define(table, managed_by=managed_by)
        if moved:
            engine.rebuild(name)
        self._maintenance.ask(engine, name)
        job = engine.follow_successor(name)
        if moved:
            self._put_off(name)
        return revived or job is not None

    def _put_off(self, name: str) -> None:
        """Lets the backfill begin when no upload is missed any more that comes after it has begun."""
        if self._announced_s:
            put_off(self._engine.jobs, name, self._runtime.now() + self._announced_s)

    def _known(self, name: str) -> Manifest | None:
        try:
            return self._engine.load(name).manifest
        except TableNotFoundError:
            return None
