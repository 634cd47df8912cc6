"""The supervisor goes on supervising, whatever the disk and the system refuse meanwhile."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from cloud import processes
from cloud.errors import BadSettings
from cloud.processes import Tree
from cloud.settings import load_settings, read_or_make_secret


@pytest.mark.parametrize("full_disk", [True, False])
def test_a_child_is_started_again_when_its_start_or_the_note_of_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: bool
) -> None:
    monkeypatch.setattr(processes, "_FIRST_PAUSE_S", 0.01)
    settings = load_settings({}, data_dir=tmp_path)
    draft, starts, program = settings.state_path.with_suffix(".draft"), tmp_path / "starts", tmp_path / "child"
    if full_disk:
        draft.mkdir()
    child = f"#!{sys.executable} -S\nopen({str(starts)!r}, 'a').write('.')\n"

    async def run() -> None:
        tree = Tree(settings)
        tree._commands = {"web": [str(program)]}
        keeper = asyncio.create_task(tree._keep("web"))
        deadline = time.monotonic() + 10
        while not starts.exists() or starts.stat().st_size < 2:
            assert time.monotonic() < deadline, "it was not started again"
            assert not keeper.done(), keeper.exception()
            await asyncio.sleep(0.02)
            if not program.exists():  # the first start fails: there is no such program yet
                program.write_text(child)
                program.chmod(0o700)
        await tree.stop()
        keeper.cancel()

    asyncio.run(run())


def test_an_empty_secret_is_refused_and_not_believed(tmp_path: Path) -> None:
    settings = load_settings({}, data_dir=tmp_path)
    for path in (settings.token_path, settings.secret_path):
        path.write_text("\n")
        with pytest.raises(BadSettings, match=f"{path} is empty"):
            read_or_make_secret(path)
        path.unlink()
        assert len(read_or_make_secret(path)) > 32
