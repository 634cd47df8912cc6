"""A real broker for a test: nats-server with MQTT, started, killed and started again on the same port and store."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

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
        end = time.monotonic() + _START_DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise RuntimeError((self._folder / "nats.log").read_text()[-2000:]) from None
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: what it had not written is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(5)
            self._process = None

    def forget(self) -> None:
        """Lose the store: every session and every retained message."""
        shutil.rmtree(self._folder / "store", ignore_errors=True)
