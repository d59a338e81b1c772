"""Takes the rules of the protocol out of a copy of the code, one at a time, and shows that the simulation misses each.

Run it with `make mutations`. A rule whose removal no seed notices is either not needed or not tested.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rules import RULES, Rule

ROOT = Path(__file__).resolve().parents[2]
SEEDS_MAX = 2_000  # as many as the test suite plays


class Verdict(NamedTuple):
    """How many seeds it took to notice that a rule is gone (None: none did), and how long."""

    rule: Rule
    seeds: int | None
    seconds: float

    def __str__(self) -> str:
        found = "MISSED" if self.seeds is None else f"{self.seeds:,} seeds"
        return f"{found:>12}  {self.seconds:6.0f} s  {self.rule.name}"


def without(rule: Rule, folder: Path) -> None:
    """Puts a copy of the code without the rule into the folder. SystemExit when the code doesn't hold it any more."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bucketdex", folder / "bucketdex", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "simulation", folder / "simulation", ignore=ignored)
    for edit in rule.edits:
        target = folder / edit.file
        source = target.read_text()
        if source.count(edit.old) != 1:
            raise SystemExit(
                f"{rule.name}: {source.count(edit.old)} places in {edit.file} look like it; bring the rule up to date"
            )
        target.write_text(source.replace(edit.old, edit.new))


def judge(rule: Rule, seeds_max: int) -> Verdict:
    """Plays seeds without the rule until one fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        without(rule, copy)
        soak = copy / "simulation" / "soak.py"
        done = subprocess.run(
            [sys.executable, str(soak), "--seeds", str(seeds_max), "--jobs", "1", "--quiet"], check=False,
            env=os.environ | {"PYTHONPATH": f"{copy}:{soak.parent}"}, capture_output=True, text=True,
        )  # fmt: skip
    last = done.stdout.split()[-2:]
    if done.returncode and last[:1] != ["seed"]:
        raise SystemExit(f"{rule.name}: {done.stderr}")
    return Verdict(rule, int(last[1]) + 1 if done.returncode else None, time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--match", default="*", help="only the rules whose name is like this, such as '*floor*'")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="seeds until a rule counts as missed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="rules judged side by side")
    options = parser.parse_args()
    chosen = [rule for rule in RULES if fnmatch.fnmatch(rule.name, options.match)]
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for verdict in pool.map(lambda rule: judge(rule, options.seeds), chosen):
            verdicts.append(verdict)
            print(verdict, flush=True)
    missed = sum(verdict.seeds is None for verdict in verdicts)
    print(f"{len(verdicts) - missed} of {len(verdicts)} rules are proven needed, each within {options.seeds:,} seeds")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
