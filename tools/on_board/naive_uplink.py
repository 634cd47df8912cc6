"""What Edgewise is compared with: the main.py that one writes first. It sends every sample as JSON over umqtt.simple.

Run under MicroPython by virtual_board.py. It samples as the firmware does, with the firmware's Sampler, and its energy
is counted by the firmware's ledger. `naive_batch` of sim.json says after how many wakes it connects: 1 is the usual
program, more of them makes it batch, with the lines on flash meanwhile. It is spared what such programs often get
wrong: it keeps the channel and lease of its access point, waits for each PUBACK, and a line whose PUBACK did not come
stays on flash for the next time, as far as there is room.
"""

import json
import os
import struct

import main
from umqtt.simple import MQTTClient

from device import ledger
from device.config import Config
from device.errors import LinkError
from device.files import Files
from device.sampler import Sampler

_STATE = "<4sHIQIII24s"  # magic, boot, wakes, when it went to sleep, lines made, dropped and waiting, radio cache
_MAGIC = b"JSON"
_MAX_LINES = 1440
_KEEPALIVE_S = 30
_CLIENT_ERRORS = (LinkError, OSError, AssertionError, IndexError)  # umqtt.simple asserts on what a broker sends


class Uplink:
    """run() is one wake. asleep: the exception that ends it; notes: where the trace is gathered."""

    def __init__(self, board: object, asleep: object, notes: object, open_sensor: object) -> None:
        self._board = board
        self._asleep = asleep
        self._notes = notes
        self._open_sensor = open_sensor

    def run(self) -> dict:
        found = self._notes.found
        config = Config(Files, main.port.ROOT)
        board = self._board(config.wifi)
        try:
            self._wake(board, config, found)
        except self._asleep as asleep:
            found["sleep_ms"] = asleep.args[0]
        return found

    def _wake(self, board: object, config: Config, found: dict) -> None:
        path = main.port.ROOT + "/lines"
        state = bytearray(struct.calcsize(_STATE))
        if board.rtc_read_into(state) != len(state) or state[:4] != _MAGIC:
            self._forget(path)
            state = struct.pack(_STATE, _MAGIC, board.random16(), 0, 0, 0, 0, 0, bytes(24))
        _, boot, wakes, slept_at, made, dropped, waiting, cache = struct.unpack(_STATE, state)
        slept_ms = max(0, board.woke_ms - slept_at) if slept_at else 0
        flash_bytes = 0
        if wakes:  # at power-on the sensor has gathered nothing yet
            line = self._line(board, config, boot)
            made += 1
            if waiting >= _MAX_LINES:
                dropped += 1
            else:
                with open(path, "a") as file:
                    file.write(line)
                flash_bytes = len(line)
                waiting += 1
        wakes += 1
        session = [0, 0, 0, 0, 0]
        radio_ms = 0
        if waiting and wakes % board._sim["naive_batch"] == 0:
            began = board.now_ms()
            waiting, cache = self._send(board, config, path, waiting, cache, session)
            radio_ms = board.now_ms() - began
            found["session"] = session
        found["spent"] = (board.now_ms() - board.woke_ms, radio_ms, slept_ms, flash_bytes)
        found["energy"] = [0, 0, 0, 0]
        ledger.charge(found["energy"], *found["spent"])
        found["boot"] = boot
        found["made"] = made
        found["waiting"] = waiting
        found["dropped"] = dropped
        now_ms = board.now_ms()
        board.rtc_write(struct.pack(_STATE, _MAGIC, boot, wakes, now_ms, made, dropped, waiting, cache))
        board.deep_sleep(max(50, board.woke_ms + config["interval_ms"] - now_ms))

    def _forget(self, path: str) -> None:
        """After a power cut: nobody knows any more how many lines there are and which were sent."""
        try:
            os.remove(path)
        except OSError:
            pass  # there was none

    def _line(self, board: object, config: Config, boot: int) -> str:
        features = main.Features(config.schema)
        sampler = Sampler(self._open_sensor(config.sensor, Files, board, features), features)
        sampler.take(0, None, board.woke_ms, board.now_ms)
        rows = [list(sampler.row(index)) for index in range(sampler.rows)]
        mv, rssi = board.battery_mv(), board.rssi()
        told = {"device": config.device, "boot": boot, "t": board.woke_ms, "mv": mv, "rssi": rssi, "rows": rows}
        return json.dumps(told) + "\n"

    def _send(self, board: object, config: Config, path: str, waiting: int, cache: bytes, session: list) -> tuple:
        """(lines that wait still, radio cache) after one session."""
        session[0] = 1
        sent = 0
        client = MQTTClient(config.device, config.broker["host"], config.broker["port"], keepalive=_KEEPALIVE_S)
        try:
            cache = board.radio_up(0, cache)
            client.connect()
            with open(path) as file:
                for line in file:
                    client.publish("json/" + config.device, line[:-1], qos=1)
                    session[2] += len(line)
                    sent += 1
            client.disconnect()
        except _CLIENT_ERRORS:
            session[1] = 1
            if client.sock:
                client.sock.close()
        board.radio_down()
        if sent == waiting:
            os.remove(path)
        elif sent:
            with open(path) as file:
                kept = file.read().split("\n")[sent:-1]
            with open(path, "w") as file:
                file.write("".join([line + "\n" for line in kept]))
        return waiting - sent, cache
