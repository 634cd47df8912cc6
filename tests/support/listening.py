"""Waiting for a server that a test has started."""

import socket
import subprocess
import time


def listens(process: subprocess.Popen[bytes], host: str, port: int, deadline_s: float) -> bool:
    """True once connections are taken there; False when the process has ended, or the deadline is over."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return True
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                return False
            time.sleep(0.02)
