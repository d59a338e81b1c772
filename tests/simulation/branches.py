"""Shows that the simulated worlds run every branch of the commit, compaction and collection code; fails where one
doesn't, unless it is listed here with the reason.

Run it with `make coverage`.
"""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import coverage

ROOT = Path(__file__).resolve().parents[2]
ENGINE = (
    "apply", "attempt", "build", "changes", "collect", "commit", "compact", "define", "draft", "erasure", "fetch", "garbage",
    "land", "merging", "policy", "promote", "retire", "runs", "successor",
)  # fmt: skip
STORAGE = ("descriptors", "manifest")
FILES = (
    *(f"bucketdex/engine/{name}.py" for name in ENGINE),
    *(f"bucketdex/storage/{name}.py" for name in STORAGE),
)
SEEDS = 2_000  # as many as the test suite plays


class Unreached(NamedTuple):
    """A branch that no world takes: the file and the function, the text of the line that it leaves or that isn't run,
    after as many lines before it as make it one of its kind in the function, and why.
    """

    file: str
    function: str
    line: str
    why: str


UNREACHED = (
    Unreached("bucketdex/engine/compact.py", "Compactor.compact", "for _ in range(STEPS_MAX):", "a bound of 10,000 steps"),
    Unreached(
        "bucketdex/engine/compact.py", "Compactor._merge", "return landed\nreturn landed", "a bound of 10,000 steps",
    ),
    Unreached(
        "bucketdex/engine/compact.py", "Compactor.compact", "raise  # a file that is still listed is lost",
        "what must never be",
    ),
    Unreached(
        "bucketdex/engine/define.py", "Definer.define", "raise _gave_up(definition.name)",
        "a bound that two deployers don't come to",
    ),
    Unreached(
        "bucketdex/engine/define.py", "Definer.rebuild", "raise _gave_up(table)",
        "a bound that two deployers don't come to",
    ),
    Unreached(
        "bucketdex/engine/define.py", "_gave_up",
        'return CommitGaveUpError(f"table {table}: it was changed by others again and again; try again")',
        "a bound that two deployers don't come to",
    ),
    Unreached(
        "bucketdex/engine/define.py", "Definer._define_both", "except TableNotFoundError:\nreturn None",
        "a successor that is swept away between two requests of a definition: tests/unit/test_engine_successor",
    ),
    Unreached(
        "bucketdex/engine/define.py", "Definer._refuse_other_manager", "raise ManagedByStackError(",
        "no stack here: tests/unit/test_engine_definitions",
    ),
    Unreached(
        "bucketdex/engine/define.py", "_is_same", "except DefinitionError:  # as another version wrote it",
        "one version runs here: tests/unit/test_engine_retiring",
    ),
    Unreached(
        "bucketdex/engine/retire.py", "_retiring", "except DefinitionError:  # as another version of the code wrote it",
        "one version runs here: tests/unit/test_engine_retiring",
    ),
    Unreached(
        "bucketdex/engine/retire.py", "_retiring.kept",
        "if state.hash == view_of(old, candidate.name).hash:  # else this version of the code can't read it",
        "one version runs here: tests/unit/test_engine_retiring",
    ),
    Unreached("bucketdex/engine/retire.py", "_state", 'if state.state == "ready":', "whatever retires is ready"),
    Unreached(
        "bucketdex/engine/build.py", "Builder.build",
        'raise BucketdexError(f"table {table}: it was defined anew again and again while it was rebuilt; run it again")',
        "a bound that two deployers don't come to",
    ),
    Unreached(
        "bucketdex/engine/build.py", "Builder._target", "for _ in range(ROUNDS_MAX):",
        "a bound: ten successors in a row, each gone between two loads",
    ),
    Unreached(
        "bucketdex/engine/collect.py", "Collector.collect", "return Collected(expired=len(expired))",
        "a promotion between a swap of its successor's collection and the deletions; sweeps meet it at the same place",
    ),
    Unreached(
        "bucketdex/engine/compact.py", "Compactor.compact", "if gave_up == GIVE_UPS_MAX:\nraise",
        "a bound of ten steps in a row that gave up",
    ),
    Unreached(
        "bucketdex/engine/merging.py", "_settler", "return None  # dropped since the step before",
        "a definition between two steps of one summary's merge that no other swap comes between",
    ),
    Unreached(
        "bucketdex/engine/fetch.py", "ObjectReader.parts", "if self._definition.match(self.key) is None:\nreturn",
        "every key here is the table's: tests/unit/test_engine_failures",
    ),
    Unreached(
        "bucketdex/engine/fetch.py", "ObjectReader.parts",
        'yield self._reject("too_large", f"{got.size} bytes; max_object_bytes is {limit}")',
        "no object here is large enough: tests/unit/test_engine_failures",
    ),
    Unreached(
        "bucketdex/engine/fetch.py", "ObjectReader.parts",
        'yield self._reject("too_large", f"{got.size} bytes; max_object_bytes is {limit}")\nreturn',
        "no object here is large enough: tests/unit/test_engine_failures",
    ),
    Unreached(
        "bucketdex/engine/fetch.py", "ObjectReader._tags", "try:", "no tags here: tests/unit/test_engine_failures"
    ),
    Unreached(
        "bucketdex/engine/fetch.py", "ObjectReader._tags", "return self._store.tags(self.key)",
        "no tags here: tests/unit/test_engine_failures",
    ),
    Unreached(
        "bucketdex/engine/fetch.py", "ObjectReader._tags", "except KeyMissingError as error:",
        "no tags here: tests/unit/test_engine_failures",
    ),
    Unreached(
        "bucketdex/storage/manifest.py", "ManifestStore.received",
        'raise StorageError(f"{manifest_path(table)} names descriptors that do not exist")',
        "a bound: five manifests in a row, replaced and collected while each is read",
    ),
    Unreached(
        "bucketdex/storage/manifest.py", "ManifestStore._replace", "raise failure",
        "a permission that is taken away: tests/unit/test_storage_manifest",
    ),
)  # fmt: skip


