"""What the board spends, in microjoule by state, from how long it was in each and what its chip draws there.

Supply 3.3 V; the chip alone, without regulator, LEDs and sensors: PROFILES is for comparing policies, and for accounts
of a day after one measurement of the board. None of it was measured on a board of ours. Column by column:

awake       Espressif's datasheets, typical current in modem sleep at 160 MHz with the processor at work. The ESP32's
            says 27 to 44 mA (v3.5, table 6) and the S2's depends on what runs (17 mA with the cache idle, WROOM V1.1,
            table 8): 40 and 20 mA are estimates. The S3's 36.7 mA follow from 1.8 mC in 49 ms, which glenn20 measured.
radio on    an estimate: what the datasheets say of receiving, in parentheses below, and an eighth more, since
            associating and acknowledging the chip sends now and then. But for the S3, whose 147 mA follow from his
            108.6 mC in 774 ms with one MQTT message.
byte sent   datasheets: peak current of 802.11b at 1 Mbit/s and the highest power. A bound: a good link is faster.
asleep      datasheets: deep sleep with RTC timer and RTC memory.
first line  49 ms, measured by glenn20 on an S3 with frozen code; for the others an estimate.
flash       W25Q32JV datasheet: a sector erase of 45 ms and 16 page programs of 0.4 ms, at 25 mA, for 4,096 bytes.
"""

from micropython import const

from contract.wire import MAX_U32

_ESP32 = (132000, 363000, 6336, 33, 49)
PROFILES = {
    # uW awake, uW with the radio on, nJ of a byte sent at 1 Mbit/s, uW asleep, ms until the first line of Python
    "ESP32": _ESP32,  # 40 mA, 110 mA (receives with 97), 240 mA, 10 uA
    "ESP32S2": (66000, 231000, 8184, 83, 49),  # 20 mA, 70 mA (63), 310 mA, 25 uA
    "ESP32S3": (121000, 485000, 8976, 23, 49),  # 36.7 mA, 147 mA (see above), 340 mA, 7 uA
    "ESP32C3": (92000, 314000, 8844, 17, 49),  # 28 mA, 95 mA (84), 335 mA, 5 uA
    "ESP32C6": (125000, 290000, 9346, 23, 49),  # 38 mA, 88 mA (78), 354 mA, 7 uA
}
_FLASH_NJ_PER_BYTE = const(1040)

ACTIVE = const(0)
RADIO = const(1)
SLEEP = const(2)
FLASH = const(3)


def profile_of(chip: str) -> tuple:
    """The row of PROFILES for a chip; an ESP32's for one that has none, such as a simulated board."""
    return PROFILES.get(chip, _ESP32)


def charge(
    energy_uj: list, awake_ms: int, radio_ms: int, slept_ms: int, flash_bytes: int, profile: tuple = _ESP32
) -> None:
    """Add one wake and the sleep before it to energy_uj, [active, radio, sleep, flash].

    awake_ms contains radio_ms, which is not charged twice. Sums stop at 4,295 J, the width of their field.
    """
    active_uw, radio_uw, _, sleep_uw, boot_ms = profile
    spent_nj = (
        (boot_ms + max(0, awake_ms - radio_ms)) * active_uw,
        radio_ms * radio_uw,
        slept_ms * sleep_uw,
        flash_bytes * _FLASH_NJ_PER_BYTE,
    )
    for state in range(len(energy_uj)):
        energy_uj[state] = min(energy_uj[state] + spent_nj[state] // 1000, MAX_U32)


def sending_uj(tx_bytes: int, radio_uj: int, profile: tuple) -> int:
    """Of the energy with the radio on, what sending took at most: a good link is faster than 1 Mbit/s."""
    return min(radio_uj, tx_bytes * profile[2] // 1000)
