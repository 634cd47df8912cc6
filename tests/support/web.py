"""The web process, started as `edgewise up` starts it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec

from cloud.settings import Settings, admin_token
from tests.support.listening import listens

_START_DEADLINE_S = 30.0


class Web:
    """A running `python -m cloud.app` and a client that may change things."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.settings = msgspec.structs.replace(settings, http_port=port)
        self.url = self.settings.http_address
        self.token = admin_token(settings, {})
        self.anyone = httpx.Client(base_url=self.url, timeout=10)
        self.admin = httpx.Client(base_url=self.url, timeout=10, headers={"Authorization": f"Bearer {self.token}"})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Web":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.anyone.close()
        self.admin.close()
        self.stop()

    def start(self) -> None:
        """Returns when it listens."""
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root), str(root / "firmware")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cloud.app"],
            env={**os.environ, **self.settings.environment(), "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        if not listens(self._process, self.settings.host, self.settings.http_port, _START_DEADLINE_S):
            self.stop()
            raise RuntimeError("the web process did not start")

    def stop(self) -> None:
        """Asks it to end, and fails when it does not within ten seconds."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
            raise

    def get(self, path: str, **params: Any) -> Any:
        """The JSON of a GET that must succeed."""
        answer = self.anyone.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def publish(self, *files: bytes, cards: tuple[bytes, ...] = (), to: str = "none", note: str = "") -> httpx.Response:
        """POST /api/v1/models."""
        parts = [("artifact", (f"{at}.ewa", data)) for at, data in enumerate(files)]
        parts += [("card", (f"{at}.card.json", data)) for at, data in enumerate(cards)]
        return self.admin.post("/api/v1/models", files=parts, data={"to": to, "note": note})
