"""Which view is chosen, in which order its rows come, what is filtered, and what is suggested where nothing serves."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime

import pytest

from bucketdex.definition import TableDefinition
from bucketdex.errors import ScanRequiredError, ViewBuildingError
from bucketdex.query.columns import table_columns
from bucketdex.query.condition import bind, describe
from bucketdex.query.expression import Expression, col, ordering
from bucketdex.query.order import bind_order
from bucketdex.query.plan import Mode, Plan, explanation
from bucketdex.query.planner import Request, layouts_of, plan

TABLE = TableDefinition.from_dict(
    "orders",
    {
        "source": {"prefix": "orders/", "format": "json"},
        "fields": {
            "customer": "string",
            "country": "string",
            "amount": "decimal",
            "status": "string",
            "created_at": "timestamp",
            "tags": {"type": "string", "path": "tags[]"},
            "email": {"type": "string", "sensitive": True},
        },
        "indexes": {
            "by_customer": ["customer", "created_at"],
            "by_country": ["country", "created_at"],
            "by_country_status": ["country", "status", "amount"],
            "by_tag": ["tags", "created_at"],
            "by_email": ["email"],
        },
    },
)
COLUMNS = table_columns(TABLE)
LAYOUTS = layouts_of(TABLE, COLUMNS)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def planned(
    where: Expression | None, *order: str, limit: int | None = None, scan: bool = False, building: tuple[str, ...] = ()
) -> Plan:
    request = Request(bind(where, COLUMNS), bind_order(ordering(order), COLUMNS), limit, scan)
    return plan(request, LAYOUTS, building)


def views(made: Plan) -> list[str]:
    return [branch.access.layout.view for branch in made.branches]


@pytest.mark.parametrize(
    ("where", "view", "ranges", "residual"),
    [
        (col.customer == "c", "by_customer", 1, "everything"),
        ((col.customer == "c") & (col.created_at > NEW_YEAR), "by_customer", 1, "everything"),
        ((col.country == "DE") & (col.status == "open"), "by_country_status", 1, "everything"),
        ((col.country == "DE") & (col.created_at > NEW_YEAR), "by_country", 1, "everything"),
        ((col.country == "DE") & (col.created_at > NEW_YEAR) & (col.status == "open"), "by_country_status", 1, "created_at > "),
        (col.country.in_(["DE", "FR"]) & col.status.in_(["open", "new"]), "by_country_status", 4, "everything"),
        ((col.country == "DE") | (col.country == "FR"), "by_country", 2, "everything"),
        (col.country != "DE", "by_country", 2, "everything"),
        (~col.country.in_(["DE", "FR"]), "by_country", 3, "everything"),
        (col.country.startswith("D"), "by_country", 1, "everything"),
        (col.country.like("D%x"), "by_country", 1, "country.like"),
        (col.country.like("DE"), "by_country", 1, "everything"),
        ((col.country == "DE") & (col.country != "DE"), None, 0, ""),
        (col.country.in_([]), None, 0, ""),
        (col.country.is_null(), "by_country", 1, "everything"),
        (col._key == "orders/1", "records", 1, "everything"),
        (col._key.startswith("orders/1"), "records", 1, "everything"),
        ((col.country == "DE") & (col._key == "orders/1"), "records", 1, "country =="),
        ((col.tags == "x") & (col.tags == "y"), "by_tag", 1, "tags == 'y'"),
        ((col.tags == "x") & (col.created_at < NEW_YEAR), "by_tag", 1, "everything"),
        ((col.amount > 3) & (col.customer == "c"), "by_customer", 1, "amount > 3"),
    ],
)  # fmt: skip
def test_access(where: Expression, view: str | None, ranges: int, residual: str) -> None:
    made = planned(where)
    if view is None:
        assert made.branches == ()
        return
    (branch,) = made.branches
    assert (branch.access.layout.view, len(branch.access.ranges)) == (view, ranges)
    assert residual in describe(branch.access.residual)


@pytest.mark.parametrize(
    ("where", "order", "view", "mode", "reverse", "groups"),
    [
        (col.country == "DE", ["-created_at"], "by_country", Mode.SERVED, True, 1),
        (col.country == "DE", ["country", "created_at"], "by_country", Mode.SERVED, False, 1),
        (col.country.in_(["DE", "FR"]), ["created_at"], "by_country", Mode.SERVED, False, 2),
        (col.country.in_(["DE", "FR"]), ["country", "created_at"], "by_country", Mode.SERVED, False, 1),
        (col.country == "DE", ["status"], "by_country_status", Mode.GROUPED, False, 1),
        (col.country == "DE", ["status", "-amount"], "by_country", Mode.SORTED, False, 1),
        (col.country == "DE", ["amount"], "by_country", Mode.SORTED, False, 1),
        (col.country == "DE", ["_key"], "by_country", Mode.SORTED, False, 1),
        (col.tags.in_(["x", "y"]), ["-created_at"], "by_tag", Mode.SERVED, True, 2),
        (col.country.in_([f"{i:03}" for i in range(100)]), ["created_at"], "by_country", Mode.SORTED, False, 100),
        (None, ["country"], "by_country", Mode.GROUPED, False, 1),
        (None, ["-country", "-created_at"], "by_country", Mode.SERVED, True, 1),
        (None, ["-_key"], "records", Mode.SERVED, True, 1),
        (None, [], "records", Mode.NATURAL, False, 1),
    ],
)
def test_order(where: Expression | None, order: list[str], view: str, mode: Mode, reverse: bool, groups: int) -> None:
    made = planned(where, *order)
    (branch,) = made.branches
    assert (branch.access.layout.view, branch.mode, made.reverse) == (view, mode, reverse)
    if mode is not Mode.SORTED:
        assert len(branch.groups) == groups


def test_a_disjunction_over_several_fields_is_split() -> None:
    made = planned((col.country == "DE") | (col.customer == "c") & (col.amount > 1) | (col.country == "FR"))
    assert sorted(views(made)) == ["by_country", "by_customer"]
    first, second = made.branches
    assert describe(first.earlier) == "nothing" and describe(second.earlier) != "nothing"


def test_entries_of_many_values_are_chosen_from_unless_one_value_is_asked_for() -> None:
    assert planned(col.tags == "x").branches[0].access.spread is None
    assert planned(col.tags.in_(["x", "y"])).branches[0].access.spread is not None
    assert planned(col.tags > "x").branches[0].access.spread is not None


@pytest.mark.parametrize(
    ("where", "order", "line"),
    [
        (col.status == "open", [], 'by_status = ["status"]'),
        (col.status == "open", ["-created_at"], 'by_status = ["status", "created_at"]'),
        ((col.amount > 3) & (col.status == "open"), [], 'by_status = ["status", "amount"]'),
        (col.amount > 3, [], 'by_amount = ["amount"]'),
        (None, ["amount"], 'by_amount = ["amount"]'),
        ((col.country == "DE") | (col.amount == 3), [], 'by_amount = ["amount"]'),
    ],
)
def test_a_suggested_index_serves_the_query(where: Expression | None, order: list[str], line: str) -> None:
    with pytest.raises(ScanRequiredError) as caught:
        planned(where, *order)
    assert line in str(caught.value) and "allow_scan()" in str(caught.value)
    plain = TABLE.to_dict()
    plain["indexes"] |= tomllib.loads(line)
    indexed = TableDefinition.from_dict("orders", plain)
    columns = table_columns(indexed)
    request = Request(bind(where, columns), bind_order(ordering(order), columns), None, False)
    made = plan(request, layouts_of(indexed, columns))
    assert line.split(" ")[0] in views(made)


def test_what_no_index_can_serve_says_so() -> None:
    for where in (col.status.contains("x"), col.status.regexp_match("x"), ~col.tags.is_null() & (col.tags != "x")):
        if where is not None and "tags" in repr(where):
            continue
        with pytest.raises(ScanRequiredError, match="no index can serve"):
            planned(where)
    assert views(planned(col.status.contains("x"), scan=True)) == ["records"]
    assert views(planned(col.status.contains("x"), "country", scan=True)) == ["by_country"]


def test_a_view_that_is_being_built_is_not_used() -> None:
    assert views(planned(col.country == "DE", building=("by_country_status",))) == ["by_country"]
    with pytest.raises(ViewBuildingError, match="by_customer"):
        planned(col.customer == "c", building=("by_customer",))
    with pytest.raises(ScanRequiredError):
        planned(col.status == "open", building=("by_customer",))


def test_explanations_are_readable_and_hide_sensitive_values() -> None:
    made = planned((col.email == "zoe@example.com") & (col.amount > 3), "-created_at", limit=5)
    told = explanation(made, 7, 2)
    assert told.view == "by_email" and told.residual == "amount > 3" and told.predicted_requests == 2
    assert "zoe" not in str(told) + repr(told) and "sorted in memory" in str(told) and "-created_at" in told.order
    assert "nothing can match" in str(explanation(planned(col.country.in_([])), 1, 0))
