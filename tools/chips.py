"""The ESP32 chips firmware can be put on, and what an image for one has to look like.

The numbers are Espressif's (esptool's target classes; "Firmware Image Format" in its documentation); a test compares
them with the esptool in the virtual environment.
"""

import struct
from pathlib import Path
from typing import NamedTuple


class Chip(NamedTuple):
    name: str
    """As esptool prints it."""
    image_id: int
    """Chip id in the header of its images."""
    image_at: int
    """Flash address of the bootloader, which is where a complete image is written."""
    arch: str
    """Machine code it runs, under mpy-cross's name."""


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("ESP32", 0, 0x1000, "xtensawin"),
        Chip("ESP32-S2", 2, 0x1000, "xtensawin"),
        Chip("ESP32-S3", 9, 0x0, "xtensawin"),
        Chip("ESP32-C3", 5, 0x0, "rv32imc"),
        Chip("ESP32-C6", 13, 0x0, "rv32imc"),
    )
}

PARTITION_TABLE_AT = 0x8000
MAX_IMAGE_BYTES = 16 << 20  # the largest flash these chips address without paging

_IMAGE_MAGIC = 0xE9
_PARTITION_MAGIC = b"\xaa\x50"
_CHIP_ID_AT = 12
_HEADER_BYTES = 24


class WrongImage(Exception):
    """A file that must not be written to this chip; `cause` says why and `next_step` what to take instead."""

    def __init__(self, path: Path, cause: str, next_step: str) -> None:
        self.path = path
        self.cause = cause
        self.next_step = next_step
        super().__init__(f"{path}: {cause}; {next_step}")


def check_image(path: Path, chip: Chip) -> None:
    """Refuse a file that is not a complete image (bootloader, partition table, application) for `chip`.

    Writing any other file at `chip.image_at` leaves a board that does not start. Raises WrongImage, OSError.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        header = file.read(_HEADER_BYTES)
        table_at = PARTITION_TABLE_AT - chip.image_at
        file.seek(table_at)
        partition_magic = file.read(len(_PARTITION_MAGIC))
    take = f"take MicroPython's {chip.name} image, the file that ends in .bin"
    if len(header) < _HEADER_BYTES or header[0] != _IMAGE_MAGIC:
        raise WrongImage(path, "this is no ESP32 image: it does not begin with 0xE9", take)
    (image_id,) = struct.unpack_from("<H", header, _CHIP_ID_AT)
    if image_id != chip.image_id:
        made_for = next((other.name for other in CHIPS.values() if other.image_id == image_id), f"chip id {image_id}")
        raise WrongImage(path, f"the image is for {made_for}, the chip on the port is {chip.name}", take)
    if partition_magic != _PARTITION_MAGIC:
        raise WrongImage(path, f"no partition table at 0x{table_at:x}: an application alone does not start", take)
    if size > MAX_IMAGE_BYTES:
        raise WrongImage(path, f"{size} bytes are more than any flash of these chips", take)
