"""Composition root: makes the parts of this board and runs one wake. The only file with pin numbers."""

# ruff: noqa: E402
# Collecting between imports keeps the heap in one piece: what each leaves behind would lie between what stays. The
# largest buffer comes before everything else, for the same reason.

import gc
import sys

from contract.wire import FORMAT_NATIVE, MAX_DOWN_BYTES

DOWNLINK = memoryview(bytearray(MAX_DOWN_BYTES))

if sys.platform == "esp32":
    from device.board import esp32 as port

    # battery_pin: an ADC pin behind a divider, GPIO 35 on common ESP32 boards with a cell holder; None: not measured.
    PINS = {"battery_pin": None, "battery_divider": 2}
else:
    from device.board import host as port

    PINS = {}

from contract.features import Features
from device import cycle

try:
    from device import ew_features
except ImportError:  # not built for this board: the same features in Python
    ew_features = None

gc.collect()
from device.config import Config
from device.files import Files
from device.health import Health
from device.journal import Journal

gc.collect()
from device.outbox import Outbox
from device.rtc_state import RtcState
from device.sampler import Sampler
from device.sensors import open_sensor

gc.collect()
from device.trust import Keys, Policy
from device.update import Updater

gc.collect()
FIRMWARE = "0.1.0"
BROKEN_SLEEP_MS = 600000  # until a board whose configuration cannot be used looks again


def hold_session(parts: cycle.Parts) -> None:
    """One session with the cloud. What it takes is imported here: most wakes hold none."""
    gc.collect()
    from device.link import Link, tls_context

    broker = parts.config.broker
    tls = tls_context(Files, port.ROOT + "/" + broker["ca"]) if broker.get("ca") else None
    link = Link(parts.board, Files, parts.config.device, broker, DOWNLINK, tls)
    gc.collect()
    from device.sync import sync

    gc.collect()
    sync(parts, link)


def make_parts() -> cycle.Parts:
    """All that a wake works with. Raises ConfigError or SchemaError when config.json cannot be used."""
    config = Config(Files, port.ROOT)
    board = port.Board(config.wifi, **PINS)
    features = Features(config.schema, ew_features)
    state = RtcState(board, Files)
    outbox = Outbox(Files, port.ROOT + "/outbox")
    journal = Journal(state, outbox, board)
    keys = Keys(Files, port.ROOT, config.trusted_keys, config.revoked_keys)
    policy = Policy(board.arch, board.abi, FORMAT_NATIVE, features.schema_hash, keys)
    return cycle.Parts(
        board=board,
        config=config,
        features=features,
        state=state,
        outbox=outbox,
        journal=journal,
        health=Health(board, state, config.log),
        trust=policy,
        updater=Updater(Files, port.ROOT, policy, journal.update),
        open_sampler=lambda: Sampler(open_sensor(config.sensor, Files, port.ROOT), features),
        hold_session=hold_session,
        firmware=FIRMWARE,
    )


def main() -> None:
    try:
        parts = make_parts()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is still wrong in a millisecond
        sys.print_exception(error)
        port.Board(None).deep_sleep(BROKEN_SLEEP_MS)
    cycle.run(parts)


if __name__ == "__main__":
    main()
