"""What went wrong in tools like this one: silence where there should have been rows, or an error. Those that a query
can show; overwritten values and unchanged ETags are the engine's tests, retried answers those of the store over HTTP.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from enginekit import InterleavingStore
from obstore.store import MemoryStore

from bucketdex import CorruptFileError, Database, QueryError, StorageError, Table, TableDefinition, col
from bucketdex.storage import GetRequest, Got, open_index_store

CITIES = TableDefinition.from_dict(
    "cities",
    {
        "source": {"prefix": "cities/", "format": "ndjson"},
        "fields": {"a": "string", "b": "string", "c": "int"},
        "indexes": {"by_abc": ["a", "b", "c"]},
        "summaries": {"by_a": {"group_by": ["a"], "measures": {"n": "count()"}}},
    },
)


class Dead(InterleavingStore):
    """A store whose endpoint may go away."""

    dead = False

    def get_many(self, requests: Any) -> Any:
        return [StorageError("connection refused") for _ in requests] if self.dead else self.inner.get_many(requests)

    def get(self, request: GetRequest) -> Got:
        if self.dead:
            raise StorageError("connection refused")
        return self.inner.get(request)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Any]:
        raise StorageError("connection refused")

    def folders(self, prefix: str) -> Any:
        raise StorageError("connection refused")


def filled(index: Any) -> Table:
    data = MemoryStore()
    table = Database(index, data=data).create_table(CITIES)
    rows = [{"a": a, "b": b, "c": c} for a in ("city1", "city10", "city1/", "%") for b in ("x", "y") for c in range(3)]
    data.put("cities/all", b"\n".join(json.dumps(row).encode() for row in rows))
    table.reindex(["cities/all"])
    return table


@pytest.mark.parametrize("compacted", [False, True])
def test_a_value_finds_only_itself(compacted: bool) -> None:
    table = filled(MemoryStore())
    if compacted:
        table.compact(full=True)
    for a in ("city1", "city10", "city1/", "%", "city", "_ity1"):
        found = table.where(a=a).rows()
        assert len(found) == table.where(a=a).count() == (0 if a in ("city", "_ity1") else 6)
        assert {row["a"] for row in found} <= {a}
        assert table.summary("by_a").get(a=a) == ({"a": a, "n": 6} if found else None)


def test_a_condition_after_a_gap_or_on_an_unknown_column_is_never_dropped() -> None:
    table = filled(MemoryStore())
    assert [(row["b"], row["c"]) for row in table.where(a="city1", c=2)] == [("x", 2), ("y", 2)]
    assert table.where(a="city1", c=2).count() == table.where((col.c == 2) & (col.a == "city1")).count() == 2
    assert table.where((col.c == 2) | (col.b == "x")).where(a="%").count() == 4
    for ask in (
        lambda: table.where(a="city1", d=2).rows(),
        lambda: table.where(a="city1").order_by("d").rows(),
        lambda: table.where(a="city1").select("a", "d").rows(),
        lambda: table.summary("by_a").where(b="x").rows(),
        lambda: table.where(a="city1").group_by("d").aggregate(n="count()"),
        lambda: table.where(a="city1").distinct("d"),
    ):
        with pytest.raises(QueryError, match=r"['\"][db]['\"]"):
            ask()


def test_tables_go_on_past_a_thousand() -> None:
    index = MemoryStore()
    database = Database(index)
    database.create_table(CITIES)
    manifest = msgspec.json.decode(bytes(index.get("tables/cities/manifest.json").bytes()))
    names = [f"t{number:04d}" for number in range(1_050)]
    for name in names:
        index.put(f"tables/{name}/manifest.json", msgspec.json.encode(manifest | {"table": name}))
    assert database.tables() == ["cities", *names]


def test_no_answer_is_ever_no_because_of_an_error() -> None:
    store = Dead(open_index_store("memory://"))
    table = filled(store)
    database = Database(store)
    held = database.table("cities")
    store.dead = True
    for ask in (
        lambda: held.get("cities/none"), lambda: held.records("cities/none"), held.count, held.rows, held.keys,
        lambda: held.where(a="city1").first(), lambda: held.summary("by_a").get(a="none"), held.rejects, held.status,
        lambda: held.wait_for("cities/all", timeout=0), lambda: held.changes(since=1), lambda: held.distinct("a"),
        lambda: held.query().page(), database.tables, lambda: Database(store).table("cities"),
        lambda: table.reindex(["cities/all"]),
    ):  # fmt: skip
        with pytest.raises(StorageError, match="connection refused"):
            ask()


@pytest.mark.parametrize("damage", [lambda body: body[:-30], lambda body: b"\x00" * len(body), lambda body: b""])
def test_a_damaged_file_is_an_error_never_fewer_rows(damage: Any) -> None:
    index = MemoryStore()
    filled(index).compact(full=True)
    paths = [item["path"] for batch in index.list("tables/cities/views/") for item in batch]
    for path in [path for path in paths if "/by_abc-" in path]:
        index.put(path, damage(bytes(index.get(path).bytes())))
    table = Database(index).table("cities")
    for ask in (lambda: table.where(a="city1").rows(), lambda: table.where(a="city1").count()):
        with pytest.raises(CorruptFileError, match="by_abc"):
            ask()
    assert len(table.rows()) == 24  # other views are none the worse


def test_two_databases_in_threads_lose_no_record() -> None:
    index, data = MemoryStore(), MemoryStore()
    Database(index, data=data).create_table(CITIES)

    def work(number: int) -> None:
        table = Database(index, data=data).table("cities")
        for i in range(5):
            table.put({"a": f"w{number}", "c": i}, key=f"cities/{number}-{i}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = Database(index).table("cities")
    assert table.count() == 20 and [row["n"] for row in table.summary("by_a")] == [5, 5, 5, 5]
