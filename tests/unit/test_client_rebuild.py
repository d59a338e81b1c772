"""Tables whose fields change, and rebuilds: what the user sees of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from enginekit import DEFINITION, Bench, documents

from bucketdex import BucketdexError, Database, QueryError, Table, col
from bucketdex.definition import TableDefinition
from bucketdex.errors import AccessDeniedError, BackfillError, ScanRequiredError

PLAIN = DEFINITION.to_dict()
NEW = TableDefinition.from_dict(
    "orders",
    {
        **PLAIN,
        "fields": {**PLAIN["fields"], "place": {"type": "string", "path": "country"}},
        "indexes": {**PLAIN["indexes"], "by_place": ["place"], "by_country": ["country"]},
        "summaries": {"places": {"group_by": ["place"], "measures": {"n": "count()"}}},
    },
)


def filled(objects: int = 5) -> tuple[Bench, Database, Table]:
    bench = Bench()
    for i in range(objects):
        bench.put(f"orders/{i}", documents(random.Random(i), 2))
    bench.apply(*(f"orders/{i}" for i in range(objects)))
    database = Database(bench.index, bench.data, runtime=bench.runtime)
    return bench, database, database.table("orders")


def test_a_changed_field_is_there_when_create_table_returns() -> None:
    _, database, table = filled()
    rows = table.count()
    again = database.create_table(NEW)
    assert again.definition == NEW
    assert database.tables() == ["orders"]
    assert sum(row["n"] for row in again.summary("places")) == again.count() == rows
    assert {row["place"] for row in again.query()} == {row["country"] for row in again.query()}
    assert again.status()["successor"] is None


def test_without_the_data_bucket_nothing_takes_over() -> None:
    bench, _, table = filled()
    rows = table.rows()
    blind = Database(bench.index, runtime=bench.runtime)
    for change in (lambda: blind.create_table(NEW), lambda: blind.table("orders").rebuild()):
        with pytest.raises(BucketdexError, match="needs the data bucket"):
            change()
    assert table.rows() == rows
    table.rebuild()  # goes on with what was announced
    assert table.definition == NEW


def test_a_rate_that_nothing_keeps_announces_nothing() -> None:
    bench, _, table = filled()
    bench.engine.define(DEFINITION, managed_by="Shop")
    for rate in (0, -1.0, float("nan"), float("inf")):
        for rebuild in (table.rebuild, table.backfill_job().rebuild):
            with pytest.raises(BucketdexError, match="has to be positive"):
                rebuild(rate=rate)
    assert bench.engine.successor("orders") is None


def test_a_rebuild_that_cannot_end_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, database, table = filled()
    before = table.rows()
    opened = bench.data.open

    def denied(key: str, **options: Any) -> Any:
        if key == "orders/1":
            raise AccessDeniedError("403")
        return opened(key, **options)

    monkeypatch.setattr(bench.data, "open", denied)
    for rebuild in (table.rebuild, lambda: database.create_table(NEW)):
        with pytest.raises(BucketdexError, match="'orders/1' first: 403"):
            rebuild()
        assert table.abandon_rebuild() and not table.abandon_rebuild()
        assert table.status()["successor"] is None and table.rows() == before
    bench.engine.define(NEW, managed_by="Shop")
    with pytest.raises(BackfillError, match="stack Shop asks for what is built beside table 'orders'"):
        table.abandon_rebuild()
    assert table.status()["successor"] is not None


def test_a_rebuild_finds_what_events_never_told() -> None:
    bench, _, table = filled()
    bench.put("orders/0", documents(random.Random(9), 3))
    bench.data.delete_many(["orders/1"])
    generation, seen = table.status()["generation"], []
    table.rebuild(progress=lambda state: seen.append(state.listed))
    assert seen[-1] == 4
    assert bench.contents() == bench.rebuilt()
    assert table.status()["generation"] > generation
    with pytest.raises(BucketdexError, match="grace period"):
        table.changes(generation)


def test_while_it_is_rebuilt_a_table_says_so() -> None:
    bench, _, table = filled()
    name = bench.engine.define(NEW).manifest.successor
    assert table.status()["successor"] == {"name": name, "objects": 0}
    bench.engine.backfill(str(name), prefix="orders/1")
    assert table.status()["successor"] == {"name": name, "objects": 1}
    asked: list[tuple[type[QueryError], Any]] = [
        (QueryError, lambda t: t.where(place="DE").rows()),
        (QueryError, lambda t: t.summary("places").rows()),
        (QueryError, lambda t: t.summary("places").get(place="DE")),
        (QueryError, lambda t: t.select("place").rows()),
        (QueryError, lambda t: t.group_by("place").aggregate(n="count()")),
        (ScanRequiredError, lambda t: t.where(country="DE").rows()),
    ]
    for cold in (True, False):
        for kind, ask in asked:
            fresh = Database(bench.index, runtime=bench.runtime).table("orders") if cold else table
            with pytest.raises(kind, match="being rebuilt"):
                ask(fresh)
    for ask in (lambda: table.where(nonsense=1).rows(), lambda: table.where(col.score * 2 == 1).rows()):
        with pytest.raises((QueryError, TypeError)) as failed:
            ask()
        assert "being rebuilt" not in str(failed.value)
    bench.engine.build_successor("orders")
    for _, ask in asked:
        ask(table)
