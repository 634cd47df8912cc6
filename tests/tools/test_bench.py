import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools import bench
from tools.bench import Row, _instructions
from tools.bench.__main__ import main

MODULE = '''"""Bytes of a thing.

More about it.
"""

from tools.bench import Row, _instructions


def run():
    return [Row("ours", 1500, "bytes", "JSON", 6000, "at most 0.30 x"), Row("alone", 0.25, "s")]
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The only benchmarks there are."""
    (tmp_path / "sizes_of_things.py").write_text(MODULE)
    (tmp_path / "_helper.py").write_text("raise RuntimeError\n")
    monkeypatch.setattr(bench, "__path__", [str(tmp_path)])
    yield tmp_path
    sys.modules.pop("tools.bench.sizes_of_things", None)


def test_ratio_is_to_what_it_is_compared_with():
    assert Row("a", 3, "s", "b", 2).ratio == 1.5
    assert Row("a", 3, "s").ratio is None
    assert Row("a", 3, "s", "b", 0).ratio is None


def test_table_has_value_other_and_ratio_side_by_side(folder: Path):
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Bytes of a thing.")
    row = next(line for line in result.output.splitlines() if "ours" in line)
    for cell in ("1,500", "bytes", "JSON", "6,000", "0.25 x"):
        assert cell in row


def test_json_is_for_programs(folder: Path):
    found = json.loads(CliRunner().invoke(main, ["sizes_of_things", "--json"]).output)
    assert [row["ratio"] for row in found["sizes_of_things"]] == [0.25, None]


def test_unknown_name_is_refused_with_those_there_are(folder: Path):
    result = CliRunner().invoke(main, ["speed"])
    assert result.exit_code == 2
    assert "no benchmark speed; there are sizes_of_things" in result.output


def test_without_valgrind_the_instructions_of_a_wake_say_how_to_count_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(_instructions.NotHere, match="apt install valgrind"):
        _instructions.tools()
