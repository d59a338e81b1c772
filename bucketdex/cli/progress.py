"""What long work shows: a bar or its current step on a terminal, nothing in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn


@contextmanager
def progress_bar(description: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """A bar on standard error while the block runs; call what it gives with the amount completed of `total`.
    Draws nothing unless standard error is a terminal.
    """
    with _progress(BarColumn(), TaskProgressColumn()) as progress:
        task = progress.add_task(description, total=total)
        yield lambda completed: progress.update(task, completed=completed)


@contextmanager
def steps(description: str) -> Iterator[Callable[[str], None]]:
    """The current step beside a spinner; call what it gives with each next one."""
    with _progress() as progress:
        task = progress.add_task(description, total=None)
        yield lambda step: progress.update(task, description=step)


def _progress(*columns: BarColumn | TaskProgressColumn) -> Progress:
    console = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False)
    return Progress(
        SpinnerColumn(), text, *columns, TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
