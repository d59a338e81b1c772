"""Takes the rules of the protocol out of a copy of the code, one at a time, and shows that the simulation misses each.

Run it with `make mutations`. A rule whose removal no seed notices is either not needed or not tested. It counts as
noticed when a check of the simulation says so. That the code without it raises an error proves only that the edit broke
the code, unless the rule says that this is how its loss shows.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
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
TIMEOUT_S = 3_600.0
SHOWN = 160  # characters of an error


class Verdict(NamedTuple):
    """Whether it was proven that a rule is needed, after how many seeds or why not, how long it took, and what showed it."""

    rule: Rule
    proven: bool
    found: str
    seconds: float
    how: str = ""

    def __str__(self) -> str:
        line = f"{self.found:>12}  {self.seconds:6.0f} s  {self.rule.name}"
        return f"{line}\n{'':25}{self.how}" if self.how else line


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


def judge(rule: Rule, seeds_max: int, timeout_s: float) -> Verdict:
    """Plays seeds without the rule until one fails."""
    began = time.monotonic()

    def verdict(proven: bool, found: str, how: str = "") -> Verdict:
        return Verdict(rule, proven, found, time.monotonic() - began, how)

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        without(rule, copy)
        soak = copy / "simulation" / "soak.py"
        try:
            done = subprocess.run(
                [sys.executable, str(soak), "--seeds", str(seeds_max), "--jobs", "1", "--quiet"], check=False,
                env=os.environ | {"PYTHONPATH": f"{copy}:{soak.parent}"}, capture_output=True, text=True,
                timeout=timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return verdict(False, "TIMED OUT", f"{timeout_s:,.0f} s were too few for {seeds_max:,} seeds")
    if not done.returncode:
        return verdict(False, "MISSED")
    try:
        failed = json.loads(done.stdout)
        seeds, check, error = failed["seed"] + 1, failed["check"], failed["error"]
    except ValueError:
        raise SystemExit(f"{rule.name}: {done.stderr}") from None
    if check is not None:
        return verdict(True, f"{seeds:,} seeds", f"{check}: {error[:SHOWN]}")
    if rule.loud is not None and error.partition(":")[0].rpartition(".")[2] == rule.loud.error:
        return verdict(True, f"{seeds:,} seeds", f"{error[:SHOWN]} ({rule.loud.why})")
    return verdict(False, "CRASHED", f"seed {seeds - 1}, in no check: {error[:SHOWN]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--match", default="*", help="only the rules whose name is like this, such as '*floor*'")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="seeds until a rule counts as missed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="rules judged side by side")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds that a rule may take")
    options = parser.parse_args()
    chosen = [rule for rule in RULES if fnmatch.fnmatch(rule.name, options.match)]
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for verdict in pool.map(lambda rule: judge(rule, options.seeds, options.timeout), chosen):
            verdicts.append(verdict)
            print(verdict, flush=True)
    proven = sum(verdict.proven for verdict in verdicts)
    print(f"{proven} of {len(verdicts)} rules are proven needed, each within {options.seeds:,} seeds")
    raise SystemExit(0 if verdicts and proven == len(verdicts) else 1)


if __name__ == "__main__":
    main()
