"""The state of a local deployment: kept, found again, never mistaken, and never near a real account."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bucketdex import local
from bucketdex.errors import DefinitionError, LocalDeploymentError
from bucketdex.local import tools
from bucketdex.local.state import Deployment, isolated, load, save


def deployment(directory: Path, pid: int = 1) -> Deployment:
    return Deployment(
        endpoint="http://127.0.0.1:1", pid=pid, directory=str(directory), outputs={"IndexBucketName": "index"}
    )


def test_state_survives_a_command(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    save(deployment(tmp_path))
    assert load(tmp_path) == deployment(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_unreadable_state_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(LocalDeploymentError, match=r"state\.json"):
        local.status(directory=tmp_path)


def test_a_process_that_is_not_the_emulator_is_neither_found_nor_ended(tmp_path: Path) -> None:
    """A process id alone may have been given to another program meanwhile."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        save(deployment(tmp_path, stranger.pid))
        assert local.status(directory=tmp_path) is None
        assert local.stop(directory=tmp_path) is False
        assert stranger.poll() is None
        assert load(tmp_path) is None, "what no longer runs is forgotten"
    finally:
        stranger.kill()
        stranger.wait()


def test_nothing_runs_at_first(tmp_path: Path) -> None:
    assert local.status(directory=tmp_path) is None
    assert local.stop(directory=tmp_path) is False


def test_the_environment_leads_to_the_emulator_only_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("UNRELATED", "kept")
    before = dict(os.environ)
    with deployment(tmp_path).environment():
        assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
        assert os.environ["BUCKETDEX_INDEX"] == "s3://index"
        assert os.environ["UNRELATED"] == "kept"
        assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & set(os.environ)
        assert os.environ["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert dict(os.environ) == before


def test_tools_run_without_real_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "123456789012")
    seen = tools.run([sys.executable, "-c", "import os; print(sorted(os.environ))"], timeout_s=30)
    assert "AWS_ACCESS_KEY_ID" not in seen and "CDK_DEFAULT_ACCOUNT" not in seen
    assert isolated({"AWS_REGION": "x", "HOME": "/h"})["HOME"] == "/h"


def test_tools_run_on_the_node_of_the_project(tmp_path: Path) -> None:
    version = tools.run(["node", "--version"], timeout_s=30)
    assert version.startswith("v24.")


def test_a_failing_tool_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(LocalDeploymentError, match=r"exit code 3(.|\n)*the reason"):
        tools.run([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], timeout_s=30)
    with pytest.raises(LocalDeploymentError, match=r"longer than 0 s"):
        tools.run([sys.executable, "-c", "import time; time.sleep(9)"], timeout_s=0.2)


def test_a_folder_without_tables_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(LocalDeploymentError, match="no folder"):
        local.deploy(tmp_path / "missing", directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_table_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "orders.toml").write_text('[source]\nprefix = "o/"\nformat = "xml"\n')
    with pytest.raises(DefinitionError, match=r"orders\.toml"):
        local.deploy(tmp_path / "tables", directory=tmp_path / "state")
    assert not (tmp_path / "state").exists()
