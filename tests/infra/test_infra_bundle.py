"""The function bundles: complete, for the right platform, and nothing that a function doesn't need."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra import bundle
from infra.bundle import LAMBDA_ARM64, Bundle, build, this_machine
from tests.infra.conftest import write_tables

REPOSITORY = Path(__file__).resolve().parents[2]
# What Lambda's Python runtime brings along.
RUNTIME_PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
ENVIRONMENT = {
    "INDEX_BUCKET": "index",
    "DATA_BUCKET": "data",
    "EVENT_QUEUE_URL": "https://sqs/events",
    "BACKFILL_QUEUE_URL": "https://sqs/pages",
    "BACKFILLER_NAME": "backfiller",
    "MAINTENANCE_QUEUE_URL": "https://sqs/maintenance.fifo",
    "POWERTOOLS_SERVICE_NAME": "test",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_XRAY_SDK_ENABLED": "true",
    "LAMBDA_TASK_ROOT": "/var/task",
}
ELF_AARCH64 = 183


@pytest.fixture(scope="session")
def local_bundle(tables: Path) -> Bundle:
    return build(tables, this_machine())


@pytest.fixture(scope="session")
def lambda_bundle(tables: Path) -> Bundle:
    return build(tables, LAMBDA_ARM64)


@pytest.fixture(scope="session")
def runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with boto3 and what it needs, as in the runtime, and nothing else of this environment."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in RUNTIME_PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin)
        source = source.parent if source.name == "__init__.py" else source
        (folder / source.name).symlink_to(source)
    return folder


@pytest.mark.parametrize("name", ["indexer", "compactor", "registrar", "backfiller", "verifier"])
def test_each_handler_imports_from_its_bundle_alone(local_bundle: Bundle, runtime_folder: Path, name: str) -> None:
    """The emulator runs functions with the interpreter that started it: a missing dependency would not show there."""
    program = f"""
import sys
import zipfile
sys.path[:] = [{str(local_bundle.path)!r}, *[p for p in sys.path if "site-packages" not in p], {str(runtime_folder)!r}]
import functions.{name}.handler as module
assert callable(module.handler)
import aws_xray_sdk, bucketdex
assert bucketdex.__file__.startswith({str(local_bundle.path)!r}), bucketdex.__file__
import zoneinfo, importlib.resources
assert importlib.resources.files("tzdata").joinpath("zones").is_file()
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_bundle_for_lambda_holds_arm64_libraries_for_its_python(lambda_bundle: Bundle) -> None:
    libraries = [path for path in lambda_bundle.path.rglob("*.so*") if path.is_file()]
    assert {path.parts[len(lambda_bundle.path.parts)] for path in libraries} >= {"obstore", "msgspec", "backports"}
    for path in libraries:
        header = path.read_bytes()[:20]
        assert int.from_bytes(header[18:20], "little") == ELF_AARCH64, path
        tag = re.search(r"cpython-(\d+)", path.name)
        assert tag is None or tag[1] == "313", path


def test_the_archive_holds_the_folder_readable_for_lambda(lambda_bundle: Bundle) -> None:
    with zipfile.ZipFile(lambda_bundle.archive) as archive:
        entries = archive.infolist()
        assert {entry.external_attr >> 16 & 0o777 for entry in entries} == {0o644}
        assert archive.testzip() is None
    files = [path for path in lambda_bundle.path.rglob("*") if path.is_file()]
    assert {entry.filename for entry in entries} == {path.relative_to(lambda_bundle.path).as_posix() for path in files}


def test_the_bundle_is_far_below_the_limit_of_lambda(lambda_bundle: Bundle) -> None:
    size = sum(path.stat().st_size for path in lambda_bundle.path.rglob("*") if path.is_file())
    assert size < 40 * 2**20


def test_the_bundle_holds_no_more_than_functions_need(local_bundle: Bundle) -> None:
    found = {path.relative_to(local_bundle.path).as_posix() for path in local_bundle.path.rglob("*")}
    for part in ("cli", "local", "client", "query"):
        assert f"bucketdex/{part}" not in found
    assert not [name for name in found if name.endswith((".pyc", ".pyi", "__pycache__")) or "/tests/" in name]
    assert not found & {"boto3", "botocore"}, "they are in the runtime"
    assert {"tables.json", "bucketdex/engine", "functions/indexer/handler.py"} <= found


