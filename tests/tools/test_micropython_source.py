import subprocess
from pathlib import Path

import pytest

from tools import micropython_source as source

ONE_LINE_SOURCES = """\
'http://one.example/debian-security/dists/bookworm-security/InRelease' a 0
'http://two.example/other/dists/nodistro/InRelease' b 0
'http://three.example/debian/dists/bookworm/InRelease' c 0
'http://three.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' d 0
"""


def make_tree(folder: Path) -> Path:
    """The files a digest is taken of, in a form small enough for a test."""
    for name in ("py/dynruntime.mk", "py/obj.h", "tools/mpy_ld.py", "tools/mpy-tool.py", "tools/ar_util.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def empty_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MPY_DIR", raising=False)
    monkeypatch.setattr(source, "TARGET", tmp_path / "build" / "micropython")
    return tmp_path / "build" / "micropython"


def test_mirror_is_the_debian_archive_and_not_security_or_a_third_party():
    assert source.debian_mirror(ONE_LINE_SOURCES) == "http://three.example/debian"
    assert source.debian_mirror(ONE_LINE_SOURCES.replace("/bookworm/", "/noble/")) is None
    assert source.debian_mirror("") is None


def test_tree_digest_follows_names_and_contents(tmp_path: Path):
    digest = source.tree_digest(make_tree(tmp_path))
    assert source.tree_digest(tmp_path) == digest
    (tmp_path / "docs.rst").write_text("is not part of it")
    assert source.tree_digest(tmp_path) == digest
    (tmp_path / "py/obj.h").write_text("changed")
    assert source.tree_digest(tmp_path) != digest


def test_fetched_tree_has_the_pinned_digest_and_builds_this_runtime(native_toolchain: Path):
    if native_toolchain != source.TARGET:
        pytest.skip("MPY_DIR names a tree of the user's own")
    assert source.tree_digest(native_toolchain) == source.TREE_SHA256


def test_mpy_dir_is_taken_as_it_is(empty_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine = make_tree(tmp_path / "mine")
    monkeypatch.setenv("MPY_DIR", str(mine))
    assert source.fetch() == mine
    assert not empty_target.exists()


def test_mpy_dir_that_is_no_tree_is_an_error_and_fetches_nothing(empty_target, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MPY_DIR", "/nonexistent")
    with pytest.raises(source.SourceUnavailable, match=r"MPY_DIR=/nonexistent has no py/dynruntime\.mk"):
        source.fetch()
    assert not empty_target.exists()


def test_git_checkout_is_the_way_without_apt(empty_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    upstream = make_tree(tmp_path / "upstream")
    for command in (
        ("init", "--quiet"),
        ("add", "."),
        ("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "x"),
        ("tag", source.RELEASE),
    ):
        subprocess.run(["git", *command], cwd=upstream, check=True, timeout=30)
    monkeypatch.setattr(source, "UPSTREAM", upstream.as_uri())
    monkeypatch.setattr(source, "TREE_SHA256", source.tree_digest(upstream))
    without_apt = tmp_path / "bin"
    without_apt.mkdir()
    git = subprocess.run(["which", "git"], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    (without_apt / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(without_apt))
    assert source.fetch() == empty_target
    assert (empty_target / "py/dynruntime.mk").is_file()


def test_tree_with_another_digest_is_refused_and_leaves_nothing(
    empty_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(source, "_from_debian", lambda work: make_tree(work / "tree"))
    monkeypatch.setattr(source, "UPSTREAM", (tmp_path / "nowhere").as_uri())
    with pytest.raises(source.SourceUnavailable) as unavailable:
        source.fetch()
    assert len(unavailable.value.reasons) == 2
    assert "not the pinned" in unavailable.value.reasons[0]
    assert "MPY_DIR" in str(unavailable.value)
    assert list(empty_target.parent.iterdir()) == []
