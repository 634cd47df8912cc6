"""Shipped files are what their publishers made, and nothing on a page comes from elsewhere."""

import hashlib
import re
from pathlib import Path

import cloud.web

FOLDER = Path(cloud.web.__file__).parent
VENDOR = FOLDER / "static" / "vendor"


def test_vendored_files_are_the_published_ones_with_their_licences() -> None:
    rows = re.findall(r"^\| (\S+\.js) \| (\S+) \| (\S+) \| \S+ \((\S+)\) \| ([0-9a-f]{64}) \|$", readme(), re.MULTILINE)
    assert {row[0] for row in rows} == {path.name for path in VENDOR.glob("*.js")}
    for name, _package, _version, licence, digest in rows:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
        assert (VENDOR / licence).stat().st_size > 200


def test_no_template_style_or_script_names_another_host() -> None:
    kinds = (".html", ".css", ".js", ".svg")
    ours = [path for path in FOLDER.rglob("*") if path.suffix in kinds and VENDOR not in path.parents]
    assert len(ours) > 15
    for path in ours:
        addresses = re.findall(r"https?://[^\s\"')]+", path.read_text())
        assert [address for address in addresses if address != "http://www.w3.org/2000/svg"] == [], path


def test_templates_hold_no_inline_script_or_style() -> None:
    for path in (FOLDER / "templates").rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", text), path


def readme() -> str:
    return (VENDOR / "README.md").read_text()
