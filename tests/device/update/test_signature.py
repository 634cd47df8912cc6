"""The board's ES256 verifier agrees with the `cryptography` package, on signatures good, changed and exceptional."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from model_export import sign
from tests.device.update import signature_cases
from tests.device.update.conftest import RunProgram

HEAP = "96k"


def _disagreements(run_program: RunProgram, folder: Path, cases: Iterable[bytes]) -> tuple[int, int, list[str]]:
    """(cases, of them valid, the cases about which board and reference disagree)."""
    listed = list(cases)
    path = folder / "cases"
    path.write_bytes(b"".join(listed))
    ((verdicts, _, _),) = run_program("signatures", path, heap=HEAP)
    expected = "".join(str(int(sign.verify(data[96:], data[:32], data[32:96]))) for data in listed)
    assert len(verdicts) == len(expected)
    wrong = [listed[i].hex() for i in range(len(listed)) if verdicts[i] != expected[i]]
    return len(listed), expected.count("1"), wrong


def test_agrees_on_signatures_good_and_changed(run_program: RunProgram, tmp_path: Path):
    total, valid, wrong = _disagreements(run_program, tmp_path, signature_cases.ordinary(600, seed=1))
    assert wrong == []
    assert total == 600
    assert 290 < valid < 320, "half are meant to be valid"


def test_agrees_on_exceptional_cases(run_program: RunProgram, tmp_path: Path):
    total, valid, wrong = _disagreements(run_program, tmp_path, signature_cases.exceptional())
    assert wrong == []
    assert total > 900
    assert valid > 800, "small scalars make valid signatures"


def test_other_lengths_are_no_signature(run_program: RunProgram, tmp_path: Path):
    path = tmp_path / "cases"
    path.write_bytes(next(signature_cases.ordinary(1, seed=2)))
    ((verdicts, misfits, _),) = run_program("signatures", path, heap=HEAP)
    assert (verdicts, misfits) == ("1", [False] * 6)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(10))
def test_agrees_on_ten_thousand_signatures(seed: int, run_program: RunProgram, tmp_path: Path):
    total, valid, wrong = _disagreements(run_program, tmp_path, signature_cases.ordinary(1000, seed=100 + seed))
    assert wrong == []
    assert total == 1000
    assert 400 < valid < 600
