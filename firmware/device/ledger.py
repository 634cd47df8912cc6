"""What the board spends, in microjoule by state, from how long it was in each and what an ESP32 draws there.

Supply 3.3 V. Sources: ESP32 Series Datasheet, "Power Consumption by Power Modes" (modem sleep at 160 MHz 27 to 44 mA,
deep sleep with RTC timer and RTC memory 10 uA) and "RF Power-Consumption Specifications" (receive 95 to 100 mA,
transmit 180 to 240 mA; a session is mostly the first); W25Q32JV datasheet: a sector erase of 45 ms and 16 page programs
of 0.4 ms, at 25 mA, for 4,096 bytes.
"""

from micropython import const

_ACTIVE_UW = const(132000)  # 40 mA
_RADIO_UW = const(363000)  # 110 mA
_SLEEP_UW = const(33)  # 10 uA
_FLASH_NJ_PER_BYTE = const(1040)
_BOOT_MS = const(49)  # until the first line of Python, frozen, without image validation (glenn20's measurement)

ACTIVE = const(0)
RADIO = const(1)
SLEEP = const(2)
FLASH = const(3)


def charge(energy_uj: list, awake_ms: int, radio_ms: int, slept_ms: int, flash_bytes: int) -> None:
    """Add one wake and the sleep before it to energy_uj, [active, radio, sleep, flash].

    awake_ms contains radio_ms, which is not charged twice.
    """
    energy_uj[ACTIVE] += (_BOOT_MS + max(0, awake_ms - radio_ms)) * _ACTIVE_UW // 1000
    energy_uj[RADIO] += radio_ms * _RADIO_UW // 1000
    energy_uj[SLEEP] += slept_ms * _SLEEP_UW // 1000
    energy_uj[FLASH] += flash_bytes * _FLASH_NJ_PER_BYTE // 1000
