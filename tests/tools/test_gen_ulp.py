"""tools/gen_ulp.py where the assembler cannot be had: what is in the repository counts while it is of this source."""

import shutil
from pathlib import Path

import pytest

from tools import gen_ulp, sdists

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the source and of what was made of it, and no assembler."""

    def unavailable(sdist: sdists.Sdist) -> Path:
        raise sdists.Unavailable(sdist, "no package index that was asked has it")

    for name in (gen_ulp.SOURCE_PATH, gen_ulp.TARGET_PATH):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.setattr(sdists, "fetch", unavailable)
    monkeypatch.setattr(gen_ulp, "ROOT", tmp_path)
    return tmp_path


def test_without_the_assembler_the_generated_module_stays(offline: Path):
    assert gen_ulp.ulp_program() == {gen_ulp.TARGET_PATH: (ROOT / gen_ulp.TARGET_PATH).read_text()}


def test_without_the_assembler_a_changed_source_is_an_error_that_says_what_to_do(offline: Path):
    source = offline / gen_ulp.SOURCE_PATH
    source.write_text(source.read_text() + "\n# changed\n")
    with pytest.raises(ValueError, match=r"ulp_program\.py is not made of .* run `make setup` again"):
        gen_ulp.ulp_program()


def test_a_source_that_does_not_assemble_is_an_error_with_the_assemblers_words(tmp_path: Path):
    source = tmp_path / "bad.s"
    source.write_text("entry: fly r1, r2\n")
    try:
        sdists.fetch(sdists.ESP32_ULP)
    except sdists.Unavailable as unavailable:
        pytest.skip(f"{unavailable}")
    with pytest.raises(RuntimeError, match="Unknown opcode or directive: fly"):
        gen_ulp.assemble(source)
