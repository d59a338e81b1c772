"""Chooses the views and key ranges that answer a query, or says which index would.

The index with the longest prefix of columns bound to values wins, then one with a range, then one in the query's order.
A disjunction that no single view serves is split into branches, each with a view of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product

from bucketdex.definition import TableDefinition
from bucketdex.errors import ScanRequiredError, ViewBuildingError
from bucketdex.query.access import Access, Constraints, Layout, access, keys_of, order_place
from bucketdex.query.columns import AT, KEY, Columns
from bucketdex.query.condition import EVERYWHERE, NOWHERE, AllOf, AnyOf, Condition, all_of, any_of
from bucketdex.query.order import Order
from bucketdex.query.plan import Branch, Mode, Plan
from bucketdex.query.suggest import index_line

BRANCHES_MAX = 32
MERGED_MAX = 64
RECORDS = "records"


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A query as the planner gets it."""

    condition: Condition
    order: Order | None
    limit: int | None
    allow_scan: bool


def layouts_of(definition: TableDefinition, columns: Columns) -> tuple[Layout, ...]:
    """The views of a table that keep rows: its indexes, those that retire, and `records`."""
    tail = (columns[KEY], columns[AT])
    declared = (*definition.indexes, *definition.retiring.indexes)
    indexes = [Layout(index.name, (*(columns[name] for name in index.fields), *tail)) for index in declared]
    return (*indexes, Layout(RECORDS, tail))


def plan(request: Request, layouts: Sequence[Layout], building: Collection[str] = ()) -> Plan:
    """The plan of a query over the views that are ready.

    Raises ScanRequiredError when no view serves it and it doesn't allow a scan, ViewBuildingError when one will once it
    is built.
    """
    ready = [layout for layout in layouts if layout.view not in building]
    branches = _served(request, ready)
    if branches is None and building and (later := _served(request, layouts)) is not None:
        waiting = sorted({branch.access.layout.view for branch in later} & set(building))
        raise ViewBuildingError(f"{', '.join(waiting)} is still being built: try again when status() says ready")
    if branches is None:
        if not request.allow_scan:
            raise ScanRequiredError(_remedy(request, layouts))
        branches = _scan(request, ready)
    return Plan(tuple(branches), request.order, request.limit)


def _served(request: Request, layouts: Sequence[Layout]) -> list[Branch] | None:
    """Branches whose ranges are bounded by the condition; for no condition, a whole view in the order asked for."""
    condition = request.condition
    if condition is NOWHERE:
        return []
    if condition is EVERYWHERE:
        whole = _best(request, EVERYWHERE, layouts)
        ordered = whole is not None and whole.mode is not Mode.SORTED
        return [whole] if whole is not None and ordered else None
    if Constraints(_parts(condition)).contradictory:
        return []
    single = _best(request, condition, layouts)
    if single is not None and single.access.constrained:
        return [single]
    return _split(request, layouts)


def _split(request: Request, layouts: Sequence[Layout]) -> list[Branch] | None:
    """One branch for each conjunction of the condition's disjunctive form; each gives what no earlier one gave."""
    conjunctions = _disjunctive(request.condition)
    if conjunctions is None or len(conjunctions) < 2:
        return None
    branches: list[Branch] = []
    earlier: list[Condition] = []
    for conjunction in conjunctions:
        if Constraints(_parts(conjunction)).contradictory:
            continue
        branch = _best(request, conjunction, layouts, any_of(earlier))
        if branch is None or not branch.access.constrained:
            return None
        branches.append(branch)
        earlier.append(conjunction)
    return branches


def _scan(request: Request, layouts: Sequence[Layout]) -> list[Branch]:
    """All of a view that has the query's order, else all records."""
    whole = [_branch(request, access(layout, Constraints(())), request.condition, NOWHERE) for layout in layouts]
    usable = [b for b in whole if b.access.spread is None and (b.mode is not Mode.SORTED or _is_records(b))]
    if not usable:
        raise ViewBuildingError("the records of the table are still being built: try again when status() says ready")
    best = max(
        usable, key=lambda branch: (branch.mode is Mode.SERVED, branch.mode is Mode.GROUPED, _is_records(branch))
    )
    return [replace(best, access=replace(best.access, residual=request.condition))]


