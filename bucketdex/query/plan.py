"""A plan: the ranges of views that a query reads, how their rows are put in order, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bucketdex.query.access import Access, KeyRange
from bucketdex.query.condition import EVERYWHERE, Condition, describe
from bucketdex.query.order import Order


class Mode(StrEnum):
    """How the rows of a branch come into the query's order."""

    NATURAL = "none asked for"
    SERVED = "as the view has it"
    GROUPED = "as the view has it, ties sorted in memory"
    SORTED = "sorted in memory"


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """The part of a query that one view answers. A row that `earlier` holds for came from one before it."""

    access: Access
    condition: Condition
    earlier: Condition
    constants: dict[str, str]  # components of the columns that have one value in this branch
    mode: Mode
    skip: int = 0  # columns of the sort key before the order's; ranges that differ in them are merged

    @property
    def exact(self) -> bool:
        """Whether its entries are its rows, one for one, so that counting them needs no look at any."""
        return self.access.residual is EVERYWHERE and self.access.spread is None

    @property
    def groups(self) -> list[tuple[str, list[KeyRange]]]:
        """The ranges by the text of the skipped columns."""
        result: dict[str, list[KeyRange]] = {}
        for item in self.access.ranges:
            result.setdefault("".join(item.parts[: self.skip]), []).append(item)
        return list(result.items())


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything that decides a query's answer but the snapshot. Without branches the answer is empty."""

    branches: tuple[Branch, ...]
    order: Order | None
    limit: int | None

    @property
    def reverse(self) -> bool:
        """Whether views are read backwards."""
        return self.order is not None and self.order.reverse


@dataclass(frozen=True)
class Explanation:
    """What a query does, and with which requests, given what is in memory now. `str` of it is for reading."""

    view: str | None  # the first view it reads; None when nothing can match
    views: list[str]
    ranges: list[str]  # the conditions that became key ranges, one text a view
    residual: str  # filtered from covered fields after reading; "" for nothing
    order: str
    predicted_requests: int  # of the first round, besides the manifest
    generation: int
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


def explanation(plan: Plan, generation: int, predicted_requests: int) -> Explanation:
    """The plan in words, the values of sensitive columns left out."""
    views = [branch.access.layout.view for branch in plan.branches]
    residuals = [_residual(branch) for branch in plan.branches]
    blocks = [_branch(branch, plan) for branch in plan.branches] or ["nothing can match: no view is read"]
    summary = f"generation {generation}; first round: the manifest and {predicted_requests} more requests"
    return Explanation(
        view=views[0] if views else None,
        views=list(dict.fromkeys(views)),
        ranges=[_ranges(branch.access) for branch in plan.branches],
        residual=" | ".join(dict.fromkeys(text for text in residuals if text)),
        order="" if plan.order is None else _order(plan.order, [branch.mode for branch in plan.branches]),
        predicted_requests=predicted_requests,
        generation=generation,
        text="\n".join([*blocks, summary]),
    )


def _branch(branch: Branch, plan: Plan) -> str:
    lines = [f"view {branch.access.layout.view}: {_ranges(branch.access)}"]
    residual = _residual(branch)
    if residual:
        lines.append(f"  filter: {residual}")
    if plan.order is not None:
        lines.append(f"  order: {_order(plan.order, [branch.mode])}")
        if plan.reverse and branch.mode is not Mode.SORTED:
            lines.append("  read backwards")
        if branch.mode is not Mode.SORTED and len(branch.groups) > 1:
            lines.append(f"  {len(branch.groups)} ranges merged")
    return "\n".join(lines)


def _ranges(access: Access) -> str:
    if not access.bounds:
        return "everything"
    count = len(access.ranges)
    return " & ".join(map(describe, access.bounds)) + f" ({count} range{'s' * (count != 1)})"


def _residual(branch: Branch) -> str:
    return "" if branch.access.residual is EVERYWHERE else describe(branch.access.residual)


def _order(order: Order, modes: list[Mode]) -> str:
    return f"{order.describe()}, {' and '.join(dict.fromkeys(modes))}"
