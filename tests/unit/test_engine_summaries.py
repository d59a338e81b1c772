"""Summaries against plain Python over the same records: extremes that come and go, partial and interrupted merges, two compactors."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from enginekit import TINY, TestRuntime, interrupted, read_in_blocks

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event
from bucketdex.storage import open_data_store, open_index_store
from bucketdex.views import BlockCache, Snapshot

FIELDS = {"d": "decimal", "f": "float", "i": "int", "s": "string", "t": "timestamp", "b": "bool"}
MEASURES = {
    "n": "count()", "nd": "count(d)", "sd": "sum(d)", "sf": "sum(f)", "si": "sum(i)", "ai": "avg(i)", "vf": "var(f)",
    **{f"least_{f}": f"min({f})" for f in FIELDS}, **{f"most_{f}": f"max({f})" for f in FIELDS},
    **{f"kinds_{f}": f"count_distinct({f})" for f in ("d", "f", "s")},
}  # fmt: skip
DEFINITION = TableDefinition.from_dict(
    "t",
    {
        "source": {"prefix": "o/", "format": "json"},
        "fields": {"g": "string", **FIELDS},
        "summaries": {"by_g": {"group_by": ["g"], "measures": MEASURES}},
    },
)
DECIMALS = ["1", "-1", "2", "99999999999999999999999999999999999999", "-99999999999999999999999999999999999999",
            "0.00000000000000000000000000000000000001", "1e38", None]  # fmt: skip
FLOATS = [0.1, 0.2, -0.3, 1e308, -1e308, 5e-324, 2.0**60, 0.0, None]


def record(r: random.Random) -> dict[str, Any]:
    return {
        "g": r.choice(["a", "a\x01", "ab", None]),
        "d": r.choice(DECIMALS),
        "f": r.choice(FLOATS),
        "i": r.choice([-(2**63), 2**63 - 1, 0, 1, None]),
        "s": r.choice(["", "x", "x\x00", "\x01", "xx", "\u00e9", None]),
        "t": r.choice(["2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z", None]),
        "b": r.choice([True, False, None]),
    }


def oracle(bucket: dict[str, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    groups = defaultdict(list)
    for row in bucket.values():
        groups[row["g"]].append(row)
    out = {}
    for group, rows in groups.items():
        made: dict[str, Any] = {"n": len(rows)}
        values = {f: [row[f] for row in rows if row[f] is not None] for f in FIELDS}
        values["d"] = [Decimal(v) for v in values["d"]]
        made["nd"] = len(values["d"])
        with localcontext() as context:
            context.prec = 200
            made["sd"] = sum(values["d"]) if values["d"] else None
        exact = [Fraction(v) for v in values["f"]]
        made["sf"] = rounded(sum(exact)) if exact else None
        made["si"] = sum(values["i"]) if values["i"] else None
        made["ai"] = float(Fraction(sum(values["i"]), len(values["i"]))) if values["i"] else None
        if len(exact) > 1:
            mean = sum(exact) / len(exact)
            made["vf"] = rounded(sum((v - mean) ** 2 for v in exact) / (len(exact) - 1))
        else:
            made["vf"] = None
        for field, found in values.items():
            made[f"least_{field}"] = min(found, default=None)
            made[f"most_{field}"] = max(found, default=None)
        for field in ("d", "f", "s"):
            made[f"kinds_{field}"] = len(set(values[field]))
        out[group] = made
    return out


def rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")


def held(index: Any, engine: Engine) -> dict[Any, dict[str, Any]]:
    snapshot = Snapshot(index, engine.load("t").manifest, DEFINITION, BlockCache())
    out = {}
    for row in snapshot.summary_rows("by_g", None, None):
        for name in ("least_t", "most_t"):
            row[name] = row[name] and row[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        out[row.pop("g")] = row
    return out


@pytest.mark.parametrize("seed", range(4))
def test_summaries_equal_plain_python(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        read_in_blocks(monkeypatch)
    r = random.Random(seed)
    index, data = open_index_store("memory://"), open_data_store("memory://")
    bounds = msgspec.structs.replace(TINY, step_rows=1, block_bytes=64, merge_blocks=1, delta_rows_max=r.choice([0, 6]))
    engine, other = (Engine(index, data, TestRuntime(seed + i), settings=bounds) for i in (0, 50))
    engine.define(DEFINITION)
    views = [name for name in engine.load("t").manifest.views if name.startswith("by_g")]
    bucket: dict[str, dict[str, Any]] = {}
    for step in range(28):
        keys = [f"o/{r.randrange(9)}" for _ in range(r.randrange(1, 4))]
        for key in keys:
            if r.random() < 0.45:
                bucket.pop(key, None)
                data.delete_many([key])
            else:
                bucket[key] = record(r)
                data.put(key, json.dumps(bucket[key]).encode())
        r.choice([engine, other]).apply("t", [Event(key) for key in keys])
        if r.random() < 0.6:
            which, mode = r.sample(views, r.randrange(1, 4)), r.choice(["tidy", "full", "full", "tiered"])
            for name in which:
                r.choice([engine, other]).compact("t", name, mode=mode, in_time=interrupted(r.choice([1, 2, 3, 99])))
        if step % 4 == 3:
            assert held(index, engine) == oracle(bucket)
    engine.compact("t", mode="full")
    assert held(index, engine) == oracle(bucket)


def test_runs_that_retract_what_only_a_delta_holds_are_no_whole_view() -> None:
    """A merge of all runs must not take the deltas beside them for folded: a group may seem empty, or settled."""
    index, data = open_index_store("memory://"), open_data_store("memory://")
    bounds = msgspec.structs.replace(TINY, delta_rows_max=6, flush_rows=100, tier_runs=2, tier_factor=100)
    engine = Engine(index, data, TestRuntime(), settings=bounds)
    engine.define(DEFINITION)
    bucket: dict[str, dict[str, Any]] = {}

    def commit(**rows: dict[str, Any] | None) -> None:
        for name, row in rows.items():
            if row is None:
                bucket.pop(f"o/{name}")
                data.delete_many([f"o/{name}"])
            else:
                bucket[f"o/{name}"] = row
                data.put(f"o/{name}", json.dumps(row).encode())
        engine.apply("t", [Event(f"o/{name}") for name in rows])

    r = random.Random(1)
    commit(a={**record(r), "g": "a", "i": 1}, **{f"x{i}": {**record(r), "g": "ab"} for i in range(4)})
    commit(b={**record(r), "g": "a", "i": 0})
    commit(b=None, **{f"y{i}": {**record(r), "g": "ab"} for i in range(4)})
    manifest = engine.load("t").manifest
    assert (len(manifest.deltas), len(manifest.views["by_g"].runs)) == (1, 2)
    assert engine.compact("t", "by_g", mode="tiered") == 1
    assert len(engine.load("t").manifest.views["by_g"].runs) == 1
    assert held(index, engine) == oracle(bucket)
