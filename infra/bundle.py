"""Function bundles: what lies in the folder that Lambda unpacks, and how it is built without Docker."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import bucketdex
from bucketdex.definition import TableDefinition, load_tables

FUNCTIONS = Path(__file__).resolve().parents[1] / "functions"
REQUIREMENTS = FUNCTIONS / "requirements.txt"
PACKAGE = Path(bucketdex.__file__).resolve().parent

TABLES_FILE = "tables.json"
CONTENT, ARCHIVE = "content", "content.zip"
# Parts of the package that only people's machines need.
CLIENT_PARTS = frozenset({"cli", "client", "local", "query"})
PRUNED = ("__pycache__", "*.pyc", "tests", "*.dist-info", "*.pyi", "py.typed", "bin", "*-stubs")
PIP_TIMEOUT_S = 600
# A marker in the requirements would not do: pip judges it by the interpreter it runs on, not by the target.
ZSTD_BACKPORT, ZSTD_IN_PYTHON = "backports.zstd==", (3, 14)


class Target(NamedTuple):
    """The interpreter and platform that a bundle runs on: the version as in 3.13, pip's tags, the best first."""

    name: str
    python: str
    platforms: tuple[str, ...]

    def pip_options(self) -> list[str]:
        """The options with which pip picks wheels for this target."""
        tags = [option for platform in self.platforms for option in ("--platform", platform)]
        return ["--python-version", self.python, "--implementation", "cp", *tags]


# pip takes no older manylinux tag on its own: each that Amazon Linux 2023 (glibc 2.34) can load is named.
LAMBDA_ARM64 = Target(
    "lambda-arm64",
    "3.13",
    (*(f"manylinux_2_{minor}_aarch64" for minor in (34, 28, 24, 17)), "manylinux2014_aarch64"),
)


def this_machine() -> Target:
    """The target that is this interpreter on this machine: what the local emulator runs functions with."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return Target(f"local-{platform}", f"{sys.version_info.major}.{sys.version_info.minor}", ())


class Bundle(NamedTuple):
    """A finished bundle: its folder, the same as an archive, the hash of all that went into it, and its tables."""

    path: Path
    archive: Path
    hash: str
    tables: tuple[TableDefinition, ...]


def default_build_directory() -> Path:
    """The user's cache: bundles depend on their inputs only, so every app on this machine may share them."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bucketdex" / "bundles"


def build(tables: str | Path, target: Target = LAMBDA_ARM64, *, build_directory: Path | None = None) -> Bundle:
    """The bundle of all functions for these tables (an absolute path of a folder of TOML files).

    Built at most once per content: the folder's name is a hash of the pinned requirements, the target, the
    sources and the tables, and it appears by a rename, so a folder that exists is whole. Raises DefinitionError
    for bad tables, ValueError for a relative path, RuntimeError with pip's words when a wheel can't be had.
    """
    directory = Path(tables)
    if not directory.is_absolute():
        raise ValueError(f"tables={str(tables)!r} would depend on the working directory; give an absolute path")
    definitions = load_tables(directory)
    files = dict(_code(directory, definitions))
    tables_json = json.dumps({table.name: table.to_dict() for table in definitions}).encode()
    hashes = [f"{name} {_digest(path.read_bytes())}" for name, path in sorted(files.items())]
    digest = _digest("\n".join([_dependency_hash(target), _digest(tables_json), *hashes]).encode())
    root = build_directory or default_build_directory()
    final = root / f"bundle-{digest}"
    if not final.exists():
        dependencies = _dependencies(target, root)
        with _appearing(final) as building:
            content = building / CONTENT
            shutil.copytree(dependencies, content)
            for name, path in files.items():
                (content / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, content / name)
            (content / TABLES_FILE).write_bytes(tables_json)
            _pack(content, building / ARCHIVE)
    return Bundle(final / CONTENT, final / ARCHIVE, digest, definitions)


def _code(tables: Path, definitions: Iterable[TableDefinition]) -> Iterator[tuple[str, Path]]:
    """(name in the bundle, file) of our package, the handlers, and the extractor modules beside the tables."""
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] not in CLIENT_PARTS:
            yield f"bucketdex/{relative.as_posix()}", path
    for path in sorted(FUNCTIONS.rglob("*.py")):
        yield f"functions/{path.relative_to(FUNCTIONS).as_posix()}", path
    for definition in definitions:
        if definition.source.extractor:
            yield from _extractor(tables, definition.source.extractor.split(":")[0])


def _extractor(tables: Path, module: str) -> Iterator[tuple[str, Path]]:
    top = module.split(".")[0]
    found = [tables / f"{top}.py", *sorted((tables / top).rglob("*.py"))]
    existing = [path for path in found if path.is_file()]
    if not existing:
        raise ValueError(f"extractor module {module!r} not found: put {top}.py beside the tables, in {tables}")
    for path in existing:
        yield path.relative_to(tables).as_posix(), path


def _requirements(target: Target) -> list[str]:
    lines = (line.strip() for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#"))
    version = tuple(int(part) for part in target.python.split("."))
    return [line for line in lines if line and not (line.startswith(ZSTD_BACKPORT) and version >= ZSTD_IN_PYTHON)]


def _dependency_hash(target: Target) -> str:
    # This module is an input too: what it prunes and how it packs.
    return _digest(repr(target).encode() + REQUIREMENTS.read_bytes() + Path(__file__).read_bytes())


def _dependencies(target: Target, root: Path) -> Path:
    """The pinned wheels of the functions, unpacked and pruned; one folder per requirements and target."""
    final = root / f"dependencies-{_dependency_hash(target)}"
    if final.exists():
        return final
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-deps", "--only-binary=:all:", *_requirements(target)]
    if target.platforms:
        command += target.pip_options()
    with _appearing(final) as building:
        done = subprocess.run(  # noqa: S603 (our own interpreter and a fixed argument list)
            [*command, "--target", str(building)], capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"pip could not build the function bundle for {target.name}:\n{done.stderr.strip()}")
        for pattern in PRUNED:
            for path in sorted(building.rglob(pattern), reverse=True):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return final


def _pack(folder: Path, archive: Path) -> None:
    """The folder as Lambda takes it: readable for everybody whatever the umask here, and the same bytes every time."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            packed.writestr(entry, path.read_bytes())


class _appearing:  # noqa: N801 (used as a statement)
    """A folder that others see only whole: filled beside its final name, then renamed; a race's loser gives way."""

    def __init__(self, final: Path) -> None:
        self._final = final

    def __enter__(self) -> Path:
        self._final.parent.mkdir(parents=True, exist_ok=True)
        self._building = Path(tempfile.mkdtemp(prefix=".building-", dir=self._final.parent))
        self._building.chmod(0o755)
        return self._building

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            try:
                self._building.rename(self._final)
                return
            except OSError:
                if not self._final.exists():
                    raise
        shutil.rmtree(self._building, ignore_errors=True)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
