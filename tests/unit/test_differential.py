"""Random queries against DuckDB over the same records, while objects are overwritten, deleted and compacted."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest
from obstore.store import MemoryStore

from bucketdex import Database, Query, Table, TableDefinition, col
from bucketdex.query.expression import Column, Expression

SEED = 20260102
OBJECTS, ROWS_PER_OBJECT = 2_000, 26
QUERIES_MIN = 2_000
GROUPS = 400
NEVER = "rows/never"
FLOAT_UNITS = 2**1074  # in one; every float is a whole number of them
Row = dict[str, Any]
Place = tuple[str, int]

# Of each type one column with nulls (or, of many values, without any) and one without: those that end with 0.
TYPES = {
    "s": "string", "s0": "string", "i": "int", "i0": "int", "f": "float", "f0": "float", "d": "decimal", "d0": "decimal",
    "b": "bool", "b0": "bool", "ts": "timestamp", "ts0": "timestamp", "dt": "date", "dt0": "date",
    "tags": "string[]", "tags0": "string[]", "nums": "int[]", "nums0": "int[]",
}  # fmt: skip
SQL_TYPES = {
    "string": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "decimal": "DECIMAL(18,3)", "bool": "BOOLEAN",
    "timestamp": "TIMESTAMP", "date": "DATE", "string[]": "VARCHAR[]", "int[]": "BIGINT[]",
}  # fmt: skip
WORDS = [
    "",
    "a",
    "aa",
    "ab",
    "a%b",
    "a_b",
    "a\x00",
    "a\x01b",
    "B",
    "b",
    "ba",
    "Zoë",
    "zoe",
    "é",
    "日本",
    "\U0001f600x",
    "a b",
    'q"t',
    "tab\t",
    "%",
    "_",
    "x\\y",
]
COMPARISONS = ["==", "!=", "<", "<=", ">", ">=", "in_", "not_in", "between", "is_null", "is_not_null"]
TEXT_OPERATORS = ["like", "startswith", "contains", "regexp_match"]
LIKES = ["%", "a%", "%b", "%a%b%", "_", "a_", "__%", "a!%b", "!_", "%!%%", "", "ab", "%ë", "é", "_ _", "%a%a%"]
PATTERNS = ["^a", "b$", "a.b", "[A-Z]", "^$", "a|é", "\\d", "(ab)+", "z.e", "x"]
DEFINITION = TableDefinition.from_dict(
    "rows",
    {
        "source": {"prefix": "rows/", "format": "ndjson"},
        "fields": {"grp": "int"} | {
            name: {"type": kind.removesuffix("[]"), "path": f"{name}[]"} if kind.endswith("[]") else kind
            for name, kind in TYPES.items()
        },
        "indexes": {
            "by_grp": ["grp", "ts0"], "by_s": ["s", "i0"], "by_s0": ["s0", "b", "ts"], "by_i": ["i"], "by_f": ["f", "s"],
            "by_d": ["d", "dt"], "by_b": ["b", "d0"], "by_ts": ["ts", "s0"], "by_dt": ["dt"], "by_tags": ["tags", "ts"],
            "by_grp_nums": ["grp", "nums", "i"], "by_i0": ["i0", "d"],
        },
        "summaries": {
            "by_word": {
                "group_by": ["s", "month(ts)"],
                "measures": {
                    "n": "count()", "n_i": "count(i)", "total": "sum(d)", "mean": "avg(f)", "low": "min(d)", "high": "max(ts)",
                    "kinds": "count_distinct(s0)", "spread": "stddev(i)", "sum_f": "sum(f)",
                },
            },
        },
    },
)  # fmt: skip


@dataclass
class World:
    """The table, the oracle, and what both should hold."""

    table: Table
    data: MemoryStore
    oracle: duckdb.DuckDBPyConnection
    folder: Path
    rng: random.Random
    values: Values
    rows: dict[Place, Row] = field(default_factory=dict)
    by_key: dict[str, list[Place]] = field(default_factory=dict)
    batches: int = 0

    def write(self, keys: list[str], deleted: list[str] = ()) -> None:  # type: ignore[assignment]
        """Puts new contents under keys, deletes others, applies all of it, and tells the oracle."""
        lines = []
        for key in [*keys, *deleted]:
            for place in self.by_key.pop(key, []):
                del self.rows[place]
        for key in keys:
            body = b""
            places = []
            for _ in range(self.rng.randint(1, 2 * ROWS_PER_OBJECT - 1)):
                plain, row = self.values.row(self.rng)
                line = json.dumps(plain).encode()
                place = (key, len(body))
                self.rows[place] = {"_key": key, "_at": (len(body), len(line))} | row
                lines.append(json.dumps({"k": key, "pos": len(body)} | plain))
                places.append(place)
                body += line + b"\n"
            self.by_key[key] = places
            self.data.put(key, body)
        self.data.delete([key for key in deleted if key != NEVER])
        self.table.reindex([*keys, *deleted])
        self.oracle.execute("DELETE FROM oracle WHERE k IN (SELECT unnest(?))", [[*keys, *deleted]])
        self.batches += 1
        path = self.folder / f"{self.batches}.ndjson"
        path.write_text("\n".join(lines))
        types = {"k": "VARCHAR", "pos": "BIGINT", "grp": "BIGINT"} | {
            name: SQL_TYPES[kind] for name, kind in TYPES.items()
        }
        if lines:
            self.oracle.execute(
                f"INSERT INTO oracle SELECT * FROM read_ndjson('{path}', columns = {{{', '.join(f'{n}: {t!r}' for n, t in types.items())}}})"
            )


class Values:
    """Values of every column, drawn beforehand: as the source has them, and as a user should get them."""

    def __init__(self, rng: random.Random) -> None:
        self.pools: dict[str, list[tuple[Any, Any]]] = {"grp": [(number, number) for number in range(GROUPS)]}
        for name, kind in TYPES.items():
            pool = [self.drawn(rng, name, kind) for _ in range(600)]
            if not name.endswith("0") and not kind.endswith("[]"):
                pool += [(None, None)] * 100
            self.pools[name] = pool

    def drawn(self, rng: random.Random, name: str, kind: str) -> tuple[Any, Any]:
        if kind.endswith("[]"):
            sizes = [1, 1, 2, 3] if name.endswith("0") else [0, 1, 1, 2, 3]
            plain = [random_value(rng, kind) for _ in range(rng.choice(sizes))]
            return plain, list(dict.fromkeys(plain))
        value = random_value(rng, kind)
        if isinstance(value, Decimal):
            return str(value), value
        return (value.isoformat() if isinstance(value, date) else value), value

    def row(self, rng: random.Random) -> tuple[Row, Row]:
        """A record, and its row."""
        drawn = {name: rng.choice(pool) for name, pool in self.pools.items()}
        return {name: plain for name, (plain, _) in drawn.items()}, {name: value for name, (_, value) in drawn.items()}


def random_value(rng: random.Random, kind: str) -> Any:
    """A value as Python has it; few enough that equal ones are common."""
    match kind.removesuffix("[]"):
        case "string":
            return rng.choice(WORDS) + rng.choice(["", "", "", "1", "~"])
        case "int":
            return rng.choice([rng.randint(-20, 20), rng.randint(-20, 20), 2**63 - 1, -(2**63), 0])
        case "float":
            return rng.choice([rng.randint(-50, 50) / 8, rng.uniform(-1, 1), 0.0, 1e300, -5e-324, 0.1])
        case "decimal":
            return Decimal(rng.randint(-30_000, 30_000)) / rng.choice([1, 10, 100, 1000])
        case "bool":
            return rng.random() < 0.5
        case "timestamp":
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(
                hours=rng.randrange(24 * 90), microseconds=rng.choice([0, 1, 999_999])
            )
        case _:
            return date(2026, 1, 1) + timedelta(days=rng.randrange(120))


@dataclass(frozen=True)
class Asked:
    """One condition as ours and as SQL."""

    ours: Expression
    sql: str


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        parts = value.split("\x00")
        return "(" + " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in parts) + ")"
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.replace(tzinfo=None).isoformat(' ')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, float):
        return f"CAST('{value!r}' AS DOUBLE)"
    return f"({value})"


def leaf(rng: random.Random, name: str, operator: str) -> Asked:
    kind = TYPES[name]
    column, many = col(name), kind.endswith("[]")
    if operator in ("is_null", "is_not_null"):
        empty = f"len(coalesce({name}, [])) = 0" if many else f"{name} IS NULL"
        return Asked(getattr(column, operator)(), empty if operator == "is_null" else f"NOT ({empty})")
    negative = operator in ("!=", "not_in")
    ours, test = comparison(rng, column, kind, {"!=": "==", "not_in": "in_"}.get(operator, operator), operator)
    sql = test("v") if many else test(name)
    if many:
        sql = f"list_aggregate(list_transform(coalesce({name}, []), lambda v: {sql}), 'bool_or')"
    return Asked(ours, f"NOT ({sql})" if negative else sql)


def comparison(rng: random.Random, column: Column, kind: str, positive: str, operator: str) -> tuple[Expression, Any]:
    def value() -> Any:
        return random_value(rng, kind)

    if positive == "in_":
        values = [value() for _ in range(rng.choice([1, 2, 3, 5]))]
        return getattr(column, operator)(values), lambda v: f"{v} IN ({', '.join(map(literal, values))})"
    if positive == "between":
        low, high = value(), value()
        if rng.random() < 0.8:
            low, high = sorted([low, high])
        return column.between(low, high), lambda v: f"{v} BETWEEN {literal(low)} AND {literal(high)}"
    if positive == "like":
        pattern = rng.choice(LIKES)
        return column.like(pattern, escape="!"), lambda v: f"{v} LIKE {literal(pattern)} ESCAPE '!'"
    if positive in ("startswith", "contains"):
        text = rng.choice(WORDS)
        function = {"startswith": "starts_with", "contains": "contains"}[positive]
        return getattr(column, positive)(text), lambda v: f"{function}({v}, {literal(text)})"
    if positive == "regexp_match":
        pattern = rng.choice(PATTERNS)
        return column.regexp_match(pattern), lambda v: f"regexp_matches({v}, {literal(pattern)})"
    one = value()
    sign = "=" if positive == "==" else positive
    compare = {"==": "__eq__", "!=": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}[operator]
    return getattr(column, compare)(one), lambda v: f"{v} {sign} {literal(one)}"


def group_leaf(rng: random.Random) -> Asked:
    groups = sorted(rng.sample(range(GROUPS), rng.choice([1, 1, 2, 4])))
    return Asked(col.grp.in_(groups), f"grp IN ({', '.join(map(str, groups))})")


def any_leaf(rng: random.Random) -> Asked:
    name = rng.choice(list(TYPES))
    operators = COMPARISONS + TEXT_OPERATORS * TYPES[name].startswith("string")
    return leaf(rng, name, rng.choice(operators))


def combined(rng: random.Random, first: Asked) -> Asked:
    """The condition drawn, within a random one around it."""
    result = first
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        other = any_leaf(rng)
        match rng.randrange(3):
            case 0:
                result = Asked(result.ours & other.ours, f"({result.sql}) AND ({other.sql})")
            case 1:
                result = Asked(result.ours | other.ours, f"({result.sql}) OR ({other.sql})")
            case _:
                result = Asked(~result.ours, f"NOT ({result.sql})")
    narrow = rng.random()
    if narrow < 0.95:
        group = group_leaf(rng)
        return Asked(result.ours & group.ours, f"({result.sql}) AND ({group.sql})")
    if narrow < 0.98:
        one, two = group_leaf(rng), leaf(rng, "i", "==")
        return Asked(
            (result.ours & one.ours) | (two.ours & ~one.ours),
            f"(({result.sql}) AND {one.sql}) OR (({two.sql}) AND NOT ({one.sql}))",
        )
    return result


def cells() -> list[tuple[str, str, bool, str]]:
    """(operator, column, with nulls, order) of everything that has to be drawn."""
    return [
        (operator, name, not name.endswith("0"), order)
        for name, kind in TYPES.items()
        for operator in COMPARISONS + TEXT_OPERATORS * kind.startswith("string")
        for order in ("none", "ascending", "descending")
    ]


def random_order(rng: random.Random, direction: str, near: str) -> list[str]:
    if direction == "none":
        return []
    single = [name for name, kind in TYPES.items() if not kind.endswith("[]")]
    first = near if near in single and rng.random() < 0.4 else rng.choice([*single, "ts0", "_key", "grp"])
    names = list(dict.fromkeys([first, *rng.sample(single, rng.choice([0, 0, 1, 2]))]))
    signs = [direction == "descending"] + [
        rng.random() < 0.5 if rng.random() < 0.3 else direction == "descending" for _ in names[1:]
    ]
    return ["-" * sign + name for name, sign in zip(names, signs, strict=True)]


def order_sql(order: list[str]) -> str:
    terms = []
    for name in [*order, *("-" * order[-1].startswith("-") + tie for tie in ("_key", "_at"))]:
        plain = {"_key": "k", "_at": "pos"}.get(name.removeprefix("-"), name.removeprefix("-"))
        terms.append(f"{plain} {'DESC NULLS LAST' if name.startswith('-') else 'ASC NULLS FIRST'}")
    return ", ".join(terms)


def place(row: Row) -> Place:
    return row["_key"], row["_at"][0]


def check(world: World, asked: Asked, order: list[str]) -> None:
    """One query, run in one of the ways there are, must give what the oracle gives."""
    rng = world.rng
    query = world.table.where(asked.ours).allow_scan()
    (total,) = world.oracle.execute(f"SELECT count(*) FROM oracle WHERE {asked.sql}").fetchone() or (0,)
    large = total > 500
    limit = rng.choice([1, 7, 40]) if large else rng.choice([None, None, 1, 7])
    how = rng.choice(["rows", "rows", "page", "count"] if large else ["rows", "page", "keys", "count"])

    def context() -> object:
        return asked.sql, order, limit, how, str(query.explain())

    if how == "count":
        assert query.count() == total, context()
        return
    if order:
        query = query.order_by(*order)
    if limit is not None:
        query = query.limit(limit)
    count = total if limit is None else min(limit, total)
    if how == "keys":
        sql = f"SELECT k, pos FROM oracle WHERE {asked.sql}" + (
            f" ORDER BY {order_sql(order)} LIMIT {count}" if order else ""
        )
        keys = list(dict.fromkeys(key for key, _ in world.oracle.execute(sql).fetchall()))
        given = query.keys()
        assert given == keys if order else set(given) <= set(keys), context()
        assert order or limit is not None or len(given) == len(keys), context()
        return
    sql = f"SELECT k, pos FROM oracle WHERE ({asked.sql})"
    if order:
        sql += f" ORDER BY {order_sql(order)} LIMIT {count}"
    expected = None if large and not order else world.oracle.execute(sql).fetchall()
    before = world.rows.copy() if how == "page" else world.rows
    rows = pages(world, query, count, changing=expected is not None) if how == "page" else query.rows()
    places = [place(row) for row in rows]
    if order:
        assert places == expected, context()
    else:
        assert len(places) == len(set(places)) == count, context()
        if expected is None:  # too many to fetch: those that were found must be among them
            found = ", ".join(f"({literal(key)}, {pos})" for key, pos in places)
            expected = world.oracle.execute(f"{sql} AND (k, pos) IN ({found})").fetchall() if found else []
        assert set(places) <= set(expected), context()
    assert rows == [before[at] for at in places], context()


def pages(world: World, query: Query, count: int, *, changing: bool) -> list[Row]:
    """All pages; now and then the table changes between two of them, which must not show."""
    size = max(1, min(count, 10_000) // world.rng.choice([1, 2, 3, 5] if changing else [1, 2]))
    page = query.page(size)
    rows = page.rows
    if page.next_token is not None and changing and world.rng.random() < 0.1:
        change(world)
    while page.next_token is not None:
        page = query.page(size, page.next_token)
        rows += page.rows
    return rows


def change(world: World) -> None:
    """A few overwrites, a delete, sometimes an object that was there before or never."""
    keys = sorted(world.by_key)
    chosen = world.rng.sample(keys, 4)
    world.write([*chosen[:3], f"rows/new/{world.batches}.ndjson"], [chosen[3], NEVER])


def compact(world: World) -> None:
    """Some views, now and then all of them."""
    views = [index.name for index in DEFINITION.indexes] + ["records", "objects", "by_word", "by_word.d"]
    if world.rng.random() < 0.05:
        world.table.compact()
    for view in world.rng.sample(views, 2):
        world.table.compact(view, full=world.rng.random() < 0.2)


def print_drawn(drawn: Counter[tuple[str, str, bool, str]]) -> None:
    """How often each operator met each type, with and without nulls, in each order."""
    orders = [(nulls, order) for nulls in (True, False) for order in ("none", "ascending", "descending")]
    print(
        f"\n{'operator':14}{'type':11}"
        + "".join(f"{('nulls' if n else 'no nulls') + ' ' + o[:4]:>15}" for n, o in orders)
    )
    for kind in dict.fromkeys(TYPES.values()):
        for operator in COMPARISONS + TEXT_OPERATORS * kind.startswith("string"):
            counts = [
                sum(
                    c
                    for (o, name, n, d), c in drawn.items()
                    if o == operator and TYPES[name] == kind and (n, d) == cell
                )
                for cell in orders
            ]
            print(f"{operator:14}{kind:11}" + "".join(f"{count:>15}" for count in counts))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data, rng = MemoryStore(), random.Random(SEED)
    table = Database(MemoryStore(), data=data, cache_bytes=256_000_000).create_table(DEFINITION)
    oracle = duckdb.connect()
    columns = ", ".join(f"{name} {SQL_TYPES[kind]}" for name, kind in TYPES.items())
    oracle.execute(f"CREATE TABLE oracle (k VARCHAR, pos BIGINT, grp BIGINT, {columns})")
    world = World(table, data, oracle, tmp_path_factory.mktemp("rows"), rng, Values(rng))
    names = [f"rows/{i % 7}/{i:04d} é+%.ndjson" for i in range(OBJECTS)]
    for start in range(0, OBJECTS, 500):
        world.write(names[start : start + 500])
    assert len(world.rows) >= 50_000
    yield world
    oracle.close()


def test_every_answer_equals_the_oracles(world: World) -> None:
    wanted = cells()
    rounds = -(-QUERIES_MIN // len(wanted))
    assert len(wanted) < QUERIES_MIN
    drawn: Counter[tuple[str, str, bool, str]] = Counter()
    sequence = [cell for _ in range(rounds) for cell in world.rng.sample(wanted, len(wanted))]
    for number, (operator, name, nulls, direction) in enumerate(sequence[:QUERIES_MIN]):
        if number % 25 == 24:
            change(world)
        if number % 200 == 199:
            compact(world)
        asked = combined(world.rng, leaf(world.rng, name, operator))
        check(world, asked, random_order(world.rng, direction, name))
        drawn[operator, name, nulls, direction] += 1
    print_drawn(drawn)
    assert sum(drawn.values()) >= QUERIES_MIN
    assert all(drawn[cell] for cell in wanted)


def recomputed(rows: Iterable[Row]) -> Row:
    """The measures of the summary, from scratch and exactly: integers and ratios of them, rounded once at the end."""
    rows = list(rows)

    def values(name: str) -> list[Any]:
        return [row[name] for row in rows if row[name] is not None]

    floats, ints = values("f"), values("i")
    ratios = [value.as_integer_ratio() for value in floats]
    float_sum = Fraction(sum(over * (FLOAT_UNITS // under) for over, under in ratios), FLOAT_UNITS)
    spread = None
    if len(ints) > 1:
        total, count = sum(ints), len(ints)
        variance = Fraction(sum((value * count - total) ** 2 for value in ints), count**2 * (count - 1))
        with localcontext(prec=200):
            spread = float((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())
    return {
        "n": len(rows),
        "n_i": len(ints),
        "total": sum(values("d")) if values("d") else None,
        "mean": float(float_sum / len(floats)) if floats else None,
        "low": min(values("d"), default=None),
        "high": max(values("ts"), default=None),
        "kinds": len(set(values("s0"))),
        "spread": spread,
        "sum_f": float(float_sum) if floats else None,
    }


def test_summaries_and_aggregates_equal_a_recomputation(world: World) -> None:
    measures = {measure.name: measure.text() for measure in DEFINITION.summaries[0].measures}
    for _ in range(2):
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in world.rows.values():
            month = None if row["ts"] is None else row["ts"].strftime("%Y-%m")
            groups.setdefault((row["s"], month), []).append(row)
        expected = {group: recomputed(rows) for group, rows in groups.items()}
        stored = world.table.summary("by_word").rows()
        assert {(row.pop("s"), row.pop("ts_month")): row for row in stored} == expected
        for word, month in world.rng.sample(sorted(groups, key=repr), 5):
            one = world.table.summary("by_word").get(s=word, ts_month=month)
            assert one == {"s": word, "ts_month": month} | expected[word, month]
        picked = world.rng.sample(range(GROUPS), 3)
        chosen = world.table.where(grp=picked).group_by("s").aggregate(**measures)
        narrowed = [row for row in world.rows.values() if row["grp"] in picked]
        words = {row["s"] for row in narrowed}
        assert {row.pop("s"): row for row in chosen} == {
            word: recomputed(row for row in narrowed if row["s"] == word) for word in words
        }
        for _ in range(3):
            change(world)
        compact(world)
