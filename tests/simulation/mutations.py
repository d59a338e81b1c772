"""Takes the rules of the protocol out of a copy of the code, one at a time, and shows that the simulation misses each.

Run it with `make mutations`. A rule whose removal no seed notices is either not needed or not tested.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SEEDS_MAX = 2_000


class Mutation(NamedTuple):
    """A rule, where it lives, and what the code would be without it."""

    rule: str
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation(
        "every key that was read is in the touched set, even where nothing changed",
        "engine/attempt.py",
        "            self._draft.put(key, change)\n            self._touched.add(key)",
        "            self._draft.put(key, change)\n            if change.lines or known.get(key):\n                self._touched.add(key)",
    ),
    Mutation(
        "a key that somebody touched since the base is redone",
        "engine/commit.py",
        "return {key for key in keys if touch_hash(key) in hashes}",
        "return set()",
    ),
    Mutation(
        "everything is redone when the log doesn't reach back to the base",
        "engine/commit.py",
        "    if len(later) != manifest.generation - generation:",
        "    if False:",
    ),
    Mutation(
        "everything is redone when the definition or the set of views changed",
        "engine/attempt.py",
        'if current.state == "dropped" or not same_shape(base, current):',
        'if current.state == "dropped":',
    ),
    Mutation(
        "a commit of too many keys touches every key",
        "engine/commit.py",
        "        if entry.touched is None:\n            return set(keys)",
        "        if entry.touched is None:\n            continue",
    ),
    Mutation(
        "a key is skipped only if every event of it is an equal duplicate",
        "engine/changes.py",
        'return all(e.kind == "created" and e.sequencer == known[0].sequencer for e in self._by_key[key])',
        'return any(e.kind == "created" and e.sequencer == known[0].sequencer for e in self._by_key[key])',
    ),
    Mutation(
        "the delete of an unknown key is committed",
        "engine/attempt.py",
        "        work = [key for key in self._by_key if not self._reader.is_duplicate(key, known.get(key))]",
        "        work = [key for key in self._by_key if not self._reader.is_duplicate(key, known.get(key))]\n"
        "        work = [k for k in work if k in known or any(e.kind == 'created' for e in self._by_key[k])]",
    ),
    Mutation(
        "what files hold of a redone key is taken back by its bytes",
        "engine/draft.py",
        "        if self.flushed:\n            own",
        "        if False:\n            own",
    ),
    Mutation(
        "the error of a PUT proves nothing",
        "storage/manifest.py",
        "            settled = self._settle(base, new, split)",
        "            raise SwapLostError(self.load(new.table)) from failure",
    ),
    Mutation(
        "a floor is committed before the sweep, and files below it are written anew by commits",
        "engine/commit.py",
        "        if all(base_generation(file.path) >= base.floor for file in run.files):\n            return run",
        "        return run",
    ),
    Mutation(
        "a delta's file below the floor is written anew",
        "engine/commit.py",
        "if self._delta_file is None or base_generation(self._delta_file.path) < base.floor:",
        "if self._delta_file is None:",
    ),
    Mutation(
        "files below the floor are written anew by compactions",
        "engine/compact.py",
        "if any(base_generation(file.path) < current.floor for file in run.files):",
        "if False:",
    ),
    Mutation(
        "a compaction whose input is gone is abandoned",
        "engine/compact.py",
        "not all(run in state.runs for run in wanted)",
        "False",
    ),
    Mutation(
        "a fold that somebody else has done is abandoned",
        "engine/compact.py",
        "state.folded != base.manifest.views[view.name].folded",
        "False",
    ),
    Mutation(
        "an interrupted merge never takes an input's start back",
        "engine/merging.py",
        "start=self.end if run.start is None else max(run.start, self.end),",
        "start=self.end,",
    ),
    Mutation(
        "a delta is kept until every view has folded it",
        "engine/garbage.py",
        "folded = min(state.folded for state in manifest.views.values())",
        "folded = max(state.folded for state in manifest.views.values())",
    ),
    Mutation(
        "what a snapshot may still read is kept for the grace period",
        "engine/collect.py",
        "horizon = self._runtime.now() - self._settings.grace_seconds",
        "horizon = self._runtime.now() + 10_000",
    ),
    Mutation(
        "a view that was added is not answered from before it is built",
        "engine/define.py",
        'state="building" if building else "ready"',
        'state="ready"',
    ),
    Mutation(
        "a contested minimum or maximum is settled by the hidden summary",
        "views/snapshot.py",
        "        for slot in fold.contested(state):",
        "        for slot in ():",
    ),
)


def seeds_to_find(mutation: Mutation, seeds_max: int) -> int | None:
    """How many seeds the simulation needs to notice that the rule is gone; None when it doesn't."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "bucketdex", copy / "bucketdex", ignore=shutil.ignore_patterns("__pycache__"))
        target = copy / "bucketdex" / mutation.file
        source = target.read_text()
        if mutation.old not in source:
            raise SystemExit(f"{mutation.rule}: the code it stands in has changed; bring the mutation up to date")
        target.write_text(source.replace(mutation.old, mutation.new, 1))
        command = [sys.executable, str(Path(__file__).parent / "soak.py"), "--seeds", str(seeds_max), "--quiet"]
        done = subprocess.run(
            command, env={"PYTHONPATH": f"{copy}:{Path(__file__).parent}", "PYTHONHASHSEED": "0"}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    if done.returncode == 0:
        return None
    return int(done.stdout.split()[-1])


def main() -> None:
    seeds_max = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS_MAX
    missed = 0
    for mutation in MUTATIONS:
        found = seeds_to_find(mutation, seeds_max)
        missed += found is None
        print(f"{'MISSED' if found is None else f'seed {found:>6}':12} {mutation.rule}", flush=True)
    raise SystemExit(f"{missed} rules are not needed or not tested" if missed else 0)


if __name__ == "__main__":
    main()