def functions(source: str) -> dict[int, str]:
    """The function that each line of a module belongs to, with its class; lines outside of any are left out."""
    found: dict[int, str] = {}

    def visit(node: ast.AST, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = f"{outer}.{child.name}".lstrip(".")
                if isinstance(child, ast.FunctionDef):
                    found.update(dict.fromkeys(range(child.lineno, (child.end_lineno or 0) + 1), name))
                visit(child, name)
            else:
                visit(child, outer)

    visit(ast.parse(source), "")
    return found


def is_at(each: Unreached, source: list[str], line: int) -> bool:
    """Whether the line of a module is the listed one."""
    texts = each.line.split("\n")
    return [text.strip() for text in source[line - len(texts) : line]] == texts


def measure(job: int, jobs: int, seeds: int, folder: str) -> None:
    """Plays its share of the seeds and leaves what ran in a data file."""
    measured = coverage.Coverage(
        branch=True, concurrency=["greenlet"], data_file=str(Path(folder) / f"data.{job}"), config_file=False,
        include=[str(ROOT / file) for file in FILES],
    )  # fmt: skip
    measured.start()
    from world import run_seed  # late: what is imported is measured too

    for seed in range(job, seeds, jobs):
        run_seed(seed)
    measured.stop()
    measured.save()


def report(folder: str) -> dict[str, Any]:
    """What all jobs ran together, as coverage.py's JSON."""
    measured = coverage.Coverage(branch=True, data_file=str(Path(folder) / "data"), config_file=False)
    measured.combine([folder])
    path = Path(folder) / "report.json"
    measured.json_report(outfile=str(path))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def missing(source: str, found: dict[str, Any]) -> list[tuple[int, str]]:
    """The lines of a module that no world ran, and the branches that none took, as (line, what); of a handler of errors
    that wasn't run its first line only.
    """
    unrun = set(found["missing_lines"])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.lineno in unrun:
            unrun -= set(range(node.lineno + 1, (node.end_lineno or 0) + 1))
    gaps = [(line, "isn't run") for line in unrun]
    for start, end in found["missing_branches"]:
        if start not in found["missing_lines"] and end not in unrun:
            gaps.append((start, f"never goes on to {'the end' if end < 0 else f'line {end}'}"))
    return sorted(gaps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spawn = multiprocessing.get_context("spawn")
        workers = [
            spawn.Process(target=measure, args=(job, options.jobs, options.seeds, folder))
            for job in range(options.jobs)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise SystemExit("a seed failed: see `make soak`")
        files = report(folder)["files"]
    unknown, used = 0, set()
    by_name = {Path(path).resolve().relative_to(ROOT).as_posix(): found for path, found in files.items()}
    for file in FILES:
        text_of = (ROOT / file).read_text()
        source, within = text_of.splitlines(), functions(text_of)
        summary = by_name[file]["summary"]
        print(f"{summary['covered_branches']:>4} of {summary['num_branches']:>4} branches  {file}")
        for line, what in missing(text_of, by_name[file]):
            text = source[line - 1].strip()
            here = [each for each in UNREACHED if (each.file, each.function) == (file, within.get(line, ""))]
            listed = next((each for each in here if is_at(each, source, line)), None)
            if listed is not None:
                used.add(listed)
                print(f"       line {line}: {listed.why}")
            else:
                unknown += 1
                print(f"       line {line} {what}: {text}")
    stale = [each for each in UNREACHED if each not in used]
    for each in stale:
        print(f"{each.file}: it does run, so take it off the list: {each.function}: {each.line}")
    raise SystemExit(f"{unknown} branches that no seed of {options.seeds} takes" if unknown else 0)


if __name__ == "__main__":
    main()
