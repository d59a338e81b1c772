"""One line of the benchmark's table. Changes with how figures are shown."""

from __future__ import annotations

from typing import NamedTuple

WIDTHS = (66, 32, 50)


class Figure(NamedTuple):
    """Something counted or measured, beside what it should be. `met` is None where there is no goal."""

    name: str
    goal: str
    seen: str
    met: bool | None = None

    def __str__(self) -> str:
        verdict = "" if self.met is None else "met" if self.met else "NOT MET"
        return _aligned(self.name, self.goal, self.seen) + verdict


def _aligned(*texts: str) -> str:
    return "".join(text.ljust(width) + "  " for text, width in zip(texts, WIDTHS, strict=True))


HEAD = _aligned("figure", "goal", "seen").rstrip() + "\n" + "-" * (sum(WIDTHS) + 2 * len(WIDTHS) + len("NOT MET"))
