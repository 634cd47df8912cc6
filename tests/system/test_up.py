"""`edgewise up`: starts, starts dead parts again, ends cleanly, and never twice on one folder."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.tree import Tree, edgewise


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """One that the test may break."""
    made = Tree(tmp_path / "data")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """One that the tests leave as it is, but for boards of their own."""
    made = Tree(tmp_path_factory.mktemp("lasting") / "data")
    yield made
    made.stop()


def gone(pid: int, deadline_s: float = 10) -> bool:
    """Whether a process ends in time."""
    deadline = time.monotonic() + deadline_s
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_each_part_is_started_again_when_it_dies(tree: Tree):
    tree.seconds_to_ready()
    for name in ("ingest", "broker", "web"):
        killed = tree.kill(name)
        taken = tree.seconds_to_ready(killed, name)
        print(f"\n{name} killed: ready again in {taken:.2f} s")
        assert taken < 5.0 or name == "web"  # it imports for long on a busy machine, and nothing waits for it


def test_it_ends_cleanly_and_leaves_nothing_running(tree: Tree):
    tree.seconds_to_ready()
    pids = list(tree.state().children.values())
    assert tree.stop() == 0
    assert all(gone(pid) for pid in pids)
    assert not tree.settings.state_path.exists()


def test_a_killed_parent_takes_its_children_along_and_can_be_started_again(tree: Tree, tmp_path: Path):
    tree.seconds_to_ready()
    pids = list(tree.state().children.values())
    tree.process.send_signal(signal.SIGKILL)
    tree.process.wait(5)
    assert all(gone(pid) for pid in pids)
    again = Tree(tmp_path / "data")
    try:
        again.seconds_to_ready()
    finally:
        assert again.stop() == 0


def test_one_folder_is_used_by_one_tree(lasting: Tree):
    second = edgewise("up", "--data", lasting.folder, "--port", "0", "--mqtt-port", "0")
    assert second.returncode == 1
    assert "in use by another `edgewise up`" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_taken_port_is_named_with_the_option_that_changes_it(lasting: Tree, tmp_path: Path):
    taken = str(lasting.addresses["mqtt_port"])
    second = edgewise("up", "--data", tmp_path / "other", "--port", "0", "--mqtt-port", taken)
    assert second.returncode == 1
    assert f"port {taken} is taken; give another --mqtt-port" in second.stderr


def test_without_a_server_commands_say_how_to_start_one(tmp_path: Path):
    found = edgewise("device", "list", "--data", tmp_path / "nothing")
    assert found.returncode == 1
    assert "no server runs" in found.stderr
    assert "edgewise up" in found.stderr


def test_boards_are_added_configured_shown_renewed_and_removed_by_command(lasting: Tree):
    data = ("--data", str(lasting.folder))
    added = edgewise("device", "add", "pump-1", "pump-2", "--kind", "pump", "--json", *data)
    assert added.returncode == 0, added.stderr
    (one, _) = json.loads(added.stdout)
    assert one["broker"]["user"] == "pump-1"
    assert one["broker"]["port"] == lasting.addresses["mqtt_port"]
    again = edgewise("device", "add", "pump-1", "--kind", "pump", *data)
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
    configured = edgewise("device", "configure", "pump-1", "interval_ms=5000", "sensitive=true", "--json", *data)
    assert json.loads(configured.stdout) == {"interval_ms": 5000, "sensitive": True}
    wrong = edgewise("device", "configure", "pump-1", "interval_ms=1", *data)
    assert (wrong.returncode, "interval_ms" in wrong.stderr) == (1, True)
    renewed = json.loads(edgewise("device", "renew", "pump-1", "--json", *data).stdout)
    assert renewed[0]["broker"]["password"] != one["broker"]["password"]
    assert edgewise("device", "remove", "pump-2", *data).returncode == 0
    listed = json.loads(edgewise("device", "list", "--json", *data).stdout)
    assert [board["device"] for board in listed if board["device"].startswith("pump-")] == ["pump-1"]
    for words in (("list",), ("show", "pump-1")):
        assert "pump-1" in edgewise("device", *words, *data).stdout


def test_changes_need_the_token(lasting: Tree):
    url = f"{lasting.addresses['http']}/api/v1/devices"
    assert httpx.post(url, json={"devices": ["x"], "kind": "k"}).status_code == 401
    token = lasting.settings.token_path.read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.post(url, json={"devices": ["x"], "kind": "k"}, headers=headers).status_code == 201
    assert httpx.post(url, json={"devices": ["X!"], "kind": "k"}, headers=headers).status_code == 400
    assert os.stat(lasting.settings.token_path).st_mode & 0o077 == 0


def test_frames_are_listed_and_shown_by_command(lasting: Tree):
    data = ("--data", str(lasting.folder))
    assert json.loads(edgewise("frames", "list", "--json", *data).stdout) == []
    missing = edgewise("frames", "show", "7", *data)
    assert (missing.returncode, "no frame 7" in missing.stderr) == (1, True)
