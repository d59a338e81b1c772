"""An S3 server of this machine's own with working conditional writes: SeaweedFS, from PyPI. Changes with how it is run.

It collapses `//` in keys, so it serves benchmarks and tests of concurrency; odd keys are tested on the emulator.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

HOST = "127.0.0.1"
BUCKETS = ("data", "index")
START_TIMEOUT_S = 60.0
POLL_S = 0.05
ACCESS = {"accessKey": "benchmark", "secretKey": "benchmark"}
ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]
PORTS = tuple(f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc"))
OPTIONS = (
    f"-ip={HOST}", f"-ip.bind={HOST}", "-s3", "-s3.iam=false", "-iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
    "-master.telemetry=false", "-master.volumeSizeLimitMB=512", "-volume.max=20",
)  # fmt: skip


@contextmanager
def s3_server() -> Iterator[None]:
    """A server with the empty buckets `data` and `index`, which the environment leads to meanwhile.

    It listens on free ports of this machine alone, keeps its data in a temporary folder, and both are gone afterwards.
    """
    with TemporaryDirectory() as folder:
        ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        weed = str(Path(sys.executable).with_name("weed"))
        command = [
            weed, "server", f"-dir={folder}", f"-s3.config={_identities(Path(folder))}", *OPTIONS,
            *(f"-{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        variables = {
            "AWS_ENDPOINT_URL_S3": f"http://{HOST}:{ports['s3.port']}", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS["accessKey"], "AWS_SECRET_ACCESS_KEY": ACCESS["secretKey"],
        }  # fmt: skip
        log = Path(folder) / "log"
        with _surroundings(variables):  # the server's too: it takes credentials that it finds there for an identity's
            with log.open("wb") as out:
                process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                _make_buckets(process, log)
                yield
            finally:
                process.kill()  # what it holds is to be deleted: there is nothing to save
                process.wait()


def _identities(folder: Path) -> Path:
    """The server's users, of its start on. Without any it would let everybody in until it had looked for some."""
    path = folder / "identities.json"
    path.write_text(json.dumps({"identities": [{"name": "benchmark", "credentials": [ACCESS], "actions": ACTIONS}]}))
    return path


@contextmanager
def _surroundings(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables of the environment meanwhile; processes started inside inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _make_buckets(process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once both buckets take objects: the gateway answers before what is behind it does."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    once = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=5)
    client = boto3.Session().client(
        "s3", config=once
    )  # the default session keeps the first credentials that it was asked for
    deadline = time.monotonic() + START_TIMEOUT_S
    for bucket in BUCKETS:
        while True:
            try:
                client.create_bucket(Bucket=bucket)
                client.put_object(Bucket=bucket, Key="ready", Body=b"not empty: an empty object needs no volume")
                client.delete_object(Bucket=bucket, Key="ready")
                break
            except (BotoCoreError, ClientError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                    raise RuntimeError(f"SeaweedFS did not start:\n{tail}") from error
            time.sleep(POLL_S)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