def _best(
    request: Request, condition: Condition, layouts: Sequence[Layout], earlier: Condition = NOWHERE
) -> Branch | None:
    """The branch over the best view for a conjunction; None when there is no view at all."""
    constraints = Constraints(_parts(condition))
    candidates = [
        _branch(request, access(layout, constraints), condition, earlier, constraints.constants) for layout in layouts
    ]
    return max(candidates, key=_merit, default=None)


def _merit(branch: Branch) -> tuple[int, ...]:
    found = branch.access
    return (
        found.points,
        found.constrained,
        branch.mode is Mode.SERVED,
        branch.mode is not Mode.SORTED,
        found.spread is None,
        _is_records(branch),
    )


def _branch(
    request: Request,
    found: Access,
    condition: Condition,
    earlier: Condition,
    constants: dict[str, str] | None = None,
) -> Branch:
    constants = constants or {}
    mode, skip = _mode(request.order, found, constants)
    branch = Branch(found, condition, earlier, constants, mode, skip)
    if skip and len(branch.groups) > MERGED_MAX:
        return replace(branch, mode=Mode.SORTED, skip=0)
    return branch


def _mode(order: Order | None, found: Access, constants: dict[str, str]) -> tuple[Mode, int]:
    if order is None:
        return Mode.NATURAL, 0
    named, varying = order.without(constants)
    if order.uniform:
        place = order_place(found.layout, found.points, constants, varying)
        if place is not None:
            return Mode.SERVED, place
        place = order_place(found.layout, found.points, constants, named) if named else None
        if place is not None:
            return Mode.GROUPED, place
    return Mode.SORTED, 0


def _disjunctive(condition: Condition) -> list[Condition] | None:
    """The condition as a disjunction of conjunctions; None when that takes more than BRANCHES_MAX of them."""
    if keys_of(condition) is not None:
        return [condition]
    if isinstance(condition, AnyOf):
        split = [_disjunctive(part) for part in _by_column(condition)]
        result = [item for items in split if items is not None for item in items]
        return result if None not in split and len(result) <= BRANCHES_MAX else None
    if isinstance(condition, AllOf):
        factors = [_disjunctive(part) for part in condition.parts]
        count = 1
        for factor in factors:
            if factor is None:
                return None
            count *= len(factor)
            if count > BRANCHES_MAX:
                return None
        return [all_of(parts) for parts in product(*(factor or [] for factor in factors))]
    return [condition]


def _by_column(condition: AnyOf) -> list[Condition]:
    """The parts of a disjunction, those on the same column made one."""
    grouped: dict[object, list[Condition]] = {}
    for part in condition.parts:
        found = keys_of(part)
        grouped.setdefault(id(part) if found is None else found[0].name, []).append(part)
    return [any_of(parts) for parts in grouped.values()]


def _parts(condition: Condition) -> tuple[Condition, ...]:
    return condition.parts if isinstance(condition, AllOf) else (condition,)


def _is_records(branch: Branch) -> bool:
    return branch.access.layout.view == RECORDS


def _remedy(request: Request, layouts: Sequence[Layout]) -> str:
    conjunctions = _disjunctive(request.condition) or [request.condition]
    lines: list[str] = []
    for conjunction in conjunctions:
        best = _best(request, conjunction, layouts)
        if len(conjunctions) > 1 and best is not None and best.access.constrained:
            continue
        line = index_line(Constraints(_parts(conjunction)), request.order, [layout.view for layout in layouts])
        if line is None:
            return "no index can serve this query: add a condition on a field's value or range, or use .allow_scan()"
        lines.append(line)
    wanted = "\n    ".join(dict.fromkeys(lines))
    return (
        f"no index serves this query; add to [indexes] of the table\n    {wanted}\nor read everything by .allow_scan()"
    )
