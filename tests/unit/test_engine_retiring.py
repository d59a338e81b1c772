"""A changed index or summary answers as it was until it is built anew."""

from __future__ import annotations

import random
from typing import Any

import pytest
from enginekit import DEFINITION, TINY, Bench, InterleavingStore, contents, documents, interrupted
from test_engine_successor import leftovers, rebuilt

from bucketdex import Database
from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event, define, retire, walk
from bucketdex.errors import (
    BucketdexError,
    CommitGaveUpError,
    DefinitionError,
    QueryError,
    ScanRequiredError,
    SnapshotExpiredError,
    ViewBuildingError,
)
from bucketdex.query.aggregate import fitting_summary, grouping
from bucketdex.storage import Manifest, open_index_store
from bucketdex.views import BlockCache, Snapshot

PLAIN = DEFINITION.to_dict()
KEYS = [f"orders/{i}" for i in range(6)]
INDEXES = {
    "by_customer": [["customer", "created_at"], ["customer"], ["customer", "amount"]],
    "by_tag": [["tags", "created_at"], ["tags"], None],
}
GROUPS = [["country", "day(created_at)"], ["country"], ["customer"]]
MEASURES: list[dict[str, str]] = [
    PLAIN["summaries"]["revenue"]["measures"],
    {"orders": "count()", "least": "min(amount)", "customers": "count_distinct(customer)"},
    {"orders": "count()", "most": "max(items)"},
]


def version(customer: int, tag: int = 0, groups: int = 0, measures: int = 0) -> TableDefinition:
    indexes = {"by_customer": INDEXES["by_customer"][customer], "by_tag": INDEXES["by_tag"][tag]}
    summary = {"group_by": GROUPS[groups], "measures": MEASURES[measures]}
    plain = {
        **PLAIN,
        "indexes": {name: fields for name, fields in indexes.items() if fields},
        "summaries": {"revenue": summary},
    }
    return TableDefinition.from_dict("orders", plain)


def bench_of(seed: int, index: InterleavingStore | None = None) -> Bench:
    bench = Bench(seed, index=index)
    bench.engine.create_table(version(0))
    for key in KEYS[:4]:
        bench.put(key, documents(random.Random(seed), 3))
    bench.apply(*KEYS[:4])
    return bench


def full(manifest: Manifest) -> TableDefinition:
    return TableDefinition.from_dict("orders", manifest.definition)


def check(bench: Bench) -> set[str]:
    """Every ready view holds what a rebuild of its definition gives; the names of those that retire."""
    manifest = bench.engine.load("orders").manifest
    definition = full(manifest)
    old = definition.retiring
    declared: dict[str, Any] = {item.name: item for item in (*definition.indexes, *definition.summaries)}
    fresh = rebuilt(bench, definition.settled())
    names = set()
    for item in (*old.indexes, *old.summaries):
        name = item.name.partition("@")[0]
        assert manifest.views[name].state == "building" and manifest.views[item.name].state == "ready"
        assert name in declared and name not in names
        names.add(name)
    ready = {name for name, state in manifest.views.items() if state.state == "ready"}
    shown = TableDefinition.from_dict(
        "orders",
        {
            **definition.settled().to_dict(),
            "indexes": {i.name: list(i.fields) for i in definition.indexes if i.name in ready},
            "summaries": {n: s for n, s in definition.to_dict().get("summaries", {}).items() if n in ready},
            "retiring": definition.to_dict().get("retiring", {}),
        },
    )
    held = contents(Snapshot(bench.index, manifest, shown, BlockCache()))
    for item in (*old.indexes, *old.summaries):
        kind = "indexes" if item in old.indexes else "summaries"
        plain = {
            **PLAIN,
            "indexes": {},
            "summaries": {},
            kind: {"old": definition.to_dict()["retiring"][kind][item.name]},
        }
        assert held.pop(item.name) == rebuilt(bench, TableDefinition.from_dict("orders", plain))["old"]
    assert held == {name: fresh[name] for name in held}
    return names


def build(bench: Bench, *names: str) -> None:
    for name in names:
        bench.engine.compact("orders", name, mode="tiered")


