import json

import pytest
from click.testing import CliRunner

from tools import doctor
from tools.doctor import Need

HERE = Need("here", "a test", lambda: "/here", "unneeded")
GONE = Need("gone", "a test", lambda: None, "apt install gone")
NICE = Need("nice", "a test", lambda: None, "apt install nice", required=False)


def run(monkeypatch: pytest.MonkeyPatch, needs: tuple[Need, ...], *arguments: str):
    monkeypatch.setattr(doctor, "NEEDS", needs)
    return CliRunner().invoke(doctor.doctor, arguments)


def test_missing_need_fails_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    result = run(monkeypatch, (HERE, GONE, NICE))
    assert result.exit_code == 1
    assert "ok  here" in result.output
    assert "apt install gone" in result.output


def test_optional_need_does_not_fail(monkeypatch: pytest.MonkeyPatch):
    result = run(monkeypatch, (HERE, NICE))
    assert result.exit_code == 0
    assert "apt install nice" in result.output


def test_missing_prints_only_what_is_required_and_succeeds(monkeypatch: pytest.MonkeyPatch):
    result = run(monkeypatch, (HERE, GONE, NICE), "--missing")
    assert result.exit_code == 0
    assert result.output == "missing: gone (a test). How to get it: apt install gone\n"


def test_json_has_every_check(monkeypatch: pytest.MonkeyPatch):
    result = run(monkeypatch, (HERE, NICE), "--json")
    checks = json.loads(result.output)["checks"]
    assert [(check["name"], check["found"], check["required"]) for check in checks] == [
        ("here", "/here", True),
        ("nice", None, False),
    ]


def test_set_up_machine_lacks_nothing_that_set_up_provides():
    found = {need.name: need.found() for need in doctor.NEEDS}
    assert all(found[name] for name in ("micropython", "mpy-cross", "nats-server", "umqtt.simple"))
