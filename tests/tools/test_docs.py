"""What the pages say is so: commands run, links resolve, targets exist, and every dependency is explained."""

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from tools import cli
from tools.firmware import ROOT, program

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "firmware").rglob("*.md"))]
# What is not run here, and why.
NOT_RUN = {
    "make setup": "the tests run in what it made",
    "make test": "this is it",
    "make demo": "tests/system runs it",
    "make check": "runs beside the tests in .ci/run",
    "make bench": "tests/tools runs the runner; the measurements themselves take minutes",
    "edgewise board flash --image ESP32_GENERIC_C3.bin": "needs a board; tests/tools/test_board.py flashes a stand-in",
    "edgewise board deploy --config build/config.json": "needs a board; tests/tools/test_board.py has a stand-in",
    'edgewise evaluate --data "$EDGEWISE_DATA"': "needs the recordings; tests/model_export/test_evaluate.py runs it",
    'edgewise evaluate --data "$EDGEWISE_DATA" --sensitivity': "takes a minute; test_evaluate.py runs its parts",
}
# Guides whose commands need those before them: tests/system/test_guides.py runs each from first to last.
IN_ORDER = (
    "docs/boards.md",
    "docs/firmware-in-ci.md",
    "docs/keys.md",
    "docs/operate.md",
    "docs/publish.md",
    "docs/simulate.md",
    "docs/updates.md",
)
WITH_A_FLEET = ("docs/rollouts.md",)  # the same, on boards that are there already


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[str]:
    """The lines after a prompt in the page's console blocks."""
    blocks = re.findall(r"^```(?:console|sh)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line[2:].strip() for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def files(page: Path) -> dict[str, str]:
    """The JSON files a page has the reader write: a name in the last line before the block, and what is in it."""
    shown = r"`([\w/.-]+\.json)`[^\n]*\n\n```json\n(.*?)^```"
    return dict(re.findall(shown, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


SHOWN = sorted(
    {command for page in PAGES if page_id(page) not in (*IN_ORDER, *WITH_A_FLEET) for command in commands(page)}
)


@pytest.mark.parametrize("command", [command for command in SHOWN if command not in NOT_RUN])
def test_shown_command_runs(command: str):
    first, *rest = command.split()
    if first in ("edgewise", ".venv/bin/edgewise"):
        first = program("edgewise")
    done = subprocess.run(
        [first, *rest], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_exception_is_still_shown_somewhere():
    assert set(NOT_RUN) <= {command for page in PAGES for command in commands(page)}


def test_console_blocks_have_a_prompt_on_each_command():
    for page in PAGES:
        for block in re.findall(r"^```(?:console|sh)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            assert block.startswith("$ "), f"{page_id(page)}: {block!r}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_to_files_resolve(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page_id(page)} links to {target}"


def test_the_way_of_a_reading_names_functions_that_are_there():
    page = ROOT / "docs" / "development.md"
    steps = re.findall(r"^\| \[[^\]]+\]\(([^)]+\.py)\) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(steps) == 8
    for path, step in steps:
        names = re.findall(r"`(\w+)\(\)`", step)
        source = (page.parent / path).read_text(encoding="utf-8")
        assert names, path
        assert all(f"def {name}(" in source for name in names), path


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_mentioned_make_targets_exist(page: Path):
    mentioned = set(re.findall(r"[`$] ?make ([a-z][a-z-]*)", page.read_text(encoding="utf-8")))
    assert mentioned <= make_targets()


def test_make_help_lists_every_target_with_what_it_does():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    listed = set(re.findall(r"^  make ([a-z-]+) +\S", done.stdout, re.MULTILINE))
    assert {"setup", "demo", "test", "check", "bench", "soak", "gen", "gen-check", "clean"} <= listed
    assert make_targets() - listed == {"ready", "lint", "types", "imports", "sizes"}  # parts of others


def test_every_dependency_has_a_line_and_every_line_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    declared = {re.split(r"[\[<>=!;~ ]", line)[0] for lines in lists for line in lines}
    page = (ROOT / "docs/dependencies.md").read_text()
    explained = {name for row in re.findall(r"^\| ([a-z][^|]*) \|", page, re.MULTILINE) for name in row.split(", ")}
    assert explained - {"package"} == declared


def test_every_pin_has_hashes_and_no_address():
    text = (ROOT / "constraints.txt").read_text()
    pins = re.split(r"\n(?=[a-z])", text)
    assert len(pins) > 50
    for pin in pins:
        assert re.match(r"[a-z0-9._-]+==\S+", pin)
        assert "--hash=sha256:" in pin
    assert "://" not in text


SOURCES = [path for folder in ("cloud", "model_export", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md", *SOURCES], ids=page_id)
def test_commands_that_are_named_exist_with_their_options(path: Path):
    for named in re.findall(r"`edgewise ([^`]+)`", path.read_text(encoding="utf-8")):
        found: click.Command = cli.main
        words = named.replace("\n", " ").split()
        while isinstance(found, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*,?", words[0]):
            name = words.pop(0).rstrip(",")
            inner = found.get_command(click.Context(found), name)
            assert inner is not None, f"`edgewise {named}`: {found.name} has no {name}"
            found = inner
        options = {option for parameter in found.params for option in parameter.opts}
        for word in words:
            assert not re.match(r"--[a-z]", word) or word.partition("=")[0] in options, f"`edgewise {named}`: {word}"
