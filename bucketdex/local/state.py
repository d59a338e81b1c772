"""What is remembered of a local deployment between commands, and where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bucketdex.errors import LocalDeploymentError

ACCOUNT = "000000000000"
REGION = "us-east-1"
PROJECT = Path(__file__).resolve().parents[2]
HOME = PROJECT / ".bucketdex"


class Deployment(msgspec.Struct):
    """A running emulator and what is deployed on it.

    pid: process and process group of the emulator; the functions' processes belong to it.
    outputs: those of the stack (DataBucketName, IndexBucketName, queues, log groups), once deployed.
    """

    endpoint: str
    pid: int
    directory: str
    stack: str | None = None
    outputs: dict[str, str] = {}
    bootstrapped: bool = False

    @property
    def log(self) -> Path:
        """The emulator's log, with the output of every function."""
        return Path(self.directory) / "emulator.log"

    def variables(self) -> dict[str, str]:
        """The environment variables that make boto3, obstore, CDK and Bucketdex talk to this deployment."""
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }
        for name, output in (("BUCKETDEX_INDEX", "IndexBucketName"), ("BUCKETDEX_DATA", "DataBucketName")):
            if output in self.outputs:
                variables[name] = f"s3://{self.outputs[output]}"
        if self.stack is not None:
            variables["BUCKETDEX_STACK"] = self.stack
        return variables

    @contextmanager
    def environment(self) -> Iterator[None]:
        """This process talks to the deployment while inside; no AWS setting of yours reaches it or is touched."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(isolated(before) | self.variables())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def isolated(environment: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """The environment without anything that could lead to a real AWS account."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("AWS_", "CDK_"))}
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def state_directory(directory: str | Path | None = None) -> Path:
    """Where the state of a local deployment lives: in `.bucketdex` of the checkout unless said otherwise."""
    return Path(directory).resolve() if directory else HOME / "deployment"


def save(deployment: Deployment) -> None:
    """Remembers the deployment; the file appears whole."""
    path = _file(Path(deployment.directory))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(deployment)))
    draft.replace(path)


def load(directory: Path) -> Deployment | None:
    """The remembered deployment, running or not; None when there is none."""
    try:
        return msgspec.json.decode(_file(directory).read_bytes(), type=Deployment)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LocalDeploymentError(
            f"{_file(directory)} is unreadable; delete it and end the emulator yourself"
        ) from error


def forget(directory: Path) -> None:
    """Removes the remembered deployment."""
    _file(directory).unlink(missing_ok=True)


def _file(directory: Path) -> Path:
    return directory / "state.json"
