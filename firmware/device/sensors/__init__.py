"""Sensors give windows of integer counts, in the channels and scales of the board's feature schema.

Every sensor has
    interval_ms    between two samples of a window
    ends_at_wake   True: the newest sample is of the moment the board woke; False: of the moment it was read
    take_into(first, elapsed_ms, window) -> rows at the window's end that were never read before
        fills array('i') (n, channels), row-major; `first` is the number of the first sample never read, `elapsed_ms`
        the time since the newest one that was (None: there is none). Raises SensorError.
Making one sets the chip up unless it is set up already, so it gathers while the board sleeps. contract/sensing.py has
drivers and settings; a driver is imported only where config.json names it.
"""

from device.errors import ConfigError


def open_sensor(settings: dict, files: object, board: object, features: object) -> object:
    """The sensor that config.json names, for a schema (contract.features.Features) and with the buses of `board`.

    Raises ConfigError for what cannot be used, SensorError when the sensor does not answer.
    """
    driver = settings.get("driver")
    if driver == "replay" and isinstance(settings.get("file"), str):
        from device.sensors.replay import ReplaySensor

        return ReplaySensor(files, board.root + "/" + settings["file"], features)
    from contract import sensing

    wrong = sensing.problems(settings, features)
    if wrong:
        raise ConfigError("%s %s" % wrong[0])
    bus = getattr(board, sensing.DRIVERS[driver][0], None)
    if bus is None:
        raise ConfigError("sensor.driver %s needs %s, which this board has not" % (driver, sensing.DRIVERS[driver][0]))
    settings = {key: sensing.setting(settings, key) for key in sensing.DRIVERS[driver][2]}
    module = __import__("device.sensors." + driver, None, None, ("Sensor",))
    return module.Sensor(settings, bus(), features)
