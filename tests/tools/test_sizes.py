from pathlib import Path

import pytest

from tools import sizes
from tools.sizes import Budget, SizesUnreadable, exceeded, lowered, parse, render


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Set what is measured, and use a budget file of the test's own."""
    monkeypatch.setattr(sizes, "BUDGETS", tmp_path / "sizes.txt")
    found = {"device/a.mpy": 100}
    monkeypatch.setattr(sizes, "measure", lambda: found)
    return found


def test_budget_file_survives_a_round_trip():
    budgets = {"device/a.mpy": Budget(100), "web assets, all": Budget(9, "a chart library of 8 bytes")}
    assert parse(render(budgets)) == budgets


@pytest.mark.parametrize("line", ["12", "many  device/a.mpy", "-4  device/a.mpy", "device/a.mpy  12"])
def test_line_that_is_no_budget_is_refused_by_number(line: str):
    with pytest.raises(SizesUnreadable, match="line 2"):
        parse("# comment\n" + line)


def test_growth_and_a_missing_budget_are_both_problems():
    problems = exceeded({"grown": 12, "new": 5, "same": 3, "less": 1}, parse("10 grown\n3 same\n3 less\n"))
    assert len(problems) == 2
    assert problems[0].startswith("grown: 12 bytes, 2 over")
    assert problems[1].startswith("new: 5 bytes, no budget")


def test_update_lowers_adds_and_drops_but_never_raises():
    before = parse("10 grown  # r1\n10 shrunk  # r2\n10 gone\n10 same # r3\n")
    after = lowered({"grown": 12, "shrunk": 7, "new": 5, "same": 10}, before)
    assert after == {"grown": Budget(10, "r1"), "shrunk": Budget(7), "new": Budget(5), "same": Budget(10, "r3")}


def test_check_fails_until_the_budget_is_raised_by_hand(measured: dict[str, int], capsys: pytest.CaptureFixture[str]):
    assert sizes.main(["--update"]) == 0
    assert sizes.main([]) == 0
    measured["device/a.mpy"] = 101
    assert sizes.main([]) == 1
    assert sizes.main(["--update"]) == 1
    assert "1 over its budget" in capsys.readouterr().err
    text = sizes.BUDGETS.read_text().replace("100  device/a.mpy", "101  device/a.mpy  # a new check")
    sizes.BUDGETS.write_text(text)
    assert sizes.main([]) == 0


def test_firmware_is_measured_as_it_lies_on_a_board():
    found = sizes.measure()
    parts = [size for name, size in found.items() if name.endswith((".mpy", ".py"))]
    assert len(parts) > 10
    assert sum(parts) < 200_000, "a board's file system has two megabytes, of which two model slots take half"
