"""A compaction in a process of its own: its rate and its peak memory. `python -m benchmarks.peak FOLDER TABLE VIEW`
prints them as JSON.

The folder holds an index as files. They are read into a memory store first, so the peak counts the view's files, old
and new, on top of what the compaction itself needs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.workbench import SequentialRuntime, Workbench
from bucketdex.engine import Engine
from bucketdex.storage import GetRequest, open_index_store

ROOT = Path(__file__).parents[1]


class Peak(NamedTuple):
    """Rows of the merged runs, processor seconds, the most memory ever resident, the bytes of all files held."""

    rows: int
    cpu_s: float
    peak_bytes: int
    held_bytes: int


def compact_elsewhere(bench: Workbench, view: str) -> Peak:
    """Merges all runs of a view of a workbench in a fresh process; the workbench stays as it is."""
    with TemporaryDirectory() as folder:
        for run in bench.manifest.views[view].runs:
            for entry in run.files:
                _save(bench, Path(folder), entry.path)
        _save(bench, Path(folder), f"tables/{bench.name}/manifest.json")
        command = [sys.executable, "-m", "benchmarks.peak", folder, bench.name, view]
        ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return Peak(**json.loads(ran.stdout))


def _save(bench: Workbench, folder: Path, path: str) -> None:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(bench.index.inner.get(GetRequest(path)).body)


def compact_here(folder: Path, table: str, view: str) -> Peak:
    """Merges all runs of a view into one, in this process."""
    store = open_index_store("memory://")
    for file in folder.rglob("*"):
        if file.is_file():
            store.put(file.relative_to(folder).as_posix(), file.read_bytes())
    engine = Engine(store, store, SequentialRuntime())
    rows = sum(run.rows for run in engine.load(table).manifest.views[view].runs)
    began = time.process_time()
    engine.compact(table, view, mode="full")
    spent = time.process_time() - began
    (run,) = engine.load(table).manifest.views[view].runs
    assert run.rows == rows, "a merge of distinct rows lost some"
    return Peak(rows, spent, peak_bytes(), sum(item.size for item in store.list("")))


def peak_bytes() -> int:
    """The most memory that was ever resident in this process.

    Not by getrusage where Linux tells otherwise: a child's maximum starts at its parent's size.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    print(json.dumps(compact_here(Path(sys.argv[1]), sys.argv[2], sys.argv[3])._asdict()))
