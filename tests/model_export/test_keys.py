"""Publisher keys stay with their owner: one file each, readable by nobody else."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from contract import artifact
from model_export import keys
from model_export.keys import PublisherKeyError
from model_export.keys_cli import keys as command


def test_a_key_is_readable_by_its_owner_only_and_loads_again(tmp_path: Path):
    made = keys.create(tmp_path / "keys", "main")
    path = tmp_path / "keys" / "main.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    loaded = keys.load(tmp_path / "keys", "main")
    assert (loaded.public, loaded.key_id) == (made.public, made.key_id)
    assert made.key_id == artifact.key_id(made.public)


def test_a_key_is_never_replaced(tmp_path: Path):
    keys.create(tmp_path, "main")
    before = (tmp_path / "main.pem").read_bytes()
    with pytest.raises(PublisherKeyError) as refused:
        keys.create(tmp_path, "main")
    assert refused.value.code == "exists"
    assert (tmp_path / "main.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["", "..", "../main", "a/b", "Main", "-x", "x" * 49])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str):
    for attempt in (keys.create, keys.load):
        with pytest.raises(PublisherKeyError) as refused:
            attempt(tmp_path, name)
        assert refused.value.code == "bad-name"


def test_a_key_others_can_read_is_refused(tmp_path: Path):
    keys.create(tmp_path, "main")
    (tmp_path / "main.pem").chmod(0o640)
    with pytest.raises(PublisherKeyError, match="chmod 600") as refused:
        keys.load(tmp_path, "main")
    assert refused.value.code == "open"


def test_a_missing_key_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(PublisherKeyError, match="edgewise keys new main") as refused:
        keys.load(tmp_path, "main")
    assert refused.value.code == "not-found"


def _pem(private: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        _pem(ec.generate_private_key(ec.SECP384R1())),
        _pem(ec.generate_private_key(ec.SECP256R1()), b"secret"),
    ],
    ids=["empty", "text", "P-384", "encrypted"],
)
def test_a_file_that_is_no_usable_key_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "main.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(PublisherKeyError) as refused:
        keys.load(tmp_path, "main")
    assert refused.value.code == "bad-file"


def test_the_default_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert keys.default_directory() == tmp_path / "edgewise" / "keys"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys.default_directory() == tmp_path / ".local" / "share" / "edgewise" / "keys"


def test_the_command_makes_and_lists_keys(tmp_path: Path):
    run = CliRunner().invoke
    made = json.loads(run(command, ["new", "main", "--keys", str(tmp_path), "--json"]).output)
    assert len(bytes.fromhex(made["public_key"])) == 64
    assert json.loads(run(command, ["list", "--keys", str(tmp_path), "--json"]).output) == [made | {"role": "newest"}]
    shown = run(command, ["list", "--keys", str(tmp_path)])
    assert f"  public key  {made['public_key']}\n" in shown.output, "in one piece, as `edgewise keys trust` takes it"
    assert made["key_id"] in shown.output
    assert "PRIVATE" not in shown.output
    again = run(command, ["new", "main", "--keys", str(tmp_path)])
    assert again.exit_code == 1
    assert "exists" in again.output


def test_an_empty_folder_is_no_error(tmp_path: Path):
    shown = CliRunner().invoke(command, ["list", "--keys", str(tmp_path / "none")])
    assert shown.exit_code == 0
    assert "edgewise keys new" in shown.output
    assert not os.listdir(tmp_path)