def test_a_changed_index_answers_as_it_was_until_it_is_built() -> None:
    bench = bench_of(1)
    table = Database(bench.index, bench.data, runtime=bench.runtime).table("orders")
    expected = sorted(table.where(customer="c1").keys())
    bench.engine.define(version(1))
    assert check(bench) == {"by_customer"}
    for key in KEYS[2:]:
        bench.put(key, documents(random.Random(3), 40))
    bench.apply(*KEYS[2:])
    bench.engine.compact("orders", next(n for n in bench.engine.load("orders").manifest.views if "@" in n), mode="full")
    assert check(bench) == {"by_customer"}
    expected = sorted({row["_key"] for row in table.query().allow_scan() if row["customer"] == "c1"})
    assert sorted(set(table.where(customer="c1").keys())) == expected
    assert table.definition == version(1)
    revision = bench.engine.load("orders").manifest.revision
    bench.engine.define(version(1))
    bench.engine.define(full(bench.engine.load("orders").manifest))
    assert bench.engine.load("orders").manifest.revision == revision  # nothing changed
    reading = Snapshot(bench.index, (before := bench.engine.load("orders").manifest), full(before), BlockCache())
    [name] = [name for name in before.views if "@" in name]
    held = list(reading.scan(name, None, None))
    build(bench, "by_customer")
    bench.engine.sweep("orders")
    assert check(bench) == set()
    assert list(Snapshot(bench.index, before, full(before), BlockCache()).scan(name, None, None)) == held
    assert bench.engine.load("orders").manifest.revision == revision + 1
    assert bench.engine.load("orders").manifest.definition == version(1).to_dict()
    assert sorted(set(table.where(customer="c1").keys())) == expected
    assert leftovers(bench) == []
    assert sorted(set(table.where(customer="c1").keys())) == expected


def test_a_changed_summary_answers_as_it_was_until_it_is_built() -> None:
    bench = bench_of(2)
    table = Database(bench.index, bench.data, runtime=bench.runtime).table("orders")
    before = table.summary("revenue").rows()
    bench.engine.define(version(0, groups=1))
    assert check(bench) == {"revenue"}
    assert table.summary("revenue").rows() == before
    assert table.summary("revenue").get(**{n: before[0][n] for n in ("country", "created_at_day")}) == before[0]
    grouped = table.group_by("country", "day(created_at)").aggregate(least="min(amount)")
    assert [row["least"] for row in grouped] == [row["least"] for row in before]
    manifest = bench.engine.load("orders").manifest
    wanted = grouping(full(manifest), ("country", "day(created_at)"), {"least": "min(amount)"})
    fitting = fitting_summary(full(manifest), wanted, None, lambda name: manifest.views[name].state == "ready")
    assert fitting is not None and fitting[0].name.startswith("revenue@")
    with pytest.raises(QueryError, match="no"):
        table.summary("revenue").where(nonsense=1).rows()
    bench.engine.define(version(0, groups=2))
    with pytest.raises(ViewBuildingError):
        table.summary("revenue").where(customer="c1").rows()
    assert table.summary("revenue").rows() == before  # the oldest that is ready
    build(bench, "revenue")
    assert check(bench) == set()
    assert set(table.summary("revenue").rows()[0]) == {"customer", *MEASURES[0]}


def test_a_new_measure_keeps_what_is_settled_already() -> None:
    bench = bench_of(3)
    bench.engine.define(version(0, measures=1))
    views = bench.engine.load("orders").manifest.views
    assert views["revenue.amount"].state == "ready"  # grouped and valued as before
    assert check(bench) == {"revenue"}
    bench.engine.compact("orders", mode="full", in_time=interrupted(6))
    bench.put("orders/1", documents(random.Random(3), 3))
    bench.apply("orders/1")
    bench.engine.compact("orders", mode="full")
    assert check(bench) == set()
    assert leftovers(bench) == []
    assert check(bench) == set()


def test_back_to_what_it_was_is_there_at_once() -> None:
    bench = bench_of(4)
    bench.engine.define(version(1, groups=1))
    bench.engine.define(version(2, groups=2))
    assert check(bench) == {"by_customer", "revenue"}
    bench.put("orders/1", documents(random.Random(4), 2))
    bench.apply("orders/1")
    bench.engine.define(version(0))
    assert check(bench) == set()
    assert all(state.state == "ready" for state in bench.engine.load("orders").manifest.views.values())


def test_what_is_taken_out_answers_no_more() -> None:
    bench = bench_of(5)
    bench.engine.define(version(0, tag=1))
    bench.engine.define(version(0, tag=2))
    assert check(bench) == set()
    table = Database(bench.index, bench.data, runtime=bench.runtime).table("orders")
    with pytest.raises(ScanRequiredError):
        table.where(tags="a").rows()


def test_of_the_time_before_it_retired_a_view_tells_nothing_wrong() -> None:
    bench = bench_of(9)
    bench.engine.compact("orders", "by_customer", mode="full")
    at = bench.engine.load("orders").manifest.generation
    for key in KEYS:
        bench.apply(key)
    bench.engine.compact("orders", "by_customer", mode="full")
    bench.engine.define(version(1))
    manifest = bench.engine.load("orders").manifest
    [name] = [name for name in manifest.views if "@" in name]
    with pytest.raises(SnapshotExpiredError):
        list(Snapshot(bench.index, manifest, full(manifest), BlockCache(), at=at).scan(name, None, None))


