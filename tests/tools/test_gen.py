from pathlib import Path

import pytest

from tools import gen


def test_missing_and_changed_files_are_shown_as_differences(tmp_path: Path):
    (tmp_path / "same.md").write_text("a\n")
    (tmp_path / "stale.md").write_text("old\n")
    found = gen.differences({"same.md": "a\n", "stale.md": "new\n", "none/yet.md": "x\n"}, tmp_path)
    assert len(found) == 2
    assert "-old" in found[0]
    assert "+new" in found[0]


def test_write_touches_only_what_differs(tmp_path: Path):
    files = {"same.md": "a\n", "deep/new.md": "x\n"}
    (tmp_path / "same.md").write_text("a\n")
    before = (tmp_path / "same.md").stat().st_mtime_ns
    assert gen.write(files, tmp_path) == ["deep/new.md"]
    assert (tmp_path / "same.md").stat().st_mtime_ns == before
    assert gen.differences(files, tmp_path) == []


def test_two_generators_may_not_claim_one_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gen, "_generators", lambda: [lambda: {"a.md": "1"}, lambda: {"a.md": "2"}])
    with pytest.raises(ValueError, match=r"a\.md"):
        gen.generated()


def test_generated_files_of_the_repository_are_up_to_date():
    assert gen.differences(gen.generated(), gen.ROOT) == []
