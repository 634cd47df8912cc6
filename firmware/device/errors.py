"""What device code raises: flat classes, each with the FAULT_* class it is counted under."""

from contract.wire import (
    FAULT_CONFIG,
    FAULT_DOWNLINK,
    FAULT_FLASH,
    FAULT_MEMORY,
    FAULT_NAMES,
    FAULT_OTHER,
    FAULT_SENSOR,
    WireError,
)


class LinkError(Exception):
    """The cloud was not reached or went away; `fault` says which step failed, `detail` what was seen."""

    def __init__(self, fault: int, detail: str = "") -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail

    def __str__(self) -> str:
        return FAULT_NAMES[self.fault] + (": " + self.detail if self.detail else "")


class ConfigError(Exception):
    """A configuration that cannot be used; `detail` names the key and what it must be."""

    fault = FAULT_CONFIG

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class SensorError(Exception):
    """A sensor gave no usable reading; `detail` names the sensor and the cause."""

    fault = FAULT_SENSOR

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def fault_of(error: Exception) -> int:
    """The FAULT_* class under which an exception is counted.

    Socket errors never get here as OSError (mqtt.py turns them into LinkError), so an OSError is the flash.
    """
    fault = getattr(error, "fault", None)
    if fault is not None:
        return fault
    if isinstance(error, MemoryError):
        return FAULT_MEMORY
    if isinstance(error, OSError):
        return FAULT_FLASH
    if isinstance(error, WireError):
        return FAULT_DOWNLINK
    return FAULT_OTHER
