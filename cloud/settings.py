"""Where the data lies and which ports are used: one frozen value, read once, handed down.

A process of `edgewise up` gets its settings from the environment its supervisor gives it, so each of them can also be
started by hand (`EDGEWISE_DATA_DIR=... python -m cloud.ingest`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from cloud.errors import BadSettings
from contract import wire

DEFAULT_DATA_DIR = "edgewise-data"
DEFAULT_HTTP_PORT = 8480
DEFAULT_MQTT_PORT = 1883
TIERS = {"cloud": wire.ROUTE_CLOUD, "fog": wire.ROUTE_FOG}


class Settings(msgspec.Struct, frozen=True):
    """Paths are absolute. Port 0 means "any free port" to `edgewise up`, which then hands real ones to its children."""

    data_dir: Path
    database_url: str
    """SQLAlchemy URL without a driver name, such as `sqlite:////data/edgewise.db` or `postgresql://host/edgewise`."""
    host: str = "127.0.0.1"
    """Where the pages listen."""

    mqtt_host: str = "127.0.0.1"
    """Where the broker listens, and what boards are told to connect to."""

    http_port: int = DEFAULT_HTTP_PORT
    mqtt_port: int = DEFAULT_MQTT_PORT
    log_level: str = "INFO"
    blobs_url: str = ""
    """Where artifacts lie, by SHA-256: `file:///folder` or `s3://bucket/prefix`."""

    tier: str = "cloud"
    """Which tier answers boards' questions here: `cloud`, or `fog` on a broker near the boards."""

    @property
    def broker_dir(self) -> Path:
        """The broker's configuration (mode 0600) and its JetStream store."""
        return self.data_dir / "nats"

    @property
    def token_path(self) -> Path:
        """The admin bearer token, mode 0600."""
        return self.data_dir / "admin-token"

    @property
    def secret_path(self) -> Path:
        """The key every broker password is derived from, mode 0600."""
        return self.data_dir / "broker-secret"

    @property
    def state_path(self) -> Path:
        """What `edgewise up` wrote about itself: pids and addresses."""
        return self.data_dir / "up.json"

    @property
    def http_address(self) -> str:
        return f"http://{self.host}:{self.http_port}"

    def environment(self) -> dict[str, str]:
        """The variables from which `load_settings` makes this very value."""
        return {
            "EDGEWISE_DATA_DIR": str(self.data_dir),
            "EDGEWISE_DATABASE_URL": self.database_url,
            "EDGEWISE_HOST": self.host,
            "EDGEWISE_MQTT_HOST": self.mqtt_host,
            "EDGEWISE_HTTP_PORT": str(self.http_port),
            "EDGEWISE_MQTT_PORT": str(self.mqtt_port),
            "EDGEWISE_LOG_LEVEL": self.log_level,
            "EDGEWISE_BLOBS_URL": self.blobs_url,
            "EDGEWISE_TIER": self.tier,
        }


def load_settings(environ: Mapping[str, str] | None = None, *, data_dir: str | Path | None = None) -> Settings:
    """Settings from the environment; `data_dir` wins over EDGEWISE_DATA_DIR. Raises BadSettings; touches no file."""
    env = os.environ if environ is None else environ
    folder = Path(data_dir or env.get("EDGEWISE_DATA_DIR") or DEFAULT_DATA_DIR).absolute()
    level = env.get("EDGEWISE_LOG_LEVEL", "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise BadSettings(f"EDGEWISE_LOG_LEVEL is {level!r}", "use DEBUG, INFO, WARNING or ERROR")
    tier = env.get("EDGEWISE_TIER", "cloud")
    if tier not in TIERS:
        raise BadSettings(f"EDGEWISE_TIER is {tier!r}", f"use {' or '.join(TIERS)}")
    host = env.get("EDGEWISE_HOST") or "127.0.0.1"
    return Settings(
        data_dir=folder,
        database_url=env.get("EDGEWISE_DATABASE_URL") or f"sqlite:///{folder / 'edgewise.db'}",
        host=host,
        mqtt_host=env.get("EDGEWISE_MQTT_HOST") or host,
        http_port=_port(env, "EDGEWISE_HTTP_PORT", DEFAULT_HTTP_PORT),
        mqtt_port=_port(env, "EDGEWISE_MQTT_PORT", DEFAULT_MQTT_PORT),
        log_level=level,
        blobs_url=env.get("EDGEWISE_BLOBS_URL") or f"file://{folder / 'blobs'}",
        tier=tier,
    )


def admin_token(settings: Settings, environ: Mapping[str, str] | None = None) -> str:
    """The token HTTP writes need: EDGEWISE_TOKEN, else the file in the data folder, made when it is missing."""
    env = os.environ if environ is None else environ
    return env.get("EDGEWISE_TOKEN") or read_or_make_secret(settings.token_path)


def read_or_make_secret(path: Path) -> str:
    """The text of a secret file, made with 256 random bits and mode 0600 when it is missing. Safe against a race.

    Raises BadSettings for an empty file: anybody knows that secret.
    """
    with suppress(FileNotFoundError):
        return _read_secret(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # fails when another process was first: then its secret is the one
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return _read_secret(path)


def _read_secret(path: Path) -> str:
    secret = path.read_text("ascii").strip()
    if not secret:
        raise BadSettings(f"{path} is empty", "put a backup of it back, or remove it to have a new one made")
    return secret


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not text.isdecimal() or int(text) > 65535:
        raise BadSettings(f"{name} is {text!r}", "give a port number from 0 to 65535")
    return int(text)
