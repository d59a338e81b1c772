"""Conditions row by row against SQLite, errors, and what is never shown."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.definition import TableDefinition, row_codec
from bucketdex.errors import QueryError
from bucketdex.query.columns import table_columns
from bucketdex.query.condition import PATTERN_CHARS_MAX, bind, describe, predicate
from bucketdex.query.expression import And, Expression, Not, Or, col, conjunction

TABLE = TableDefinition.from_dict(
    "t",
    {
        "source": {"prefix": "t/", "format": "json"},
        "fields": {
            "a": "string",
            "n": "int",
            "d": "decimal",
            "first name": "string",
            "tags": {"type": "string", "path": "tags[]"},
            "secret": {"type": "string", "sensitive": True},
        },
    },
)
COLUMNS = table_columns(TABLE)
TEXTS = ["", "a", "b", "ab", "A", "a%", "a_b", "100%", "x.y", "(", "\n", "é"]


def row(**values: Any) -> Any:
    names = [field.name for field in TABLE.fields]
    return row_codec(TABLE).Row(*[values.get(name) for name in names], values.get("key", "t/1"), values.get("at"))


def holds(expression: Expression, **values: Any) -> bool:
    test = predicate(bind(expression, COLUMNS))
    return test is None or test(row(**values))


texts = st.sampled_from(TEXTS)
numbers = st.integers(-2, 2)
leaves = st.one_of(
    st.builds(lambda v: (col.a == v, "a = ?", [v]), texts),
    st.builds(lambda v: (col.a != v, "a != ?", [v]), texts),
    st.builds(lambda v: (col.a < v, "a < ?", [v]), texts),
    st.builds(lambda v: (col.n >= v, "n >= ?", [v]), numbers),
    st.builds(lambda v, w: (col.n.between(v, w), "n BETWEEN ? AND ?", [v, w]), numbers, numbers),
    st.builds(
        lambda v: (col.n.in_(v), f"n IN ({', '.join('?' * len(v))})", v), st.lists(numbers, min_size=1, max_size=3)
    ),
    st.builds(
        lambda v: (col.n.not_in(v), f"n NOT IN ({', '.join('?' * len(v))})", v),
        st.lists(numbers, min_size=1, max_size=3),
    ),
    st.builds(
        lambda v: (col.a.like(v, escape="_"), "a LIKE ? ESCAPE '_'", [v]), texts.filter(lambda t: not t.endswith("_"))
    ),
    st.builds(lambda v: (col.a.like(v), "a LIKE ?", [v]), texts),
    st.builds(lambda v: (col.a.contains(v), "instr(a, ?) > 0", [v]), texts.filter(bool)),
    st.just((col.a.is_null(), "a IS NULL", [])),
    st.just((col.n.is_not_null(), "n IS NOT NULL", [])),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda x: (~x[0], f"NOT ({x[1]})", x[2]), inner),
        st.builds(lambda x, y: (x[0] & y[0], f"({x[1]}) AND ({y[1]})", x[2] + y[2]), inner, inner),
        st.builds(lambda x, y: (x[0] | y[0], f"({x[1]}) OR ({y[1]})", x[2] + y[2]), inner, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def sqlite() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.execute("CREATE TABLE t (a TEXT, n INT)")
    return connection


@settings(max_examples=400, deadline=None)
@given(trees, st.none() | texts, st.none() | numbers)
def test_three_valued_logic_is_sqlites(sqlite: sqlite3.Connection, tree: Any, a: str | None, n: int | None) -> None:
    expression, sql, arguments = tree
    sqlite.execute("DELETE FROM t")
    sqlite.execute("INSERT INTO t VALUES (?, ?)", [a, n])
    expected = sqlite.execute(f"SELECT count(*) FROM t WHERE {sql}", arguments).fetchone()[0] == 1
    assert holds(expression, a=a, n=n) is expected
    assert not (holds(expression, a=a, n=n) and holds(~expression, a=a, n=n))


@pytest.mark.parametrize(
    ("expression", "tags", "expected"),
    [
        (col.tags == "x", ["y", "x"], True),
        (col.tags == "x", ["y"], False),
        (col.tags == "x", [], False),
        (~(col.tags == "x"), ["y"], True),
        (~(col.tags == "x"), None, False),
        (col.tags != "x", ["y", "x"], False),
        (col.tags != "x", ["y"], True),
        (col.tags != "x", [], False),
        (col.tags.not_in(["x", "y"]), ["z", "y"], False),
        ((col.tags > "b") & (col.tags < "b"), ["a", "c"], True),
        (col.tags.is_null(), [], True),
        (col.tags.is_null(), None, True),
        (col.tags.is_not_null(), ["x"], True),
        (col.tags.startswith("x"), ["ax", "xa"], True),
        (~col.tags.like("x%"), ["ax", "xa"], False),
    ],
)
def test_many_values(expression: Expression, tags: list[str] | None, expected: bool) -> None:
    assert holds(expression, tags=tags) is expected


def test_decimals_compare_as_numbers() -> None:
    assert holds(col.d > 9, d="10") and not holds(col.d < 9, d="10") and holds(col.d == 10.0, d="10")
    assert holds(col.d.between(-2, -1), d="-1.5")


def test_empty_lists_null_and_system_columns() -> None:
    assert not holds(col.n.in_([]), n=1) and holds(col.n.not_in([]), n=None)
    assert holds(col.a == None, a=None) and holds(col.a != None, a="")  # noqa: E711
    assert holds(col._key == "t/1") and holds(col("_at") == (0, 5), at=(0, 5)) and holds(col._at.is_null())
    assert holds(col("first name").startswith("Z"), **{"first name": "Zoë"})


def test_like_is_linear_where_a_regular_expression_would_explode() -> None:
    pattern = "%a" * 40 + "%b"
    assert not holds(col.a.like(pattern), a="a" * 5_000)
    assert holds(col.a.like(pattern), a="a" * 60 + "b")


def where(*conditions: Expression, **equals: object) -> Expression:
    found = conjunction(conditions, equals)
    assert found is not None
    return found


def test_keywords() -> None:
    assert conjunction([], {}) is None
    assert holds(where(a=None)) and not holds(where(a=None), a="")
    assert holds(where(n=[1, 2]), n=2) and not holds(where(n={1, 2}), n=3)
    assert holds(where(col.n == 1, a="x"), n=1, a="x") and not holds(where(col.n == 1, a="x"), n=1, a="y")
    assert holds(where(**{"first name": "Zoë"}), **{"first name": "Zoë"})


def test_or_after_and_keeps_what_each_means() -> None:
    expression = (col.n == 1) & (col.a == "x") | (col.a == "y")
    assert isinstance(expression, Or) and isinstance(expression.parts[0], And)
    assert holds(expression, n=2, a="y") and not holds(expression, n=2, a="x")
    assert isinstance(~expression, Not) and ~~expression is expression


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: col.aa == "x", "did you mean 'a'"),
        (lambda: col.n == "1", "n"),
        (lambda: col.n == True, "n"),  # noqa: E712
        (lambda: col.a == 1, "a"),
        (lambda: col.a == col.n, "a"),
        (lambda: col.a < None, "is_null"),
        (lambda: col.n.in_([1, None]), "is_null"),
        (lambda: col.n.like("1%"), "is for text"),
        (lambda: col.a.contains(1), "takes text"),  # type: ignore[arg-type]
        (lambda: col.a.regexp_match("("), "no regular expression"),
        (lambda: col.a.regexp_match("a" * (PATTERN_CHARS_MAX + 1)), "longer than"),
        (lambda: col.a.like("a!", escape="!"), "ends with its escape"),
        (lambda: col.a.like("a", escape="!!"), "one character"),
        (lambda: col("_at") == 3, "pair"),
        (lambda: col.a.in_("ab"), "list of values"),
        (lambda: (col.n == 1) and (col.a == "x"), "& |"),
        (lambda: 1 < col.n < 3, "truth value"),
        (lambda: (col.n == 1) | "x", "combine conditions"),  # type: ignore[operator]
        (lambda: conjunction(["n = 1"], {}), "takes conditions"),  # type: ignore[list-item]
    ],
)
def test_errors_say_what_is_wrong(make: Any, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        bind(make(), COLUMNS)


def test_sensitive_values_are_never_shown() -> None:
    expression = (col.secret == "hunter2") | ~col.secret.in_(["hunter2"]) | col.secret.like("hunter2%")
    assert "hunter2" not in describe(bind(expression, COLUMNS))
    with pytest.raises(QueryError) as caught:
        bind(col.secret == 42424242, COLUMNS)
    assert "42424242" not in str(caught.value)


def test_depth_is_bounded() -> None:
    expression: Expression = col.n == 1
    for i in range(200):
        expression = (expression & (col.n == i)) | (col.a == "x")
    with pytest.raises(QueryError, match="deep"):
        bind(expression, COLUMNS)
