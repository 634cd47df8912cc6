"""The sensors a board may have: bus, what they measure, settings and their bounds, each stated once.

The board checks its config.json against this when it opens the sensor, the tools before they write one. Drivers are in
device/sensors/, one file each.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from contract.features import Features

# A unit a schema may name: what it measures, and how many base units of that it is (numerator, denominator).
# Base units: mg (1/1000 of 9.80665 m/s2), thousandths of a degree Celsius, thousandths of a per cent, mV.
UNITS = {
    "g": ("acceleration", 1000, 1),
    "mg": ("acceleration", 1, 1),
    "m/s2": ("acceleration", 101972, 1000),
    "degC": ("temperature", 1000, 1),
    "mdegC": ("temperature", 1, 1),
    "%": ("humidity", 1000, 1),
    "V": ("voltage", 1000, 1),
    "mV": ("voltage", 1, 1),
}

_ACCELERATION = ("acceleration", "acceleration", "acceleration")

# Of each driver: bus, quantity of each channel, settings. A setting is (default, choices) or (default, low, high);
# default None: it may be left out.
DRIVERS = {
    "lis3dh": (
        "i2c",
        _ACCELERATION,
        {
            "address": (0x18, (0x18, 0x19)),
            "rate_hz": (10, (1, 10, 25, 50, 100, 200)),
            "range_g": (2, (2, 4, 8, 16)),
            "motion_mg": (None, 16, 8000),  # motion beyond it pulls the wake line
        },
    ),
    "mpu6050": (
        "i2c",
        _ACCELERATION,
        {
            "address": (0x68, (0x68, 0x69)),
            "rate_hz": (10, (4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200)),
            "range_g": (2, (2, 4, 8, 16)),
            "motion_mg": (None, 2, 510),
        },
    ),
    "sht31": (
        "i2c",
        ("temperature", "humidity"),
        {"address": (0x44, (0x44, 0x45)), "spacing_ms": (20, 20, 5000)},
    ),
    "ds18b20": ("onewire", ("temperature",), {"bits": (12, (9, 10, 11, 12)), "spacing_ms": (0, 0, 5000)}),
    "adc": ("adc", ("voltage",), {"spacing_ms": (10, 1, 5000)}),
    "ulp": (
        "ulp",
        ("voltage",),
        {
            "sample_ms": (1000, 10, 60000),
            "low_mv": (0, 0, 3300),  # below it the board is woken
            "high_mv": (3300, 0, 3300),  # above it too
            "hysteresis_mv": (50, 0, 1000),
        },
    ),
}
MAX_AWAKE_MS = 10000  # the longest a board stays awake for one window
CONVERSION_MS = {9: 94, 10: 188, 11: 375, 12: 750}  # of a DS18B20 by bits (datasheet 19-7487 Rev 6, table 2)


def setting(sensor: "Mapping[str, Any]", key: str) -> "Any":
    """The value in force of one setting of a sensor whose driver is in DRIVERS."""
    return sensor.get(key, DRIVERS[sensor["driver"]][2][key][0])


def problems(sensor: "Mapping[str, Any]", features: "Features") -> "list[tuple[str, str]]":
    """What is wrong with config.json's `sensor` for a schema: (key, cause) each; none for a board that can sample."""
    driver = sensor.get("driver")
    if driver == "replay":
        return [] if isinstance(sensor.get("file"), str) else [("sensor.file", "must name a recording on flash")]
    if driver not in DRIVERS:
        return [("sensor.driver", "must be replay, %s, is %r" % (", ".join(sorted(DRIVERS)), driver))]
    _, quantities, settings = DRIVERS[driver]
    wrong: "list[tuple[str, str]]" = []
    for key in sorted(sensor):
        if key != "driver" and key not in settings:
            wrong.append(("sensor." + key, "is not a setting of %s" % driver))
    for key in sorted(settings):
        bounds = settings[key]
        value = sensor.get(key, bounds[0])
        if value is None and key not in sensor:
            continue
        if not _allowed(value, bounds):
            wrong.append(("sensor." + key, "must be %s, is %r" % (_words(bounds), value)))
    names = [channel.unit for channel in features.channels]
    found = [UNITS[unit][0] if unit in UNITS else unit for unit in names]
    if found != list(quantities):
        wrong.append(
            ("schema", "%s measures %s, the schema has units %s" % (driver, ", ".join(quantities), ", ".join(names)))
        )
    if not wrong:
        wrong = _together(driver, sensor, features.window)
    return wrong


def _together(driver: str, sensor: "Mapping[str, Any]", window: int) -> "list[tuple[str, str]]":
    """What is wrong with settings that are right one by one."""
    if driver == "ulp":
        if window > 64:
            return [("schema", "the ULP's ring holds windows of 64 samples, w is %d" % window)]
        if setting(sensor, "high_mv") - setting(sensor, "low_mv") <= 2 * setting(sensor, "hysteresis_mv"):
            return [("sensor.high_mv", "must be above low_mv by more than twice hysteresis_mv")]
        return []
    if "rate_hz" in DRIVERS[driver][2]:
        if (setting(sensor, "motion_mg") or 0) > 1000 * setting(sensor, "range_g"):
            return [("sensor.motion_mg", "must be within range_g")]
        held = 32 if driver == "lis3dh" else 170
        awake_ms = max(0, window - held) * 1000 // setting(sensor, "rate_hz")
        key = "sensor.rate_hz"
    else:
        spacing_ms = setting(sensor, "spacing_ms")
        if driver == "ds18b20":
            spacing_ms = max(spacing_ms, CONVERSION_MS[setting(sensor, "bits")])
        awake_ms = window * spacing_ms
        key = "sensor.spacing_ms"
    if awake_ms > MAX_AWAKE_MS:
        return [(key, "a window of %d samples takes %d ms, at most %d are allowed" % (window, awake_ms, MAX_AWAKE_MS))]
    return []


def _allowed(value: object, bounds: "tuple[Any, ...]") -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return value in bounds[1] if len(bounds) == 2 else bounds[1] <= value <= bounds[2]


def _words(bounds: "tuple[Any, ...]") -> str:
    if len(bounds) == 2:
        return "one of " + ", ".join([str(choice) for choice in bounds[1]])
    return "an integer of %d to %d" % (bounds[1], bounds[2])
