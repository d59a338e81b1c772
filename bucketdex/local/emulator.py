"""The emulator's process: started on a free port of this machine only, found again, stopped by its own handle."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bucketdex.errors import LocalDeploymentError
from bucketdex.local import tools
from bucketdex.local.state import Deployment, forget, isolated, load, save, state_directory

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 2.0  # its data is in memory: there is nothing to save
POLL_S = 0.1

Progress = Callable[[str], None]


def quiet(_: str) -> None:
    """Reports progress to nobody."""


def start(*, port: int | None = None, directory: str | Path | None = None, progress: Progress = quiet) -> Deployment:
    """The running emulator, started when none runs; its data lives as long as the process.

    port: a free one when not given. directory: where its state lives, for a second one beside that of the checkout.
    progress: told what is being done. LocalDeploymentError when it doesn't answer in time.
    """
    home = state_directory(directory)
    found = status(directory=home)
    if found:
        if port is not None and found.endpoint != f"http://{HOST}:{port}":
            raise LocalDeploymentError(f"the emulator already runs at {found.endpoint}; stop it first")
        return found
    progress("installing the emulator")
    python = tools.emulator_python()
    chosen = port or _free_port()
    progress(f"starting the emulator on port {chosen}")
    temporary = home / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # functions that an earlier run unpacked
    temporary.mkdir(parents=True)
    deployment = Deployment(endpoint=f"http://{HOST}:{chosen}", pid=0, directory=str(home))
    variables = {
        "GATEWAY_PORT": str(chosen),
        "BIND_HOST": HOST,  # it would bind every address
        "MINISTACK_HOST": HOST,
        "TMPDIR": str(temporary),
        "PYTHONNOUSERSITE": "1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    inherited = {name: value for name, value in isolated(os.environ).items() if not name.startswith("PYTHON")}
    with deployment.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter)
            [str(python), "-m", "ministack"],
            env=inherited | variables, cwd=temporary, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    deployment.pid = process.pid
    save(deployment)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(deployment):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(directory=home)
            raise LocalDeploymentError(f"the emulator did not start; its log is {deployment.log}")
        time.sleep(POLL_S)
    return deployment


def status(*, directory: str | Path | None = None) -> Deployment | None:
    """The emulator that runs and what is deployed on it; None when none runs."""
    found = load(state_directory(directory))
    return found if found and _is_ours(found) and _answers(found) else None


def stop(*, directory: str | Path | None = None) -> bool:
    """Stops the emulator and its functions, and forgets the data. False when none ran. Tools stay installed."""
    home = state_directory(directory)
    found = load(home)
    if found is None:
        return False
    ours = _is_ours(found)
    if ours:
        _end(found)
    forget(home)
    shutil.rmtree(home / "tmp", ignore_errors=True)
    return ours


def _end(deployment: Deployment) -> None:
    """Ends the process group, first politely; whatever is left of it then at once."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    with suppress(ProcessLookupError):
        os.killpg(deployment.pid, signal.SIGTERM)
        while _is_ours(deployment) and time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(deployment.pid, os.WNOHANG)  # ours to reap when this process started it
            time.sleep(POLL_S)
        os.killpg(deployment.pid, signal.SIGKILL)


def _is_ours(deployment: Deployment) -> bool:
    """Whether the process still is the emulator we started: a number alone may have been given to another."""
    try:
        command = Path(f"/proc/{deployment.pid}/cmdline").read_bytes().decode().replace("\0", " ")
    except OSError:
        if Path("/proc").is_dir():
            return False
        ps = ["/bin/ps", "-o", "command=", "-p", str(deployment.pid)]
        command = subprocess.run(ps, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return str(tools.TOOLS) in command and "ministack" in command


def _answers(deployment: Deployment) -> bool:
    try:
        with urllib.request.urlopen(f"{deployment.endpoint}/_ministack/health", timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
