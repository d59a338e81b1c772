"""One line of the benchmark's table, and the table. Changes with how figures are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

HEAD = ("figure", "goal", "seen", "")


class Figure(NamedTuple):
    """Something counted or measured, beside what it should be. `met` is None where there is no goal."""

    name: str
    goal: str
    seen: str
    met: bool | None = None


def table(figures: Iterable[Figure]) -> str:
    """The figures as aligned text; a goal that isn't met says so."""
    verdicts = {None: "", True: "met", False: "NOT MET"}
    rows = [HEAD, *((f.name, f.goal, f.seen, verdicts[f.met]) for f in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "  ".join("-" * width for width in widths).rstrip(" ")
    return "\n".join([lines[0], rule, *lines[1:]])
