import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tools import cli
from tools.firmware import program


def test_help_lists_every_command_without_importing_their_modules():
    script = (
        "import sys; from click.testing import CliRunner; from tools.cli import main; "
        "print(CliRunner().invoke(main, ['--help']).output); "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('cloud', 'model_export', 'litestar', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    for name in cli.COMMANDS:
        assert f"  {name} " in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_version_starts_fast():
    best_s = min(_timed("--version") for _ in range(3))
    assert best_s < 1


def _timed(argument: str) -> float:
    begin = time.perf_counter()
    subprocess.run([program("edgewise"), argument], capture_output=True, timeout=60, check=True)
    return time.perf_counter() - begin


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_loads_and_explains_itself(name: str):
    result = CliRunner().invoke(cli.main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_group_from_several_modules_has_the_commands_of_all():
    group = cli.main.get_command(click.Context(cli.main), "model")
    assert isinstance(group, click.Group)
    found = group.list_commands(click.Context(group))
    assert {"train", "export", "publish", "list", "show"} <= set(found)


def test_module_that_cannot_be_imported_breaks_its_own_command_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(cli.COMMANDS, "up", (("cloud.no_such_module:up",), "Gone."))
    runner = CliRunner()
    assert runner.invoke(cli.main, ["--help"]).exit_code == 0
    broken = runner.invoke(cli.main, ["up"])
    assert broken.exit_code == 1
    assert "No module named 'cloud.no_such_module'. Run `make setup`" in broken.output


def test_letters_that_the_locale_lacks_are_escaped():
    script = (
        "import click; from tools import cli; "
        "cli._load = lambda part: click.Command('up', callback=lambda: print(chr(252))); cli.main(['up'])"
    )
    environ = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environ, timeout=60, check=True)
    assert done.stdout == b"\\xfc\n"


def test_the_shell_completes_commands_of_every_module():
    environ = os.environ | {
        "_EDGEWISE_COMPLETE": "bash_complete",
        "COMP_WORDS": "edgewise device re",
        "COMP_CWORD": "2",
    }
    done = subprocess.run([program("edgewise")], capture_output=True, env=environ, timeout=60, check=True)
    assert done.stdout.split() == [b"plain,readings", b"plain,remove", b"plain,renew"]


def test_unknown_command_is_a_usage_error():
    assert CliRunner().invoke(cli.main, ["fly"]).exit_code == 2


def test_a_folder_that_cannot_be_written_is_named_without_a_traceback(tmp_path: Path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "keys"
    refused = CliRunner().invoke(cli.main, ["keys", "new", "site", "--keys", str(below)])
    assert refused.exit_code == 1
    assert refused.output == f"Error: {below}: Not a directory\n"
