"""README and docs show code that runs, commands and targets that exist, and links that lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from obstore.store import MemoryStore

import bucketdex
from bucketdex.cli.main import main
from bucketdex.cli.reference import page
from bucketdex.cli.session import Session
from bucketdex.client import Database
from bucketdex.client.deadletters import DeadLetters
from bucketdex.definition import TableDefinition
from bucketdex.local.tools import node_directory

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([\w-]+))?\)")
NOT_OURS = ("cd", "eval", "export", "git", "npx", "pip", "zstd")  # programs that the docs may show beside ours

ORDERS = (
    b'{"id": "1", "country": "DE", "amount": 120.50, "created_at": "2026-01-02T10:00:00Z", "customer": {"id": "C1"}}\n'
    b'{"id": "2", "country": "DE", "amount": 99, "created_at": "2026-01-03T10:00:00Z", "customer": {"id": "C2"}}\n'
    b'{"id": "3", "country": "FR", "amount": "ten", "created_at": "2026-01-03T10:00:00Z"}\n'
)


def blocks(path: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(path.read_text()) if found == language]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """An index with orders, and a working directory with what the docs name."""
    shutil.copytree(ROOT / "tables", tmp_path / "tables")
    (tmp_path / "new.ndjson").write_bytes(ORDERS.splitlines(keepends=True)[0])
    monkeypatch.chdir(tmp_path)
    data = MemoryStore()
    data.put("orders/17.ndjson", ORDERS)
    database = Database(MemoryStore(), data=data)
    database.create_table(TableDefinition.load("tables/orders.toml")).reindex(["orders/17.ndjson"])
    return database


@pytest.fixture
def names(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples import: a Database at a URL is the shop's; CDK runs on the Node that the project pins."""

    def opened(index: object = None, **arguments: object) -> Database:
        return shop if index is None or isinstance(index, str) else Database(index, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bucketdex, "Database", opened, raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join([str(node_directory()), os.environ["PATH"]]))
    monkeypatch.setenv("JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION", "1")


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "python")], ids=lambda path: path.name)
@pytest.mark.usefixtures("names")
def test_python_examples_run(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    for text in blocks(path, "python"):
        code = text.replace("/path/to/tables", str(tmp_path / "tables"))
        exec(compile(code, str(path), "exec"), namespace)
    if path.name == "README.md":
        assert "Decimal('120.5')" in capsys.readouterr().out


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "sh")], ids=lambda path: path.name)
def test_commands_run(path: Path, shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeadLetters, "from_stack", lambda stack: DeadLetters({}, None))  # type: ignore[arg-type]
    for line in "".join(blocks(path, "sh")).splitlines():
        program, *arguments = shlex.split(line, comments=True) or ["cd"]
        if program == "make":
            assert arguments[0] in targets(), line
        elif program == "bucketdex":
            assert main(arguments, started=Session(lambda _: shop)) == 0, line
        else:
            assert program in NOT_OURS, line


def test_the_readme_shows_what_it_says() -> None:
    """A definition, a query, both commands and the construct: none may get lost."""
    [definition] = blocks(ROOT / "README.md", "toml")
    table = TableDefinition.from_dict("orders", tomllib.loads(definition))
    assert [index.name for index in table.indexes] == ["by_customer", "by_country"]
    python, shell = "".join(blocks(ROOT / "README.md", "python")), "".join(blocks(ROOT / "README.md", "sh"))
    assert "BucketIndex(" in python and ".where(" in python and ".summary(" in python
    assert "bucketdex query" in shell and " deploy" in shell
    first = (ROOT / "README.md").read_text().partition("## A first answer")[2].partition("\n## ")[0]
    code = [
        line
        for text in (*blocks(ROOT / "README.md", "sh")[:1], *blocks(ROOT / "README.md", "python")[:1])
        for line in text.splitlines()
    ]
    assert len(code) <= 20 and all(line in first for line in code)


def test_the_command_line_page_is_current() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == page(), "run make docs"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text()):
        if not target.startswith("https://"):
            found = path.parent / target
            assert found.exists(), target
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE) if anchor else []
            assert not anchor or anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_inline_names_of_targets_and_files_exist() -> None:
    for path in PAGES:
        for target in re.findall(r"`make ([\w-]+)", path.read_text()):
            assert target in targets(), f"{path.name}: make {target}"


def test_what_a_look_up_costs_follows_from_the_tables() -> None:
    """docs/scale.md: 1 manifest + descriptors + 2 x runs + 1 block, at each number of rows that is named."""
    text = (ROOT / "docs" / "scale.md").read_text()
    runs = dict(re.findall(r"^\| (10\^\d+) \| [\d,]+ \| (\d+) \(\d+\) ", text, re.MULTILINE))
    descriptors = dict(re.findall(r"^\| (10\^\d+) \| [\d,]+ \| \d+ KiB \| (\d+) ", text, re.MULTILINE))
    assert runs.keys() == descriptors.keys() and len(runs) == 5
    [said] = re.findall(r"20,000 rows \(counted\); (.*)\n\(by the formula", text)
    cold = {rows: 2 + int(descriptors[rows]) + 2 * int(runs[rows]) for rows in runs}
    assert {rows: int(count) for count, rows in re.findall(r"(\d+) at (10\^\d+)", said)} == cold


def test_metrics_and_functions_are_named() -> None:
    functions = sorted(path.parent.name for path in (ROOT / "functions").glob("*/handler.py"))
    source = "".join(path.read_text() for path in (ROOT / "functions").rglob("*.py"))
    metrics = set(re.findall(r'add_metric\(\s*"(\w+)"', source))
    for table in ("report.py", "turn.py"):
        [path] = (ROOT / "functions").rglob(table)
        metrics |= set(re.findall(r'"([A-Z]\w+)": ', path.read_text()))
    assert metrics > {"Rows", "Stale", "CompactionSteps", "BackfillsFailed"} and len(functions) == 5
    page = (ROOT / "docs" / "deployment.md").read_text()
    assert sorted(name for name in metrics if f"`{name}`" not in page) == []
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in functions if name not in changes] == []


def test_help_lists_every_target() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([\w-]+)", shown, re.MULTILINE)) == targets()


def test_the_version_is_said_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert bucketdex.__version__ == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_requirements_are_pinned_and_those_of_the_functions() -> None:
    pinned = [
        dict(line.partition(";")[0].split("==") for line in text.splitlines() if line and not line.startswith("#"))
        for text in requirements()
    ]
    shared = set(pinned[0]) & set(pinned[1])
    assert shared >= {"msgspec", "tzdata"}
    assert [pinned[0][name] for name in shared] == [pinned[1][name] for name in shared]


def requirements() -> list[str]:
    return [(ROOT / name).read_text() for name in ("requirements.txt", "functions/requirements.txt")]


def targets() -> set[str]:
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(phony.split())
