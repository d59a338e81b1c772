"""Long work shows itself on a terminal and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORK = (
    "from bucketdex.cli.progress import steps\nwith steps('first') as step:\n    step('then [second]')\nprint('done')\n"
)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", WORK]
    ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "then [second]" in drawn
    assert ran.stdout == b"done\n"


def test_in_a_pipe() -> None:
    ran = subprocess.run([sys.executable, "-c", WORK], cwd=ROOT, capture_output=True, check=True)
    assert (ran.stdout, ran.stderr) == (b"done\n", b"")
