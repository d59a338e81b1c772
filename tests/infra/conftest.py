"""The synthesized template, once for all infra tests: synthesis takes seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bucketdex.local.tools import node_directory

TABLES = {
    "orders": '[source]\nprefix = "orders/"\nformat = "ndjson"\n[fields]\nid = "string"\n[indexes]\nby_id = ["id"]\n',
    "events": '[source]\nkey = "logs/day={day}/{name}"\nformat = "json"\n[fields]\nday = {type = "date", from = "key"}\n',
    "photos": '[source]\nprefix = "photos/"\nformat = "blob"\n[fields]\nowner = {type = "string", from = "tag"}\n',
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def pinned_node() -> Iterator[None]:
    """jsii runs on the Node that the project pins, not on the machine's."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PATH", os.pathsep.join([str(node_directory()), os.environ["PATH"]]))
    patch.setenv("JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION", "1")
    yield
    patch.undo()


def write_tables(folder: Path, names: tuple[str, ...] = tuple(TABLES)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.toml").write_text(TABLES[name])
    return folder


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("definitions"))


Synth = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def synth(tables: Path) -> Synth:
    """Synthesizes a stack with a BucketIndex of the given arguments; `buckets(stack)` adds some of them."""
    import aws_cdk as cdk
    from aws_cdk.assertions import Template

    from infra import BucketIndex

    def run(
        buckets: Callable[[cdk.Stack], dict[str, Any]] = lambda _: {},
        *,
        context: dict[str, Any] | None = None,
        then: Callable[[cdk.Stack, BucketIndex], None] = lambda *_: None,
        **arguments: Any,
    ) -> dict[str, Any]:
        stack = cdk.Stack(cdk.App(context=context), "Shop")
        index = BucketIndex(stack, "Index", **{"tables": tables, **buckets(stack), **arguments})
        then(stack, index)
        return dict(Template.from_stack(stack).to_json())

    return run


@pytest.fixture(scope="session")
def template(tables: Path) -> dict[str, Any]:
    """The template of the thin stack."""
    import aws_cdk as cdk
    from aws_cdk.assertions import Template

    from infra import BucketdexStack

    return dict(Template.from_stack(BucketdexStack(cdk.App(), "Shop", tables=tables)).to_json())
