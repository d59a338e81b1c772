"""`Table.backfill` and `Table.verify`: what the user sees of them."""

from __future__ import annotations

import random

import pytest
from enginekit import DEFINITION, Bench, documents

from bucketdex import BucketdexError, Database, Table
from bucketdex.engine import Difference, Engine, Event


def table_of(bench: Bench) -> Table:
    return Database(bench.index, bench.data, runtime=bench.runtime).table("orders")


def bucket(objects: int = 20) -> Bench:
    bench = Bench()
    for i in range(objects):
        bench.put(f"orders/{i:02d}", documents(random.Random(i), 2))
    return bench


def test_objects_that_were_there_before_answer_queries_after_a_backfill() -> None:
    bench = bucket()
    table = table_of(bench)
    assert table.count() == 0
    told = table.backfill(dry_run=True)
    assert (told.due, table.count()) == (20, 0) and told.dollars_estimated > 0
    steps = []
    done = table.backfill("orders/1", progress=lambda state: steps.append(state.applied))
    assert (done.applied, steps[-1]) == (10, 10)
    assert table.backfill(rate=1_000, start_after="orders/04").applied == 5
    assert table.backfill().applied == 5
    assert table.backfill(force=True).applied == 20
    assert (
        table.count()
        == sum(1 for _ in table.query())
        == done.rows + sum(len(table.records(f"orders/{i:02d}")) for i in range(10))
    )
    assert bench.contents() == bench.rebuilt()


def test_verify_and_repair() -> None:
    bench = bucket()
    table = table_of(bench)
    table.backfill()
    bench.data.delete_many(["orders/03"])
    bench.put("orders/xx", documents(random.Random(1), 1))
    found = table.verify(settle_seconds=0)
    assert found.differences == [Difference("orders/03", "extra"), Difference("orders/xx", "missing")]
    start = bench.runtime.clock
    assert table.verify(deep=True, sample=1.0, repair=True, settle_seconds=3).is_good
    assert bench.runtime.clock == start + 3
    assert not table.records("orders/03") and bench.contents() == bench.rebuilt()


def test_a_table_that_a_stack_manages() -> None:
    bench = bucket()
    bench.engine = Engine(bench.index, bench.data, bench.runtime, settings=bench.settings)
    bench.engine.define(DEFINITION, managed_by="stack")
    table = table_of(bench)
    assert table.backfill().applied == 20
    bench.put("orders/00", [])
    assert table.verify(repair=True).repaired == 1
    assert bench.contents() == bench.rebuilt()


def test_without_the_data_bucket() -> None:
    bench = bucket(1)
    table = Database(bench.index, runtime=bench.runtime).table("orders")
    for ask in (table.backfill, table.verify):
        with pytest.raises(BucketdexError, match="needs the data bucket"):
            ask()


def test_events_that_come_late_change_nothing() -> None:
    bench = bucket()
    table = table_of(bench)
    table.backfill()
    bench.engine.apply("orders", [Event(f"orders/{i:02d}", "created", sequencer=f"{i:x}") for i in range(20)])
    held, rebuilt = bench.contents(), bench.rebuilt()
    assert held.pop("objects") != rebuilt.pop("objects"), "the sequencers, which say nothing of the objects"
    assert held == rebuilt and table.verify(deep=True).is_good
