"""Commands of the local deployment: start, deploy, status, stop."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bucketdex.cli.output import write_facts
from bucketdex.cli.progress import steps
from bucketdex.errors import LocalDeploymentError

if TYPE_CHECKING:
    from bucketdex.local import Deployment

app = typer.Typer(help="The whole deployment on this machine, on an emulator of AWS.", no_args_is_help=True)

NOTHING_RUNS = "no local deployment runs; start one: bucketdex local deploy"


@app.command()
def start(
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, metavar="N", help="Unless given: a free one.")
    ] = None,
) -> None:
    """Start the emulator, with nothing deployed on it."""
    from bucketdex import local

    with steps("starting") as step:
        deployment = local.start(port=port, progress=step)
    _show(deployment)


@app.command()
def deploy(
    tables: Annotated[
        Path | None,
        typer.Option(
            "--tables", metavar="FOLDER", help="The table definitions; ./tables of the checkout unless given."
        ),
    ] = None,
    stack: Annotated[str | None, typer.Option("--stack", metavar="NAME", help="The stack's name.")] = None,
) -> None:
    """Deploy the stack to the emulator, which is started if none runs. Deploying again keeps the data."""
    from bucketdex import local

    with steps("deploying") as step:
        deployment = local.deploy(tables, **({"stack": stack} if stack else {}), progress=step)
    _show(deployment)


@app.command()
def status(
    export: Annotated[
        bool, typer.Option("--export", help='For a shell: eval "$(bucketdex local status --export)"')
    ] = False,
) -> None:
    """Print where the emulator is and what is deployed on it."""
    from bucketdex import local

    deployment = local.status()
    if export:
        if deployment is None:
            raise LocalDeploymentError(NOTHING_RUNS)
        for name, value in deployment.variables().items():
            print(f"export {name}={shlex.quote(value)}")
    elif deployment is None:
        print(NOTHING_RUNS)
    else:
        _show(deployment)


@app.command()
def stop() -> None:
    """Stop the emulator and delete its data."""
    from bucketdex import local

    print("stopped; its data is gone" if local.stop() else "nothing to stop: no local deployment runs")


def _show(deployment: Deployment) -> None:
    write_facts({
        "endpoint": deployment.endpoint,
        "stack": deployment.stack or "none yet (bucketdex local deploy)",
        **deployment.outputs,
        "log": str(deployment.log),
        "to use it": 'eval "$(bucketdex local status --export)"',
    })  # fmt: skip
