"""The command line's help as a Markdown page: `python -m bucketdex.cli.reference > docs/cli.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from bucketdex.cli.main import app

HEAD = """# Command line

Written from `bucketdex --help` by `make docs`; a test compares.

`--index` says where the index is, before or after the command's name; without it, `BUCKETDEX_INDEX` does. Data goes to
standard output, everything else to standard error. An error is one line there and exit code 1; `BUCKETDEX_TRACEBACK=1`
shows where it arose.
"""


def page() -> str:
    """The page, ending with a newline."""
    command = typer.main.get_command(app)
    return "\n".join([HEAD, *_sections(command, "bucketdex", None)]).rstrip() + "\n"


def _sections(command: Any, name: str, parent: Any) -> Iterator[str]:
    """One section per command, in the order of the help. Any: typer brings click along in a private module."""
    context = type(command).context_class(command, info_name=name.split()[-1], parent=parent)
    children = getattr(command, "commands", {})
    if parent is not None and not children:
        yield f"## {name}\n"
        yield inspect.cleandoc(command.help) + "\n"
        arguments = [item for item in command.params if item.param_type_name == "argument"]
        yield "    " + " ".join([name, *(item.metavar for item in arguments), "[OPTIONS]"]) + "\n"
        if command.params:
            yield "| | |\n|---|---|"
            yield from (f"| `{_cell(_written(item))}` | {_cell(item.help)} |" for item in command.params)
            yield ""
    for child in children.values():
        yield from _sections(child, f"{name} {child.name}", context)


def _written(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    return ", ".join(parameter.opts) + (f" {parameter.metavar}" if parameter.metavar else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
