"""Composition root: makes the parts of this board and runs one wake. The only file with pin numbers."""

# ruff: noqa: E402
# Collecting between imports keeps the heap in one piece: what each leaves behind would lie between what stays. The
# largest buffer comes before everything else, for the same reason.

import gc
import sys

from contract.wire import FORMAT_BLOB, FORMAT_NATIVE, MAX_DOWN_BYTES

DOWNLINK = memoryview(bytearray(MAX_DOWN_BYTES))

# Pins by chip and role. wake: the line that ends a sleep, RTC pins only; touch: a touch pad; scl, sda: I2C; adc: a pin
# of ADC1; onewire: DS18B20; battery: an ADC pin behind a divider of "battery_divider" (2) to 1. None or left out: there
# is no such thing. They are pins that common development boards have free; docs/sensors.md: the wiring.
PINS = {
    "ESP32": {"wake": 33, "touch": 32, "scl": 22, "sda": 21, "adc": 34, "onewire": 4, "battery": None},
    "ESP32S2": {"wake": 4, "scl": 9, "sda": 8, "adc": 6, "onewire": 7, "battery": None},
    "ESP32S3": {"wake": 4, "scl": 9, "sda": 8, "adc": 6, "onewire": 7, "battery": None},
    "ESP32C3": {"wake": 4, "scl": 6, "sda": 5, "adc": 3, "onewire": 7, "battery": None},
    "ESP32C6": {"wake": 4, "scl": 7, "sda": 6, "adc": 3, "onewire": 5, "battery": None},
}

if sys.platform == "esp32":
    from device.board import esp32 as port
else:
    from device.board import host as port

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
    from device.link import Link

    broker = parts.config.broker
    tls = None
    if broker.get("ca"):
        from device.secure import Tls

        tls = Tls(Files, parts.board, broker, parts.now_s())
    link = Link(parts.board, Files, parts.config.device, broker, DOWNLINK, tls)
    gc.collect()
    from device.sync import sync

    gc.collect()
    sync(parts, link)


def make_parts() -> cycle.Parts:
    """All that a wake works with. Raises ConfigError or SchemaError when config.json cannot be used."""
    config = Config(Files, port.ROOT)
    board = port.Board(config.wifi, PINS.get(port.CHIP), config.wake)
    features = Features(config.schema, ew_features)
    state = RtcState(board, Files)
    outbox = Outbox(Files, port.ROOT + "/outbox")
    journal = Journal(state, outbox, board)
    keys = Keys(Files, port.ROOT, config.trusted_keys, config.revoked_keys)
    formats = FORMAT_BLOB | (FORMAT_NATIVE if board.arch else 0)
    policy = Policy(board.arch, board.abi, formats, features.schema_hash, keys)
    return cycle.Parts(
        board=board,
        config=config,
        features=features,
        state=state,
        outbox=outbox,
        journal=journal,
        health=Health(board, state, config.log, config.chip or port.CHIP),
        trust=policy,
        updater=Updater(Files, port.ROOT, policy, journal.update),
        open_sampler=lambda: Sampler(open_sensor(config.sensor, Files, board, features), features),
        hold_session=hold_session,
        firmware=FIRMWARE,
    )


def main() -> None:
    try:
        cycle.run(make_parts())
    except Exception as error:  # noqa: BLE001 - a configuration that is wrong, or a heap too full to go to sleep
        sys.print_exception(error)
        board = port.Board(None)
        board.linger(error)
        board.deep_sleep(BROKEN_SLEEP_MS)


if __name__ == "__main__":
    main()
