"""Odd questions and odd values, as somebody at a notebook would try them: a clear answer or a clear error."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from obstore.store import LocalStore, MemoryStore

import bucketdex
from bucketdex import (
    BucketdexError,
    Database,
    QueryError,
    ScanRequiredError,
    SnapshotExpiredError,
    StorageError,
    Table,
    TableDefinition,
    UpgradeRequiredError,
    col,
    errors,
)
from bucketdex.cli.main import main
from bucketdex.cli.session import Session
from bucketdex.views import Snapshot

PLAIN: dict[str, Any] = {
    "source": {"prefix": "w/", "format": "ndjson"},
    "fields": {
        "s": "string",
        "i": "int",
        "d": "decimal",
        "ts": "timestamp",
        "local": {"type": "timestamp", "timezone": "Europe/Berlin"},
        "first name": "string",
        "tags": {"type": "string", "path": "tags[]"},
        "secret": {"type": "string", "sensitive": True},
    },
    "indexes": {"by_s": ["s", "i"], "by_i": ["i"], "by_local": ["local"], "by_tags": ["tags"], "by_secret": ["secret"]},
    "summaries": {
        "by_s_day": {"group_by": ["s", "day(ts)"], "measures": {"n": "count()", "top": "max(d)", "least": "min(d)"}},
    },
}  # fmt: skip
SECRET = "bob@example.com"


def database() -> tuple[Database, MemoryStore, MemoryStore]:
    index, data = MemoryStore(), MemoryStore()
    return Database(index, data=data), index, data


@pytest.fixture
def table() -> Table:
    return database()[0].create_table(TableDefinition.from_dict("w", PLAIN))


def test_records_before_the_damage_of_a_packed_object_are_read() -> None:
    """Their rows are in the index, beside a reject for the rest."""
    db, _, data = database()
    table = db.create_table(TableDefinition.from_dict("w", PLAIN))
    rows = [{"s": f"{i:06}", "i": i} for i in range(30_000)]
    packed = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows), mtime=0)
    data.put("w/a.gz", packed[: len(packed) // 2])
    table.reindex(["w/a.gz"])
    found = table.where(col.i < 50).order_by("i").records()
    assert found == rows[:50] and len(table.rejects()) == 1
    assert table.count() < len(rows)


def test_every_name_that_the_design_promises_is_there(table: Table) -> None:
    assert {error for error in dir(errors) if error.endswith("Error")} <= set(bucketdex.__all__)
    assert all(issubclass(getattr(errors, name), BucketdexError) for name in dir(errors) if name.endswith("Error"))
    assert table.backfill().applied == 0 and table.verify().is_good


def test_an_empty_table_answers_everything(table: Table) -> None:
    query = table.query()
    assert not any([table.rows(), query.keys(), query.records(), table.distinct("s"), table.rejects()])
    assert (table.count(), query.first(), query.page()) == (0, None, ([], None))
    assert table.aggregate(n="count()", top="max(d)") == {"n": 0, "top": None}
    assert table.summary("by_s_day").rows() == table.group_by("s").aggregate(n="count()") == []
    assert table.get("w/none") is None and table.where(s=[]).rows() == [] and "records" in str(query.explain())


def test_local_folders_are_refused_as_index_and_as_data(tmp_path: Any) -> None:
    local: Any = LocalStore(tmp_path)
    for stores in ((local, None), (MemoryStore(), local)):
        with pytest.raises(StorageError, match="conditional update"):
            Database(*stores)


@pytest.mark.parametrize(
    "call",
    [
        lambda table: table.put({"i": 1, "f": float("nan")}),
        lambda table: table.put({"x": {"y": [float("inf")]}}),
        lambda table: table.put({"d": Decimal("NaN")}),
        lambda table: table.put({"x": {"t": datetime(2026, 1, 1)}}),
        lambda table: table.put({"x": object()}),
        lambda table: table.put({"s": "\ud800"}),
        lambda table: table.put(3),
        lambda table: table.put_many({"s": "a"}),
        lambda table: table.put_many([]),
        lambda table: table.compact("by_nothing"),
        lambda table: table.summary("by_s_day").get(s=["a", "b"], ts_day="2026-01-01"),
        lambda table: table.group_by("s").aggregate(n=5),
        lambda table: table.group_by(5).aggregate(n="count()"),
        lambda table: table.where(col.i == 2**63).rows(),
        lambda table: table.where(col.d < 1e50).rows(),
        lambda table: table.where(s=["a", None]).rows(),
        lambda table: table.where(col.s == col.i).rows(),
    ],
)
def test_what_has_no_meaning_is_a_query_error(table: Table, call: Callable[[Table], Any]) -> None:
    with pytest.raises(QueryError):
        call(table)
    assert table.keys() == [] and table.rejects() == []  # and nothing was written


def test_a_table_deletes_only_its_own_objects() -> None:
    opened, _, data = database()
    table = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    data.put("other/1", b"{}")
    for change in (lambda: table.delete("other/1"), lambda: table.put({"s": "a"}, key="other/1")):
        with pytest.raises(BucketdexError, match="no key of table"):
            change()
    assert bytes(data.get("other/1").bytes()) == b"{}"


def test_a_measure_may_have_any_name(table: Table) -> None:
    table.put({"s": "a", "i": 1})
    assert table.aggregate(self="count()") == {"self": 1}
    assert table.group_by("s").aggregate(self="sum(i)") == [{"s": "a", "self": 1}]


def test_the_nearest_name_is_told(table: Table) -> None:
    with pytest.raises(QueryError, match=r'no field "nothing"; declared: s, i'):
        table.group_by("nothing").aggregate(n="count()")
    with pytest.raises(QueryError, match=r"Mars/X.*Europe/Berlin"):
        table.group_by('day(ts, "Mars/X")').aggregate(n="count()")
    with pytest.raises(QueryError, match=r"no view 'by_x'"):
        table.compact("by_x")


def test_a_scan_says_which_index_would_serve(table: Table) -> None:
    for ask in (lambda: table.distinct("first name"), lambda: table.where(**{"first name": "Ann"}).rows()):
        with pytest.raises(ScanRequiredError, match=r'by_first_name = \["first name"\](.|\n)*allow_scan'):
            ask()
    table.put({"first name": "Ann"})
    assert table.allow_scan().distinct("first name") == ["Ann"]
    assert table.where(col("first name") == "Ann").allow_scan().count() == 1


def test_groups_that_a_condition_drops_are_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, index, _ = database()
    table = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    for day in range(1, 29):  # every group's largest and least are taken away
        for value in (1, 5, 9):
            table.put({"s": "a", "d": value, "ts": f"2026-01-{day:02d}T00:00:00Z"}, key=f"w/{day}-{value}")
    for day in range(1, 29):
        table.delete(f"w/{day}-1")
        table.delete(f"w/{day}-9")
    table.compact()
    settled: list[object] = []
    settle = Snapshot.settle

    def settling(snapshot: Snapshot, fold: Any, group: tuple[Any, ...], state: list[Any]) -> None:
        settled.append(group)
        settle(snapshot, fold, group, state)

    monkeypatch.setattr(Snapshot, "settle", settling)
    one = Database(index).table("w").summary("by_s_day").where(ts_day="2026-01-17")
    assert one.rows() == [{"s": "a", "ts_day": "2026-01-17", "n": 1, "top": Decimal(5), "least": Decimal(5)}]
    assert settled == [("a", "2026-01-17")]
    assert [row["top"] for row in table.summary("by_s_day").where(col.ts_day > "2026-01-20")] == [Decimal(5)] * 8


def test_a_count_costs_one_round_trip_once_the_footers_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, index, data = database()
    table = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    data.put("w/a", b"\n".join(json.dumps({"i": i, "s": f"s{i % 7}"}).encode() for i in range(8_000)))
    table.reindex(["w/a"])
    table.compact(full=True)
    monkeypatch.setattr("bucketdex.views.loader.WHOLE_FILE_BYTES", 0)
    fresh = Database(index).table("w")
    assert fresh.where(i=17).count() == 1  # brings the footer
    warm = fresh.where(col.i.between(3_000, 6_999))
    assert warm.count() == 4_000 and warm.cost.rounds == 1 and warm.cost.requests <= 3
    many = fresh.where(i=list(range(0, 8_000, 500)))
    assert many.count() == 16 and many.cost.rounds == 1
    filtered = fresh.where(col.i.between(3_300, 3_310), s="s4")
    assert filtered.count() == len([i for i in range(3_300, 3_311) if i % 7 == 4])
    cold = Database(index).table("w").where(s=["s1", "s5"])
    assert cold.count() == len([i for i in range(8_000) if i % 7 in (1, 5)]) and cold.cost.rounds <= 3


def test_pages_end_where_their_index_changed_or_their_table_went() -> None:
    opened, _, data = database()
    table = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    data.put("w/a", b"\n".join(json.dumps({"i": i, "s": "a"}).encode() for i in range(9)))
    table.reindex(["w/a"])
    token, plain = table.where(s="a").page(3).next_token, table.query().page(3).next_token
    opened.create_table(TableDefinition.from_dict("w", PLAIN | {"indexes": PLAIN["indexes"] | {"by_s": ["s"]}}))
    with pytest.raises(SnapshotExpiredError):
        table.where(s="a").page(3, token)
    assert [row["i"] for row in table.query().page(3, plain).rows] == [3, 4, 5]
    opened.drop_table("w")
    again = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    with pytest.raises(SnapshotExpiredError):
        again.query().page(3, plain)


def test_an_index_of_a_newer_format_is_refused_everywhere() -> None:
    opened, index, _ = database()
    table = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    table.put({"s": "a"})
    manifest = msgspec.json.decode(bytes(index.get("tables/w/manifest.json").bytes()))
    index.put("tables/w/manifest.json", msgspec.json.encode(manifest | {"reader": 99}))
    fresh = Database(index, data=MemoryStore())
    calls: list[Callable[[], Any]] = [
        lambda: fresh.table("w"), fresh.tables, table.rows, table.status, lambda: table.reindex(["w/a"]), table.compact,
        lambda: fresh.drop_table("w"), lambda: fresh.create_table(TableDefinition.from_dict("w", PLAIN)),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(UpgradeRequiredError, match="upgrade"):
            call()


def test_sensitive_values_are_shown_by_nothing_but_rows(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, _, data = database()
    table = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    good = json.dumps({"secret": SECRET, "i": 1})
    bad = [good[:-1], json.dumps(SECRET), json.dumps([SECRET]), json.dumps({"secret": [SECRET]}), '"\\ud800"' + SECRET]
    data.put("w/a", "\n".join([good, *bad]).encode())
    table.reindex(["w/a"])
    assert table.where(secret=SECRET).count() == 1 and len(table.rejects()) == len(bad)
    shown = [repr(table.rejects()), repr(table.where(secret=SECRET)), str(table.where(secret=SECRET).explain())]
    shown.append(repr(table.where(col.secret.startswith(SECRET) | (col.i == 1)).explain()))
    wrong: list[dict[str, object]] = [
        {"secret": SECRET.encode()},
        {"secret": [SECRET.encode()]},
    ]
    for keywords in wrong:
        with pytest.raises(QueryError) as caught:
            table.where(**keywords).rows()
        shown.append(str(caught.value))
    session = Session(lambda _: opened)
    path = tmp_path / "a.ndjson"
    path.write_bytes(bytes(data.get("w/a").bytes()))
    commands = [
        ["rejects", "w", "--format", "json"],
        ["query", "w", "--where", f"secret in ({SECRET}", "--explain"],
        ["query", "w", "--where", f"secret = {SECRET}", "--explain"],
        ["query", "w", "--where", f"secret ~ {SECRET}"],
        ["check", str(path), "--table", "w", "--key", "w/a", "--format", "json"],
    ]
    for command in commands:
        main(command, started=session)
        printed = capsys.readouterr()
        shown.append(printed.out + printed.err)
        assert shown[-1].strip()
    assert not [text for text in shown if "bob" in text]


def test_the_command_line_reads_times_as_the_client_does(capsys: pytest.CaptureFixture[str]) -> None:
    opened, _, _ = database()
    table = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    table.put({"local": "2026-07-01T00:30:00"})  # in Berlin; 22:30 of the day before in UTC
    assert table.where(col.local >= "2026-07-01").count() == 1
    for condition, count in {"local >= 2026-07-01": 1, "local >= 2026-07-01T00:00:00Z": 0}.items():
        assert main(["query", "w", "--where", condition, "--count"], started=Session(lambda _: opened)) == 0
        assert capsys.readouterr().out == f"{count}\n"


def test_eight_threads_ask_while_commits_and_compactions_land() -> None:
    opened, index, data = database()
    writer = opened.create_table(TableDefinition.from_dict("w", PLAIN))

    def write(key: str, mark: int) -> None:
        body = [
            {"s": f"{key}", "i": i, "d": mark, "ts": "2026-01-01T00:00:00Z", "tags": ["x", str(i)]} for i in range(40)
        ]
        data.put(f"w/{key}", b"\n".join(json.dumps(row).encode() for row in body))
        writer.reindex([f"w/{key}"])

    for key in "abc":
        write(key, 0)
    shared, problems, done = Database(index, cache_bytes=100_000).table("w"), [], threading.Event()

    def ask(number: int) -> None:
        key = "abc"[number % 3]
        try:
            while not done.is_set():
                rows = shared.where(s=key).order_by("-i").rows()
                assert [row["i"] for row in rows] == list(range(39, -1, -1))
                assert len({row["d"] for row in rows}) == 1  # of one commit, never half of two
                assert shared.where(tags="x").count() == 120 and shared.where(s=key).count() == 40
                (group,) = shared.summary("by_s_day").where(s=key)
                assert group["n"] == 40 and group["top"] == group["least"]
                page = shared.where(s=key).page(30)
                assert len(shared.where(s=key).page(30, page.next_token).rows) == 10
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for mark in range(1, 9):
        write("abc"[mark % 3], mark)
        writer.compact(full=mark % 2 == 0)
    done.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert [row["d"] for row in shared.where(s="c").limit(1)] == [Decimal(8)]


def test_values_at_the_edges_come_back_as_they_went() -> None:
    opened, _, _ = database()
    table = opened.create_table(TableDefinition.from_dict("w", PLAIN))
    values: list[dict[str, Any]] = [
        {"i": 2**63 - 1, "s": "\U0010ffff", "d": Decimal("9" * 38)},
        {"i": -(2**63), "s": "\ud7ff", "d": Decimal("-1e38")},
        {"i": 0, "s": "a\x00\x01\x1f\u2028", "d": Decimal("1e-38")},
        {"i": 1, "s": "", "d": Decimal("-0.0")},
    ]
    for number, value in enumerate(values):
        key = table.put(value | {"ts": datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)}, key=f"w/é+ %😀/{number} b")
        row = table.get(key)
        assert {name: row[name] for name in value} == value
        assert table.where(s=value["s"]).keys() == table.where(i=value["i"]).keys() == [key]
        assert table.where(col.s.startswith(value["s"]), i=value["i"]).keys() == [key]
        assert table.where(_key=key).count() == 1
    assert [row["i"] for row in table.order_by("-i")] == [2**63 - 1, 1, 0, -(2**63)]
    assert [row["d"] for row in table.allow_scan().order_by("d")] == sorted(value["d"] for value in values)
    assert table.aggregate(total="sum(i)") == {"total": 0}
