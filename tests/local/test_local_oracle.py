"""Random changes through the pipeline, then random queries: every answer is that of DuckDB over the same objects."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bucketdex import col
from tests.local.conftest import Pipeline

COUNTRIES = ["O1", "O2", "O3", "O4", None]  # no other test uses these
CUSTOMERS = [f"customer-{number}" for number in range(12)]
OPERATORS = ("==", "!=", "<", "<=", ">", ">=")


def record(rng: random.Random, number: int) -> dict[str, Any]:
    return {
        "id": f"oracle-{number}",
        "customer": {"id": rng.choice(CUSTOMERS)},
        "country": rng.choice(COUNTRIES),
        "amount": str(Decimal(rng.randrange(-500, 5000)) / 100) if rng.random() < 0.9 else None,
        "quantity": rng.randrange(0, 50),
        "created_at": f"2026-0{rng.randrange(1, 9)}-1{rng.randrange(0, 9)}T08:00:00Z",
    }


@pytest.fixture(scope="module")
def oracle(pipeline: Pipeline) -> duckdb.DuckDBPyConnection:
    """Objects after two rounds of overwrites, deletions and additions, in the pipeline and in DuckDB."""
    rng = random.Random(20260101)
    objects: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for keys in (range(60), range(40, 90), range(20, 70)):
        for key in (f"orders/oracle/{name:03}.ndjson" for name in keys):
            if key in objects and rng.random() < 0.4:
                del objects[key]
                pipeline.delete(key)
                continue
            objects[key] = [record(rng, number + offset) for offset in range(rng.randrange(0, 30))]
            number += len(objects[key])
            pipeline.put(key, *objects[key])
        pipeline.settle()
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE orders (id VARCHAR, customer VARCHAR, country VARCHAR, amount DECIMAL(18,2), quantity BIGINT,"
        " created_at TIMESTAMP, key VARCHAR)"
    )
    rows = [
        (row["id"], row["customer"]["id"], row["country"], row["amount"], row["quantity"], row["created_at"], key)
        for key, its in objects.items()
        for row in its
    ]
    connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    assert len(rows) > 500
    return connection


@given(
    country=st.sampled_from(COUNTRIES),
    operator=st.sampled_from(OPERATORS),
    bound=st.decimals(-6, 51, places=2),
    customer=st.sampled_from([None, *CUSTOMERS]),
    descending=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_queries_answer_as_duckdb_does(
    pipeline: Pipeline,
    oracle: duckdb.DuckDBPyConnection,
    country: str | None,
    operator: str,
    bound: Decimal,
    customer: str | None,
    descending: bool,
) -> None:
    compared = {
        "==": col.amount == bound, "!=": col.amount != bound, "<": col.amount < bound,
        "<=": col.amount <= bound, ">": col.amount > bound, ">=": col.amount >= bound,
    }[operator]  # fmt: skip
    query = pipeline.database.table("orders").where(compared & col.id.startswith("oracle-"), country=country)
    sql = f"SELECT id FROM orders WHERE amount {operator.replace('==', '=')} ? AND country IS NOT DISTINCT FROM ?"
    values: list[Any] = [bound, country]
    if customer is not None:
        query = query.where(customer=customer)
        sql += " AND customer = ?"
        values.append(customer)
    expected = sorted(name for (name,) in oracle.execute(sql, values).fetchall())
    assert sorted(row["id"] for row in query.rows()) == expected
    assert query.count() == len(expected)
    amounts = [row["amount"] for row in query.order_by("-amount" if descending else "amount").rows()]
    assert amounts == sorted(amounts, reverse=descending)


def test_summaries_equal_a_recomputation(pipeline: Pipeline, oracle: duckdb.DuckDBPyConnection) -> None:
    """Over the countries that are this module's own."""
    revenue = pipeline.database.table("orders").summary("revenue")
    found = oracle.execute(
        "SELECT country, count(*), sum(amount), max(amount), min(amount), count(DISTINCT customer) FROM orders"
        " WHERE country IS NOT NULL GROUP BY country"
    ).fetchall()
    assert len(found) == len(COUNTRIES) - 1
    status = pipeline.database.table("orders").status()
    wrong = []
    for country, orders, total, largest, smallest, customers in found:
        expected = {
            "country": country, "orders": orders, "revenue": total, "largest": largest, "smallest": smallest,
            "customers": customers,
        }  # fmt: skip
        if (answer := revenue.get(country=country)) != expected:
            wrong.append((expected, answer, pipeline.database.table("orders").where(country=country).count()))
    assert wrong == [], status


def test_records_are_the_originals(pipeline: Pipeline, oracle: duckdb.DuckDBPyConnection) -> None:
    row = oracle.execute("SELECT id, key FROM orders ORDER BY id LIMIT 1").fetchone()
    assert row is not None
    (original,) = pipeline.database.table("orders").where(id=row[0]).records()
    body = pipeline.s3.get_object(Bucket=pipeline.bucket, Key=row[1])["Body"].read()
    assert original in [json.loads(line) for line in body.splitlines()]
