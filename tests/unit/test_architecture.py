"""The layout's rules: packages import one way only, and the core takes time and randomness from the runtime alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bucketdex"

# Each layer may import itself and those before it.
LAYERS = ("errors", "runtime", "definition", "source", "storage", "views", "engine", "query", "client", "local", "cli")
DETERMINISTIC = ("definition", "source", "storage", "views", "engine", "query")
OUTSIDE_MODULES = {"time", "random", "uuid", "secrets"}
OUTSIDE_NAMES = {"os.urandom", "os.getrandom", "os.times", "os.getpid"}
PROCESS_FUNCTIONS = {"id", "hash"}
CLOCK_METHODS = {"now", "utcnow", "today"}
HEAVY_MODULES = ("boto3", "botocore", "rich", "typer", "pandas", "polars", "pyarrow", "duckdb", "aws_cdk")


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def layer_of(path: Path) -> str:
    """The layer of a file of the package: its folder, or its own name at the top."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def package_of(path: Path) -> list[str]:
    """The package that relative imports in this file start from."""
    return list(path.relative_to(ROOT).parent.parts)


def imported(tree: ast.AST, package: list[str]) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything that a module imports, wherever in the module it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*stem, alias.name])


def wrong_imports(path: Path, source: str, layer: str) -> list[str]:
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    found = []
    for line, name in imported(ast.parse(source), package_of(path)):
        parts = name.split(".")
        if parts[0] in {"functions", "infra", "tests", "examples", "benchmarks"}:
            found.append(f"{path}:{line} imports {name}")
        exported = parts[1:2] == [] or parts[1] not in LAYERS  # by the package itself: what a user imports
        if parts[0] == "bucketdex" and ("client" if exported else parts[1]) not in allowed:
            found.append(f"{path}:{line} imports {name}, but {layer} may import only {', '.join(allowed)}")
    return found


def outside_world(path: Path, source: str) -> list[str]:
    """Where a module reads a clock or draws at random, under whatever name."""
    tree = ast.parse(source)
    found = [
        f"{path}:{line} imports {name}"
        for line, name in imported(tree, package_of(path))
        if name.split(".")[0] in OUTSIDE_MODULES or name in OUTSIDE_NAMES
    ]
    names = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = dotted(node, names)
            if name.split(".")[-1] in CLOCK_METHODS and {"datetime", "date"} & set(name.split(".")[:-1]):
                found.append(f"{path}:{node.lineno} reads the clock: {name}")
            if name in OUTSIDE_NAMES:
                found.append(f"{path}:{node.lineno} draws random bytes: {name}")
    return found


def process_dependent(path: Path, source: str) -> list[str]:
    """Where a module asks for addresses or hashes, which differ from process to process; see also the simulation's
    replay in processes that hash strings otherwise.
    """
    return [
        f"{path}:{node.lineno} calls {node.func.id}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROCESS_FUNCTIONS
    ]


def aliases(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The name of an attribute, from where it was imported on."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def test_every_package_is_a_layer() -> None:
    present = {layer_of(path) for path in modules(PACKAGE)} - {"__init__", "__main__"}
    assert present <= set(LAYERS), "a new package needs a place in the order (and in docs/architecture.md)"
    assert present >= {"errors", "runtime", "definition", "source", "storage", "cli"}


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    paths = [path for path in modules(PACKAGE) if layer_of(path) == layer]
    assert paths, f"no module in {layer}"
    assert [wrong for path in paths for wrong in wrong_imports(path, path.read_text(), layer)] == []


@pytest.mark.parametrize("layer", DETERMINISTIC)
def test_time_and_randomness_come_from_the_runtime(layer: str) -> None:
    paths = [path for path in modules(PACKAGE) if layer_of(path) == layer]
    assert [wrong for path in paths for wrong in outside_world(path, path.read_text())] == []


@pytest.mark.parametrize("layer", [layer for layer in DETERMINISTIC if layer != "query"])
def test_what_changes_an_index_is_alike_in_every_process(layer: str) -> None:
    paths = [path for path in modules(PACKAGE) if layer_of(path) == layer]
    assert [wrong for path in paths for wrong in process_dependent(path, path.read_text())] == []


def test_functions_and_infra_leave_the_command_line_alone() -> None:
    for folder in ("functions", "infra"):
        for path in modules(ROOT / folder):
            names = [name for _, name in imported(ast.parse(path.read_text()), package_of(path))]
            assert not [name for name in names if name.startswith("bucketdex.cli")], path


def test_paths_of_the_index_are_built_in_one_module() -> None:
    for path in modules(PACKAGE):
        if layer_of(path) in DETERMINISTIC and path != PACKAGE / "storage" / "paths.py":
            tree = ast.parse(path.read_text())
            texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
            docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if _can_document(node)}
            built = [text for text in texts if isinstance(text, str) and text.startswith("tables/")]
            assert [text for text in built if text not in docstrings] == [], path


def _can_document(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


@pytest.mark.parametrize(
    ("source", "layer", "wrong"),
    [
        ("from bucketdex.engine import apply", "storage", True),
        ("from ..engine import apply", "storage", True),
        ("def f():\n    import bucketdex.cli.main", "client", True),
        ("from bucketdex import Database", "query", True),
        ("import bucketdex", "engine", True),
        ("from bucketdex import Database", "local", False),
        ("from bucketdex import storage", "source", True),
        ("import functions.indexer.handler", "engine", True),
        ("from bucketdex.definition.table import TableDefinition", "storage", False),
        ("from . import paths", "storage", False),
        ("import json", "storage", False),
    ],
)
def test_the_import_rule_sees(source: str, layer: str, wrong: bool) -> None:
    assert bool(wrong_imports(PACKAGE / layer / "made_up.py", source, layer)) is wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import time", True),
        ("def f():\n    from random import random", True),
        ("import uuid as u", True),
        ("import datetime\nx = datetime.datetime.now()", True),
        ("from datetime import date\nx = date.today()", True),
        ("import os\nx = os.urandom(8)", True),
        ("from os import urandom\nx = urandom(8)", True),
        ("import os as o\nx = o.urandom", True),
        ("from datetime import datetime as d\nx = d.now()", True),
        ("import datetime as dt\nread = dt.datetime.now", True),
        ("def f(runtime):\n    return runtime.now()", False),
        ("from datetime import datetime\nx = datetime.fromisoformat('2026-01-02')", False),
    ],
)
def test_the_runtime_rule_sees(source: str, wrong: bool) -> None:
    assert bool(outside_world(PACKAGE / "engine" / "made_up.py", source)) is wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("def f(x):\n    return id(x)", True),
        ("def f(x):\n    return hash(x) % 8", True),
        ("def f(x):\n    return x.id", False),
    ],
)
def test_the_process_rule_sees(source: str, wrong: bool) -> None:
    assert bool(process_dependent(PACKAGE / "engine" / "made_up.py", source)) is wrong


def test_importing_the_package_is_light() -> None:
    """What a function or a script pays at start: none of the heavy libraries, boto3 included."""
    code = (
        "import sys, bucketdex; bucketdex.Database; bucketdex.col; bucketdex.TableDefinition;"
        f"print(*[name for name in {HEAVY_MODULES!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
