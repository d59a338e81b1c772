"""The same questions, answered by reading every file: plain Python, nothing of Bucketdex."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from objects import Objects

NEW_YORK = ZoneInfo("America/New_York")
INTEGERS = ("flight", "dep_delay", "arr_delay", "air_time", "distance")
TEXTS = ("carrier", "tailnum", "dest")

Row = dict[str, Any]


def rows(objects: Objects) -> Iterator[Row]:
    """Every flight of every object, with the names and types that the tables declare."""
    for key, body in objects.items():
        origin = key.split("/")[1]
        lines = body.decode().splitlines()
        found = csv.DictReader(lines) if key.endswith(".csv") else map(json.loads, lines)
        for flight in found:
            yield {"origin": origin, "_key": key, **_typed(flight)}


def _typed(flight: dict[str, Any]) -> Row:
    present = {name: None if value in ("", "NA") else value for name, value in flight.items()}
    whole = {name: None if present[name] is None else int(present[name]) for name in INTEGERS}
    return {"time": datetime.fromisoformat(flight["time_hour"]), **whole, **{name: present[name] for name in TEXTS}}


def monthly(flights: list[Row], carrier: str, month: str) -> Row:
    """The summary of one carrier and month of New York's calendar."""
    mine = [
        row
        for row in flights
        if row["carrier"] == carrier and row["time"].astimezone(NEW_YORK).strftime("%Y-%m") == month
    ]
    delays = [row["dep_delay"] for row in mine if row["dep_delay"] is not None]
    return {
        "carrier": carrier,
        "time_month": month,
        "flights": len(mine),
        "departed": len(delays),
        "miles": sum(row["distance"] for row in mine),
        "mean_delay": float(Fraction(sum(delays), len(delays))),
        "worst": max(delays),
        "best": min(delays),
        "planes": len({row["tailnum"] for row in mine if row["tailnum"] is not None}),
    }
