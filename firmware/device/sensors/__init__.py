"""Sensors give windows of integer counts, in the channels and scales of the board's feature schema.

Every sensor has
    channels       what the feature schema has after `c=`
    interval_ms    between two samples of a window
    ends_at_wake   True: the newest sample is of the moment the board woke; False: of the moment it was read
    take_into(first, elapsed_ms, window) -> rows at the window's end that were never read before
        fills array('i') (n, channels), row-major; `first` is the number of the first sample never read, `elapsed_ms`
        the time since the newest one that was (None: there is none). Raises SensorError.
"""

from device.errors import ConfigError


def open_sensor(settings: dict, files: object, root: str) -> object:
    """The sensor that config.json names: {"driver": "replay", "file": path under root}.

    Raises ConfigError for an unknown driver, SensorError when the sensor does not answer.
    """
    if settings.get("driver") == "replay":
        from device.sensors.replay import ReplaySensor  # here: a board needs only its own sensor's driver

        return ReplaySensor(files, root + "/" + settings["file"])
    raise ConfigError("sensor.driver must be replay, is %r" % settings.get("driver"))
