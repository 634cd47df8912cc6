"""A real broker for a test: nats-server with MQTT, started, killed and started again on the same port and store."""

import shutil
import signal
import subprocess
from pathlib import Path

from tests.support.listening import listens
from tools.firmware import program

_START_DEADLINE_S = 10.0


class Broker:
    """nats-server on a loopback port; its store is below `folder` and outlives a restart.

    mqtt: more of the configuration's `mqtt` block.
    """

    def __init__(self, folder: Path, port: int, client_port: int, mqtt: str = "") -> None:
        self.port = port
        self._folder = folder
        self._config = folder / "nats.conf"
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(
            f'server_name: test\nlisten: "127.0.0.1:{client_port}"\n'
            f'jetstream {{ store_dir: "{folder / "store"}" }}\nmqtt {{ listen: "127.0.0.1:{port}"{mqtt} }}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once MQTT connections are taken."""
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("nats-server"), "-c", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if not listens(self._process, "127.0.0.1", self.port, _START_DEADLINE_S):
            raise RuntimeError((self._folder / "nats.log").read_text()[-2000:])

    def kill(self) -> None:
        """SIGKILL: what it had not written is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(5)
            self._process = None

    def forget(self) -> None:
        """Lose the store: every session and every retained message."""
        shutil.rmtree(self._folder / "store", ignore_errors=True)
