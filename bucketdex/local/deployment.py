"""Deploying the stack to the emulator, with the CDK command line as for a real account."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from bucketdex.definition import load_tables
from bucketdex.errors import LocalDeploymentError
from bucketdex.local import tools
from bucketdex.local.emulator import Progress, quiet, start
from bucketdex.local.state import ACCOUNT, PROJECT, REGION, Deployment, save

DEPLOY_TIMEOUT_S = 600
DEFAULT_STACK = "Bucketdex"


def deploy(
    tables: str | Path | None = None,
    *,
    stack: str = DEFAULT_STACK,
    directory: str | Path | None = None,
    progress: Progress = quiet,
) -> Deployment:
    """The stack, deployed to the local emulator (started when none runs) and ready for uploads.

    tables: the folder of table definitions; the checkout's `tables` when not given. Deploying again updates the
    stack and keeps the data. About 15 s, and some more the first time. DefinitionError for wrong tables,
    LocalDeploymentError with the CDK's words when it fails.
    """
    if not (PROJECT / "infra" / "local_app.py").is_file():
        raise LocalDeploymentError(f"{PROJECT} is no checkout of Bucketdex: clone it and install with pip install -e .")
    folder = Path(tables).resolve() if tables else PROJECT / "tables"
    if not folder.is_dir():
        raise LocalDeploymentError(f"{folder} is no folder; give the folder of the tables' TOML files")
    load_tables(folder)  # a wrong definition is told before anything starts, in its own words
    deployment = start(directory=directory, progress=progress)
    home = Path(deployment.directory)
    progress("installing the CDK command line")
    cdk = str(tools.cdk_command())
    app = shlex.join([sys.executable, "-m", "infra.local_app", stack, str(folder)])
    # An output folder of its own, so that another synthesis in the checkout can't get into the way.
    synthesis = ["--app", app, "--output", str(home / "cdk.out")]
    if not deployment.bootstrapped:
        progress("preparing the emulated account (cdk bootstrap)")
        _cdk([cdk, "bootstrap", f"aws://{ACCOUNT}/{REGION}"], deployment, home)
        deployment.bootstrapped = True
        save(deployment)
    progress("deploying (cdk deploy)")
    outputs = home / "outputs.json"
    options = [*synthesis, "--require-approval", "never", "--outputs-file", str(outputs)]
    _cdk([cdk, "deploy", stack, *options], deployment, PROJECT)
    deployment.stack, deployment.outputs = stack, json.loads(outputs.read_text())[stack]
    save(deployment)
    return deployment


def _cdk(command: list[str], deployment: Deployment, cwd: Path) -> None:
    quietly = [*command, "--no-notices", "--no-color"]
    tools.run(quietly, timeout_s=DEPLOY_TIMEOUT_S, variables=deployment.variables(), cwd=cwd)
