"""What this board was told: config.json from whoever set it up, and the settings the cloud wants since.

config.json is written by tools/provision.py or a deployment, never by the board. The settings of the last WANT are kept
whole in the A/B record `desired`, or as far as they can be used where all of them are too long for it, so a board
without contact keeps to them. In force is, key by key: what the WANT says, else what config.json says, else the default
of contract/merge.py. Where config.json was changed on the spot since the cloud took it in (its `local_version` is ahead
of the WANT's), keys in both are merged by their rule.
"""

import json

from contract import merge
from contract.wire import MAX_EPOCH, MAX_U32, valid_device_id
from device.errors import ConfigError
from device.records import MAX_PAYLOAD_BYTES, Record


class Config:
    """Every value checked once, here. Raises ConfigError naming the key and what it must be.

    device, kind, schema: text; broker: {"host", "port", "user", "password", "ca": a DER file on flash, for TLS};
    wifi: {"ssid", "password"} or None; sensor: {"driver", ...}, checked when it is opened; wake: what may end a sleep
    besides the timer, {"line": "high" or "low", "touch": threshold, "ulp": bool}, from wake_line, touch and the sensor;
    trusted_keys: {key id hex: x || y hex}; revoked_keys: [key id hex]; limits: {feature name: [low, high]} of the SAFE
    model; first_epoch: where a board with empty flash begins; log: print what happens; chip: whose
    currents the energy ledger takes (ledger.PROFILES), None: the chip it runs on.
    version, local_version: of the last WANT applied, and of config.json.
    """

    def __init__(self, files: object, root: str) -> None:
        path = root + "/config.json"
        try:
            with files.open(path) as file:
                given = json.loads(file.read())  # json.load() reads byte by byte: half a millisecond here, more there
            if not isinstance(given, dict):
                raise ValueError("no object")
        except (OSError, ValueError) as error:
            raise ConfigError("%s: %s" % (path, error))
        self.device = _need(given, "device", str)
        if not valid_device_id(self.device):
            raise ConfigError("device must be 1 to 32 of a-z, 0-9 and -, is " + self.device)
        self.kind = _need(given, "kind", str)
        if len(self.kind) > 32:  # the cloud would refuse every HELLO
            raise ConfigError("kind must be at most 32 characters, is " + self.kind)
        self.schema = _need(given, "schema", str)
        self.sensor = _need(given, "sensor", dict)
        self.sensor_calls = bool(self.sensor.get("motion_mg"))  # its interrupt drives the wake line
        self.wake = _wake(given, self.sensor)
        self.broker = _need(given, "broker", dict)
        _need(self.broker, "host", str)
        _need(self.broker, "port", int)
        self.wifi = given.get("wifi")
        self.trusted_keys = given.get("trusted_keys", {})
        self.revoked_keys = given.get("revoked_keys", [])
        self.limits = given.get("limits", {})
        if not _are_limits(self.limits):
            raise ConfigError("limits must be {feature: [low, high]}, are %r" % self.limits)
        self.first_epoch = _number(given, "first_epoch", 1, MAX_EPOCH)
        self.log = given.get("log", False)
        self.chip = given.get("chip")
        self.local_version = _number(given, "local_version", 0, MAX_U32)
        self._local = dict(given.get("settings", {}))
        if "interval_ms" in given:
            self._local.setdefault("interval_ms", given["interval_ms"])
        wrong = merge.check(self._local)
        if wrong:
            raise ConfigError("settings: %s %s" % wrong[0])
        self._record = Record(files, root + "/desired")
        self.version = 0
        self._in_force = self._local
        self._load()

    def __getitem__(self, key: str) -> object:
        """The value in force of a key of merge.KEYS."""
        return merge.value(self._in_force, key)

    def reported(self) -> dict:
        """HELLO's configuration in force: the keys that differ from their default."""
        return {key: self[key] for key in merge.KEYS if self[key] != merge.KEYS[key][3]}

    def apply(self, version: int, wanted: dict, local_version: int) -> bool:
        """Take the settings of a WANT; True when it is another WANT than the last.

        Unknown keys and values out of bounds are passed over; the cloud sees what is in force in the next HELLO.
        Raises OSError when flash refuses them; they are in force until the next wake all the same.
        """
        if version == self.version:
            return False
        self._merge(version, wanted, local_version)
        kept = json.dumps([version, local_version, wanted]).encode()
        if len(kept) > MAX_PAYLOAD_BYTES:
            kept = json.dumps([version, local_version, _usable(wanted)]).encode()
        self._record.store(kept)
        return True

    def _load(self) -> None:
        kept = self._record.load()
        if kept is None:
            return
        try:
            version, local_version, wanted = json.loads(kept)
        except ValueError:
            return  # written by another firmware: the cloud will say it again
        self._merge(version, wanted, local_version)

    def _merge(self, version: int, wanted: dict, local_version: int) -> None:
        agreed, _, _ = merge.merge(wanted, (version, local_version), self._local, (0, self.local_version))
        self._in_force = dict(self._local)
        for key in _usable(wanted):
            self._in_force[key] = merge.value(agreed, key)
        self.version = version


def _usable(wanted: dict) -> dict:
    """The settings that this firmware knows, with values it takes."""
    wrong = [key for key, _ in merge.check(wanted)]
    return {key: wanted[key] for key in wanted if key not in wrong}


def _wake(given: dict, sensor: dict) -> dict:
    line = given.get("wake_line", "high" if sensor.get("motion_mg") else None)
    if line not in (None, "high", "low"):
        raise ConfigError("wake_line must be high or low, is %r" % line)
    touch = given.get("touch")
    if touch is not None and (not isinstance(touch, int) or not 0 < touch < 65536):
        raise ConfigError("touch must be a threshold of 1 to 65535, is %r" % touch)
    return {"line": line, "touch": touch, "ulp": sensor.get("driver") == "ulp"}


def _are_limits(limits: object) -> bool:
    try:
        return all(high - low >= 0 for low, high in limits.values())
    except (AttributeError, TypeError, ValueError):
        return False


def _number(given: dict, key: str, least: int, most: int) -> int:
    value = given.get(key, least)
    if not isinstance(value, int) or not least <= value <= most:
        raise ConfigError("%s must be %d to %d, is %r" % (key, least, most, value))
    return value


def _need(given: dict, key: str, kind: type) -> object:
    value = given.get(key)
    if not isinstance(value, kind) or value == "":
        raise ConfigError("%s must be a %s, is %r" % (key, kind.__name__, value))
    return value
