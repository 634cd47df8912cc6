"""Sensors give windows of integer counts, in the channels and scales of the board's feature schema."""

from device.errors import ConfigError


def open_sensor(settings: dict, files: object, root: str) -> object:
    """The sensor that config.json names: {"driver": "replay", "file": path under root}.

    Raises ConfigError for an unknown driver, SensorError when the sensor does not answer.
    """
    if settings.get("driver") == "replay":
        from device.sensors.replay import ReplaySensor  # here: a board needs only its own sensor's driver

        return ReplaySensor(files, root + "/" + settings["file"])
    raise ConfigError("sensor.driver must be replay, is %r" % settings.get("driver"))