def test_the_same_inputs_are_built_once(tables: Path, lambda_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pip(*_: object, **__: object) -> None:
        raise AssertionError("a cached bundle needs no pip")

    monkeypatch.setattr(subprocess, "run", no_pip)
    before = lambda_bundle.path.stat().st_mtime_ns
    again = build(tables, LAMBDA_ARM64)
    assert (again.path, again.hash, again.path.stat().st_mtime_ns) == (lambda_bundle.path, lambda_bundle.hash, before)


def test_a_changed_table_is_another_bundle(lambda_bundle: Bundle, tmp_path: Path) -> None:
    other = build(write_tables(tmp_path / "t", ("orders",)), LAMBDA_ARM64)
    assert other.hash != lambda_bundle.hash
    assert [table.name for table in other.tables] == ["orders"]


def test_extractors_lie_beside_the_tables(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "logs.toml").write_text(
        '[source]\nprefix = "logs/"\nformat = "json"\nextractor = "parsing.nginx:records"\n[fields]\nid = "string"\n'
    )
    with pytest.raises(ValueError, match="parsing"):
        build(folder, LAMBDA_ARM64)
    (folder / "parsing").mkdir()
    (folder / "parsing" / "__init__.py").write_text("")
    (folder / "parsing" / "nginx.py").write_text("def records(body): return []\n")
    built = build(folder, LAMBDA_ARM64)
    assert (built.path / "parsing" / "nginx.py").is_file()


def test_a_build_that_fails_leaves_nothing_behind(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("no-such-package-at-all==0.0.1\n")
    monkeypatch.setattr(bundle, "REQUIREMENTS", requirements)
    with pytest.raises(RuntimeError, match="no-such-package-at-all"):
        build(tables, LAMBDA_ARM64, build_directory=tmp_path / "build")
    assert list((tmp_path / "build").iterdir()) == []


def pins(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert all(line.split(";")[0].count("==") == 1 for line in lines), "every requirement is pinned"
    return {canonical(name): version for name, version in (line.split(";")[0].split("==") for line in lines)}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str) -> set[str]:
    """The packages that an installed one requires on this machine, extras aside."""
    from packaging.requirements import Requirement

    found = map(Requirement, importlib.metadata.requires(name) or ())
    return {canonical(item.name) for item in found if item.marker is None or item.marker.evaluate({"extra": ""})}


@pytest.mark.parametrize(
    ("path", "provided"),
    [
        ("functions/requirements.txt", {canonical(name) for name in RUNTIME_PACKAGES}),
        ("requirements.txt", set()),
    ],
)
def test_requirements_are_pinned_and_complete(path: str, provided: set[str]) -> None:
    """Both files name every package, so that a deployment next year installs what is tested today."""
    pinned = pins(REPOSITORY / path)
    for name in pinned:
        assert needed(name) <= set(pinned) | provided, name


def test_the_backport_is_left_out_where_python_has_it(
    monkeypatch: pytest.MonkeyPatch, tables: Path, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def record(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", record)
    for python in ("3.13", "3.14"):
        build(tables, LAMBDA_ARM64._replace(python=python), build_directory=tmp_path)
    assert [any(item.startswith("backports.zstd==") for item in command) for command in asked] == [True, False]


def test_the_functions_and_the_synthesis_share_their_libraries() -> None:
    functions, synthesis = (pins(REPOSITORY / path) for path in ("functions/requirements.txt", "requirements.txt"))
    shared = set(functions) & set(synthesis)
    assert {"msgspec", "tzdata"} <= shared
    assert {name: functions[name] for name in shared} == {name: synthesis[name] for name in shared}


def test_bundles_lie_in_the_cache_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert bundle.default_build_directory() == tmp_path / "bucketdex" / "bundles"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert bundle.default_build_directory() == tmp_path / ".cache" / "bucketdex" / "bundles"