def test_a_backfill_goes_on_while_a_view_becomes_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PAGE_KEYS", 2)
    bench = bench_of(6)
    bench.engine.define(version(1, groups=1))
    for key in KEYS:
        bench.put(key, documents(random.Random(6), 2))
    bench.engine.backfill("orders", progress=lambda _: build(bench, "by_customer", "revenue"))
    assert check(bench) == set()
    bench.engine.define(version(2))
    assert bench.engine.verify("orders", deep=True, progress=lambda _: build(bench, "by_customer")).is_good
    bench.engine.define(version(0))
    with pytest.raises(BucketdexError, match="defined anew"):
        bench.engine.verify("orders", progress=lambda _: bench.engine.define(version(1)))


def test_a_rebuilt_table_has_nothing_that_retires() -> None:
    bench = bench_of(7)
    bench.engine.define(version(1))
    name = bench.engine.rebuild("orders")
    assert "retiring" not in bench.engine.load(name).manifest.definition
    bench.engine.backfill(name)
    bench.engine.define(version(2, groups=1))  # of both
    assert not bench.engine.promote("orders", name)
    assert check(bench) == {"by_customer", "revenue"}
    bench.engine.build_successor("orders")
    assert check(bench) == set()
    assert leftovers(bench) == []


def test_another_version_s_lines_do_not_retire(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this version reads otherwise can't be kept up to date by it."""
    bench = bench_of(8)
    bench.engine.define(version(1))
    manifest = bench.engine.load("orders").manifest
    plain: dict[str, Any] = dict(manifest.definition)
    [name] = plain["retiring"]["indexes"]
    manifest.views[name].hash = "0" * 12
    assert not retire._retiring(manifest, version(2)).indexes


def test_a_definition_of_another_version_is_another_one() -> None:
    """What this version can't read isn't what it is asked for, nor is anything of it kept up to date."""
    bench = bench_of(8)
    manifest = bench.engine.load("orders").manifest
    assert define._is_same(manifest, version(0), None)
    manifest.definition["fields"]["amount"] = "quaternion"
    with pytest.raises(DefinitionError):
        TableDefinition.from_dict("orders", manifest.definition)
    assert not define._is_same(manifest, version(0), None)
    assert not retire._retiring(manifest, version(1)).indexes


def test_a_file_says_nothing_of_what_retires(tmp_path: Any) -> None:
    path = tmp_path / "t.toml"
    path.write_text(
        '[source]\nprefix = "t/"\nformat = "json"\n[fields]\na = "int"\n[retiring.indexes]\n"b@0123456789ab" = ["a"]\n'
    )
    with pytest.raises(DefinitionError, match="only the index itself"):
        TableDefinition.load(path)
    with pytest.raises(DefinitionError, match="isn't usable"):
        TableDefinition.from_dict("t", {**PLAIN, "indexes": {"a@0123456789ab": ["amount"]}})


@pytest.mark.parametrize("seed", range(2))
def test_every_ready_view_is_a_rebuild_whatever_crosses(seed: int) -> None:
    store = InterleavingStore(open_index_store("memory://"))
    bench = bench_of(seed, store)
    r = random.Random(seed)
    rival = Engine(store, bench.data, bench.runtime, settings=TINY)
    depth = left = 0
    seen: set[str] = set()

    def act() -> None:
        kind = r.choice(["define", "define", "build", "build", "change", "change", "compact", "collect", "sweep"])
        try:
            if kind == "define":
                rival.define(version(r.randrange(3), r.randrange(3), r.randrange(3), r.randrange(3)))
            elif kind == "build":
                views = rival.load("orders").manifest.views
                for name in r.sample(sorted(views), 2):
                    if views[name].state == "building":
                        rival.compact("orders", name, mode="tiered")
            elif kind == "change":
                keys = r.sample(KEYS, 2)
                for key in keys:
                    bench.put(key, documents(r, r.choice([0, 2, 9, 30])))
                rival.apply("orders", [Event(key) for key in keys])
            elif kind == "compact":
                name = r.choice(sorted(rival.load("orders").manifest.views))
                rival.compact("orders", name, mode=r.choice(["tidy", "full"]), in_time=interrupted(4))
            elif kind == "collect":
                bench.runtime.clock += 60
                rival.collect("orders")
            else:
                rival.sweep("orders")
        except CommitGaveUpError:
            pass

    def before_swap() -> None:
        nonlocal depth, left
        if depth < 2 and left and r.random() < 0.4:
            depth, left = depth + 1, left - 1
            act()
            depth -= 1

    for _ in range(10):
        left, store.before_swap = 5, before_swap
        act()
        store.before_swap = None
        bench.apply(*KEYS)
        seen |= check(bench)
    bench.engine.create_table(version(0))
    assert check(bench) == set()
    assert leftovers(bench) == []
    assert check(bench) == set()
    assert seen
