"""What a user of the client relies on: rows, pages, costs, errors, over an index in memory."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from obstore.store import MemoryStore

from bucketdex import (
    Database,
    KeyMissingError,
    MultipleRecordsError,
    ObjectChangedError,
    QueryError,
    ScanRequiredError,
    SnapshotExpiredError,
    Table,
    TableDefinition,
    TableNotFoundError,
    col,
)
from bucketdex.errors import BucketdexError, ManagedByStackError, ViewBuildingError
from bucketdex.query.reader import WINDOW

COUNTRIES = ["DE", "FR", "US", None]
ORDERS = TableDefinition.from_dict(
    "orders",
    {
        "source": {"prefix": "orders/", "format": "ndjson"},
        "fields": {
            "id": "int",
            "country": "string",
            "amount": "decimal",
            "tags": {"type": "string", "path": "tags[]"},
            "created_at": "timestamp",
            "email": {"type": "string", "sensitive": True},
        },
        "indexes": {
            "by_id": ["id"],
            "by_country": ["country", "created_at"],
            "by_amount": ["amount"],
            "by_tag": ["tags", "created_at"],
            "by_email": ["email"],
        },
        "summaries": {
            "revenue": {
                "group_by": ["country", "day(created_at)"],
                "measures": {"orders": "count()", "revenue": "sum(amount)", "largest": "max(amount)", "kinds": "count_distinct(amount)"},
            }
        },
    },
)  # fmt: skip


def order(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "country": COUNTRIES[number % 4],
        "amount": str(Decimal(number % 50) / 4),
        "tags": ["a", "b", "a"][: number % 4],
        "created_at": f"2026-01-{number % 28 + 1:02d}T00:00:00Z",
        "email": f"user{number}@example.com",
        "note": f"not declared {number}",
    }


class Shop:
    """A table of 2,000 orders in 20 objects, half of them compacted."""

    def __init__(self) -> None:
        self.index, self.data = MemoryStore(), MemoryStore()
        self.database = Database(self.index, data=self.data)
        self.orders: Table = self.database.create_table(ORDERS)
        self.rows = [order(number) for number in range(2_000)]
        for half in (0, 10):
            keys = [f"orders/{i:02d}.ndjson" for i in range(half, half + 10)]
            for key, i in zip(keys, range(half, half + 10), strict=True):
                self.write(key, self.rows[i * 100 : i * 100 + 100])
            self.orders.reindex(keys)
            if not half:
                self.orders.compact()

    def write(self, key: str, rows: list[dict[str, Any]]) -> None:
        self.data.put(key, "\n".join(map(json.dumps, rows)).encode())


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture
def own_shop() -> Shop:
    return Shop()


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def test_rows_are_python_values(shop: Shop) -> None:
    row = shop.orders.where(id=5).first()
    assert row is not None and row.pop("_at")[0] > 0
    assert row == {
        "id": 5, "country": "FR", "amount": Decimal("1.25"), "tags": ["a"], "created_at": datetime(2026, 1, 6, tzinfo=UTC),
        "email": "user5@example.com", "_key": "orders/00.ndjson",
    }  # fmt: skip
    assert shop.orders.where(id=5).select("amount", "_key").rows() == [
        {"amount": Decimal("1.25"), "_key": "orders/00.ndjson"}
    ]
    assert shop.orders.where(id=-1).first() is None and shop.orders.where(id=5).limit(0).first() is None


def test_order_is_exactly_reversed(shop: Shop) -> None:
    for where in (shop.orders.where(country=["DE", "FR"]), shop.orders.where(country=None), shop.orders.query()):
        for field in ("country", "created_at", "_key", "amount"):
            query = where.allow_scan()
            forward = query.order_by(field).rows()
            assert len(forward) == query.count() and query.order_by(f"-{field}").rows() == forward[::-1]
    found = shop.orders.order_by("country", "created_at").allow_scan().rows()
    assert found[0]["country"] is None and found == sorted(
        found, key=lambda row: (row["country"] or "", row["created_at"], row["_key"], row["_at"])
    )
    assert shop.orders.order_by(col.country.desc()).limit(1).rows()[0]["country"] == "US"


def test_a_disjunction_gives_every_row_once(shop: Shop) -> None:
    where = (col.country == "DE") | (col.amount > 5) | (col.tags == "b")
    expected = [r["id"] for r in shop.rows if r["country"] == "DE" or Decimal(r["amount"]) > 5 or "b" in r["tags"]]
    query = shop.orders.where(where)
    assert sorted(ids(query.rows())) == expected and query.count() == len(expected)
    assert set(query.explain().views) == {"by_country", "by_amount", "by_tag"}
    ordered = query.order_by("-created_at").rows()
    assert sorted(ids(ordered)) == expected and ordered == query.order_by("created_at").rows()[::-1]
    pages, token = [], None
    while True:
        page = query.page(97, token)
        pages += page.rows
        token = page.next_token
        if token is None:
            break
    assert ids(pages) == ids(query.rows())


@pytest.mark.parametrize("order_by", [[], ["-created_at"], ["amount"], ["country"], ["-country", "amount"]])
@pytest.mark.parametrize("limit", [None, 60])
def test_pages_join_to_the_whole(shop: Shop, order_by: list[str], limit: int | None) -> None:
    query = shop.orders.where(country=["DE", "US"], tags=["a", "b"]).order_by(*order_by)
    query = query if limit is None else query.limit(limit)
    rows, token, pages = [], None, 0
    while pages == 0 or token is not None:
        page = query.page(25, token)
        rows += page.rows
        token, pages = page.next_token, pages + 1
    assert rows == query.rows() and pages == -(-len(rows) // 25)


def test_pages_stay_in_their_generation(own_shop: Shop) -> None:
    query = own_shop.orders.where(country="DE").order_by("created_at")
    before = query.rows()
    first = query.page(100)
    own_shop.write("orders/03.ndjson", [order(0)])
    own_shop.orders.reindex(["orders/03.ndjson"])
    own_shop.orders.compact(full=True)
    assert first.next_token is not None
    second = query.page(1_000, first.next_token)
    assert first.rows + second.rows == before != query.rows()


def test_tokens_of_another_query_and_nonsense_are_refused(shop: Shop) -> None:
    token = shop.orders.where(country="DE").page(2).next_token
    assert token is not None
    for query in (shop.orders.where(country="FR"), shop.orders.where(country="DE").order_by("id")):
        with pytest.raises(QueryError, match="another query"):
            query.page(2, token)
    for nonsense in ("", "x", "é", token[:-3], "A" * 200_000):
        with pytest.raises(QueryError, match="token"):
            shop.orders.where(country="DE").page(2, nonsense)
    for size in (0, -1, 10_001, True, "5"):
        with pytest.raises(QueryError, match="size"):
            shop.orders.query().page(size)  # type: ignore[arg-type]


def test_counts_of_key_ranges_read_only_their_ends(shop: Shop) -> None:
    database = Database(shop.index)
    query = database.table("orders").where(country="DE")
    assert query.count() == 500
    assert database.table("orders").where(col.country.is_not_null()).count() == 1_500
    assert database.table("orders").count() == 2_000
    assert database.table("orders").where(tags="a").count() == 1_500
    assert database.table("orders").where(tags=["a", "b"]).count() == 1_500
    assert database.table("orders").where(country="DE").limit(7).count() == 7


def test_a_warm_look_up_is_one_round_trip_and_a_cold_one_at_most_three(own_shop: Shop) -> None:
    own_shop.orders.compact(full=True)
    database = Database(own_shop.index)
    cold = database.table("orders").where(id=77)
    assert len(cold.rows()) == 1 and cold.cost.rounds <= 2  # table() has read the manifest
    warm = database.table("orders").where(id=1_234)
    assert len(warm.rows()) == 1
    assert warm.cost.rounds == 1 and warm.cost.requests <= 3 and warm.cost.bytes <= 64 * 1024
    again = database.table("orders").where(id=77)
    assert again.rows() == cold.rows() and (again.cost.requests, again.cost.rounds) == (1, 1)
    many = database.table("orders").where(country=["DE", "FR", "US"]).order_by("-created_at").limit(5)
    many.rows()
    assert many.cost.rounds <= 3


def test_many_ranges_are_read_in_few_round_trips(own_shop: Shop) -> None:
    own_shop.orders.compact(full=True)
    table = Database(own_shop.index).table("orders")
    wanted = list(range(0, 2_000, 25))
    query = table.where(id=wanted)
    assert ids(query.rows()) == wanted
    assert query.cost.rounds <= 2 + 2 * -(-len(wanted) // WINDOW)


def test_every_query_sees_the_newest_commit(own_shop: Shop) -> None:
    other = Database(own_shop.index).table("orders")
    assert other.where(id=5).count() == 1
    own_shop.orders.delete("orders/00.ndjson")
    assert other.where(id=5).count() == 0 and other.get("orders/00.ndjson") is None


def test_originals(own_shop: Shop) -> None:
    query = own_shop.orders.where(country="DE").order_by("-created_at").limit(30)
    assert query.records() == [own_shop.rows[number] for number in ids(query.rows())]
    assert query.cost.requests > 30
    with pytest.raises(BucketdexError, match="needs the data bucket"):
        Database(own_shop.index).table("orders").where(id=5).records()
    own_shop.write("orders/00.ndjson", [order(5)])
    with pytest.raises(ObjectChangedError, match="orders/00"):
        own_shop.orders.where(id=5).records()
    own_shop.data.delete("orders/01.ndjson")
    with pytest.raises(KeyMissingError, match="orders/01"):
        own_shop.orders.where(id=105).records()


def test_get_and_records(own_shop: Shop) -> None:
    own_shop.write("orders/one.ndjson", [order(7)])
    own_shop.orders.reindex(["orders/one.ndjson"])
    assert own_shop.orders.get("orders/one.ndjson")["id"] == 7
    assert own_shop.orders.get("orders/none", default=0) == 0 and own_shop.orders.get("orders/") is None
    assert ids(own_shop.orders.records("orders/01.ndjson")) == list(range(100, 200))
    assert own_shop.orders.records("orders/0") == []
    with pytest.raises(MultipleRecordsError):
        own_shop.orders.get("orders/01.ndjson")


def test_a_prefix_never_bleeds(own_shop: Shop) -> None:
    for city in ("city1", "city10", "city1/", "city1\x00", "city1\x01", "city"):
        own_shop.orders.put({"id": 1, "country": city, "created_at": "2026-01-01T00:00:00Z"})
    for city in ("city1", "city10", "city1\x00", "city"):
        assert [row["country"] for row in own_shop.orders.where(country=city)] == [city]
    assert len(own_shop.orders.where(col.country.startswith("city1")).rows()) == 5
    assert own_shop.orders.where(col.country.between("city1", "city1\x00")).count() == 2


def test_keys_distinct_and_groups(shop: Shop) -> None:
    assert sorted(shop.orders.where(country="DE").keys()) == [f"orders/{i:02d}.ndjson" for i in range(20)]
    assert shop.orders.where(country="DE").order_by("-id").limit(30).keys() == ["orders/19.ndjson", "orders/18.ndjson"]
    assert shop.orders.keys() == [f"orders/{i:02d}.ndjson" for i in range(20)]
    assert shop.orders.distinct("country") == [None, "DE", "FR", "US"]
    assert shop.orders.distinct("tags") == ["a", "b"] and len(shop.orders.distinct("id")) == 2_000
    assert shop.orders.where(country="DE").distinct("tags") == []
    assert shop.orders.distinct("amount") == sorted({Decimal(r["amount"]) for r in shop.rows})
    assert shop.orders.where(country="FR").distinct("created_at")[0] == datetime(2026, 1, 2, tzinfo=UTC)
    with pytest.raises(ScanRequiredError, match="created_at"):
        shop.orders.distinct("created_at")


def test_aggregates(shop: Shop) -> None:
    german = [Decimal(r["amount"]) for r in shop.rows if r["country"] == "DE"]
    totals = shop.orders.where(country="DE").aggregate(
        n="count()", total="sum(amount)", kinds="count_distinct(amount)", top="max(amount)"
    )
    assert totals == {"n": 500, "total": sum(german), "kinds": len(set(german)), "top": max(german)}
    assert shop.orders.where(country="XX").aggregate(n="count()", total="sum(amount)") == {"n": 0, "total": None}
    assert shop.orders.where(country="XX").group_by("country").aggregate(n="count()") == []
    months = shop.orders.where(country=["DE", "FR"]).group_by("country", "month(created_at)").aggregate(n="count()")
    assert months == [{"country": c, "created_at_month": "2026-01", "n": 500} for c in ("DE", "FR")]
    for wrong in ({}, {"n": "counts()"}, {"n": "sum(country)"}, {"country": "count()"}):
        with pytest.raises(QueryError):
            shop.orders.where(country="DE").group_by("country").aggregate(**wrong)
    with pytest.raises(QueryError, match="limit"):
        shop.orders.where(country="DE").limit(3).group_by("country").aggregate(n="count()")


def test_aggregates_come_from_a_summary_that_fits(shop: Shop) -> None:
    query = shop.orders.where(country="DE")
    grouped = query.group_by("country", "day(created_at)")
    measures = {"n": "count()", "total": "sum(amount)", "kinds": "count_distinct(amount)", "top": "max(amount)"}
    stored = grouped.aggregate(**measures)
    computed = query.where(col.id >= 0).group_by("country", "day(created_at)").aggregate(**measures)
    assert stored == computed and len(stored) == 7
    assert shop.orders.group_by("country", "day(created_at)").aggregate(n="count()")[0]["country"] is None
    with pytest.raises(ScanRequiredError):  # a condition on something else than its groups
        shop.orders.where(col.email.contains("x")).group_by("country", "day(created_at)").aggregate(n="count()")


def test_a_fitting_summary_saves_reading_the_rows(own_shop: Shop) -> None:
    own_shop.orders.compact(full=True)
    table = Database(own_shop.index).table("orders")
    stored = table.query()
    stored.group_by("country", "day(created_at)").aggregate(n="count()")
    computed = table.query()
    computed.group_by("country", "day(created_at)").aggregate(n="min(amount)")
    assert 0 < stored.cost.bytes < computed.cost.bytes / 4


def test_summaries(shop: Shop) -> None:
    revenue = shop.orders.summary("revenue")
    day = [r for r in shop.rows if r["country"] == "DE" and r["created_at"].startswith("2026-01-05")]
    amounts = [Decimal(r["amount"]) for r in day]
    expected = {
        "country": "DE",
        "created_at_day": "2026-01-05",
        "orders": len(day),
        "revenue": sum(amounts),
        "largest": max(amounts),
        "kinds": len(set(amounts)),
    }
    assert revenue.get(country="DE", created_at_day="2026-01-05") == expected
    assert revenue.get(country="DE", created_at_day=datetime(2026, 1, 5).date()) == expected
    assert revenue.get(country="XX", created_at_day="2026-01-05") is None
    assert [row["created_at_day"] for row in revenue.where(country="DE")] == [
        f"2026-01-{d:02d}" for d in range(1, 29, 4)
    ]
    assert revenue.where(created_at_day="2026-01-05").rows() == [expected]
    assert revenue.where(col.created_at_day > "2026-01-26", country=None).rows()[0]["country"] is None
    assert len(revenue.rows()) == 28
    for wrong in (
        lambda: revenue.get(country="DE"),
        lambda: revenue.where(amount=3).rows(),
        lambda: shop.orders.summary("revenu").rows(),
        lambda: revenue.where(created_at_day=5).rows(),
    ):
        with pytest.raises(QueryError):
            wrong()


def test_rejects_and_status(own_shop: Shop) -> None:
    own_shop.data.put("orders/bad.ndjson", b'{"id": 1}\n{"id": "x"}\nnot json\n')
    own_shop.orders.reindex(["orders/bad.ndjson"])
    rejects = own_shop.orders.rejects()
    assert [(r["_key"], r["line"], r["kind"]) for r in rejects] == [
        ("orders/bad.ndjson", 2, "record"),
        ("orders/bad.ndjson", 3, "record"),
    ]
    assert (
        rejects[0]["field"] == "id"
        and own_shop.orders.rejects("orders/bad.ndjson") == rejects
        and own_shop.orders.rejects("orders/00") == []
    )
    status = own_shop.orders.status()
    assert (status["objects"], status["rows"], status["rejects"]) == (21, 2_001, 2)
    assert status["generation"] > 2 and status["views"]["by_id"]["state"] == "ready" and status["live_deltas"] >= 1


def test_put_delete_and_wait(own_shop: Shop) -> None:
    key = own_shop.orders.put({"id": 9_999, "amount": Decimal("1.50"), "created_at": datetime(2026, 2, 1, tzinfo=UTC)})
    assert key.startswith("orders/") and own_shop.orders.get(key)["amount"] == Decimal("1.5")
    assert own_shop.orders.wait_for(key, timeout=0)["records"] == 1
    many = own_shop.orders.put_many([{"id": 1}, {"id": 2}], key="orders/two")
    assert ids(own_shop.orders.records(many)) == [1, 2]
    own_shop.orders.delete(key)
    assert own_shop.orders.get(key) is None
    with pytest.raises(BucketdexError, match="not indexed"):
        own_shop.orders.wait_for(key, timeout=0)
    with pytest.raises(BucketdexError, match="no key of table"):
        own_shop.orders.put({"id": 1}, key="elsewhere/1")


def test_tables(own_shop: Shop) -> None:
    database = own_shop.database
    assert database.tables() == ["orders"]
    for name in ("order", "nowhere"):
        with pytest.raises(TableNotFoundError, match=name):
            database.table(name)
    other = Database(own_shop.index)
    held = other.table("orders")
    database.drop_table("orders")
    with pytest.raises(TableNotFoundError):
        held.count()
    assert database.tables() == []
    assert database.create_table(ORDERS).count() == 0


def test_where_the_index_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUCKETDEX_INDEX", raising=False)
    with pytest.raises(BucketdexError, match="BUCKETDEX_INDEX"):
        Database()
    monkeypatch.setenv("BUCKETDEX_INDEX", "memory://")
    assert Database().tables() == []
    with pytest.raises(BucketdexError, match="no conditional update"):
        Database("file:///tmp/index")


def test_a_stack_says_where_its_buckets_are(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [{"OutputKey": "IndexBucketName", "OutputValue": "shop-index"}]

    class CloudFormation:
        def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
            if StackName != "Shop":
                raise ClientError({"Error": {"Code": "ValidationError", "Message": "no such stack"}}, "DescribeStacks")
            return {"Stacks": [{"Outputs": outputs}]}

    monkeypatch.setattr(boto3, "client", lambda service: CloudFormation())
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert "s3://shop-index" in repr(Database.from_stack("Shop"))
    with pytest.raises(BucketdexError, match="no such stack"):
        Database.from_stack("Shopp")
    outputs.clear()
    with pytest.raises(BucketdexError, match="IndexBucketName"):
        Database.from_stack("Shop")


def test_keys_come_from_the_template(own_shop: Shop) -> None:
    plain = {
        "source": {"key": "by/{region}/{id}.json", "format": "json"},
        "fields": {"id": "int", "region": {"type": "string", "from": "key"}},
    }
    table = own_shop.database.create_table(TableDefinition.from_dict("by", plain))
    assert table.put({"id": 7, "region": "eu"}) == "by/eu/7.json"
    assert table.get("by/eu/7.json") == {"id": 7, "region": "eu", "_key": "by/eu/7.json"}
    for record in ({"id": 7}, {"id": 7, "region": "a/b"}, {"id": 7, "region": ""}):
        with pytest.raises(QueryError, match="key"):
            table.put(record)
    with pytest.raises(QueryError, match="records"):
        table.put_many([{"id": 1, "region": "eu"}, {"id": 2, "region": "eu"}])


def test_a_new_index_is_built_or_refused_until_it_is(own_shop: Shop) -> None:
    plain = ORDERS.to_dict()
    plain["indexes"] |= {"by_day": ["created_at", "id"]}
    defined = TableDefinition.from_dict("orders", plain)
    own_shop.database._context.engine.define(defined)
    with pytest.raises(ViewBuildingError, match="by_day"):
        own_shop.orders.order_by("created_at").rows()
    assert own_shop.orders.where(id=3).count() == 1
    table = own_shop.database.create_table(defined)
    assert ids(table.order_by("created_at", "id").limit(2).rows()) == [0, 28]


def test_a_table_of_a_stack_is_left_to_it(own_shop: Shop) -> None:
    engine = own_shop.database._context.engine
    managed = TableDefinition.from_dict(
        "managed", ORDERS.to_dict() | {"source": {"prefix": "managed/", "format": "ndjson"}}
    )
    engine.define(managed, managed_by="Shop")
    for change in (lambda: own_shop.database.create_table(managed), lambda: own_shop.database.drop_table("managed")):
        with pytest.raises(ManagedByStackError):
            change()
    key = own_shop.database.table("managed").put({"id": 1})
    assert own_shop.database.table("managed").get(key) is None  # its stack indexes it


def test_vanished_files_are_looked_for_again_then_reported(own_shop: Shop) -> None:
    own_shop.orders.compact(full=True)
    table = Database(own_shop.index).table("orders")
    views = [meta["path"] for batch in own_shop.index.list("tables/orders/views/") for meta in batch]
    own_shop.index.delete(views)
    with pytest.raises(SnapshotExpiredError):
        table.where(id=5).rows()
    with pytest.raises(SnapshotExpiredError):
        table.where(country="DE").count()


def test_threads_share_a_database(own_shop: Shop) -> None:
    table, problems = Database(own_shop.index, data=own_shop.data, cache_bytes=200_000).table("orders"), []

    def work(number: int) -> None:
        try:
            for i in range(15):
                wanted = (number * 131 + i * 17) % 1_000
                assert ids(table.where(id=wanted).rows()) == [wanted]
                assert table.where(country="FR").order_by("-created_at").limit(3).rows()[0]["country"] == "FR"
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for i in range(5):
        own_shop.write("orders/19.ndjson", [order(1_900 + i)])
        own_shop.orders.reindex(["orders/19.ndjson"])
        own_shop.orders.compact()
    for thread in threads:
        thread.join()
    assert not problems


def test_queries_are_values_and_hide_their_conditions(shop: Shop) -> None:
    base = shop.orders.where(country="DE")
    base.where(id=5).rows()
    assert base.count() == 500 and base.cost.requests > 0
    query = shop.orders.where(email="user5@example.com")
    assert "user5" not in repr(query) + str(query.explain()) and query.count() == 1
    for limit in (-1, True, 1.5, "3"):
        with pytest.raises(QueryError, match="limit"):
            base.limit(limit)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="amout"):
        shop.orders.where(country="DE").select("amout").rows()
    with pytest.raises(QueryError, match="many values"):
        shop.orders.where(country="DE").order_by("tags").rows()
