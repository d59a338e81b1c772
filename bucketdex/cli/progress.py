"""What long work shows: its current step on a terminal, nothing in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def steps(description: str) -> Iterator[Callable[[str], None]]:
    """A moving bar with the current step on standard error while the block runs, gone afterwards; call what it gives
    with each next step. Draws nothing unless standard error is a terminal.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        yield lambda step: progress.update(task, description=step)
