import struct
from pathlib import Path

import pytest
from esptool.targets import CHIP_DEFS

from tools.chips import CHIPS, PARTITION_TABLE_AT, Chip, WrongImage, check_image


def image_for(chip: Chip, size: int = 0x9000) -> bytearray:
    """The parts of a MicroPython image that are looked at; the rest is zero."""
    image = bytearray(size)
    image[0] = 0xE9
    struct.pack_into("<H", image, 12, chip.image_id)
    table_at = PARTITION_TABLE_AT - chip.image_at
    image[table_at : table_at + 2] = b"\xaa\x50"
    return image


@pytest.fixture
def write_image(tmp_path: Path):
    def write(data: bytes) -> Path:
        path = tmp_path / "image.bin"
        path.write_bytes(data)
        return path

    return write


def test_chip_numbers_are_those_of_esptool():
    theirs = {target.CHIP_NAME: (target.IMAGE_CHIP_ID, target.BOOTLOADER_FLASH_OFFSET) for target in CHIP_DEFS.values()}
    for chip in CHIPS.values():
        assert (chip.image_id, chip.image_at) == theirs[chip.name]


@pytest.mark.parametrize("name", CHIPS)
def test_complete_image_for_the_chip_is_accepted(write_image, name: str):
    check_image(write_image(image_for(CHIPS[name])), CHIPS[name])


def test_image_for_another_chip_is_refused_by_both_names(write_image):
    with pytest.raises(WrongImage) as refused:
        check_image(write_image(image_for(CHIPS["ESP32-C3"])), CHIPS["ESP32-S3"])
    assert "for ESP32-C3" in refused.value.cause
    assert "is ESP32-S3" in refused.value.cause


def test_application_without_partition_table_is_refused(write_image):
    chip = CHIPS["ESP32"]
    image = image_for(chip)
    image[PARTITION_TABLE_AT - chip.image_at] = 0
    with pytest.raises(WrongImage, match="no partition table at 0x7000"):
        check_image(write_image(image), chip)


@pytest.mark.parametrize("data", [b"", b"\xe9", b"\xe9" * 23, b"MZ" + bytes(100), b"\x7fELF" + bytes(100)])
def test_file_that_is_no_image_is_refused(write_image, data: bytes):
    with pytest.raises(WrongImage, match="does not begin with 0xE9"):
        check_image(write_image(data), CHIPS["ESP32-C6"])


def test_image_larger_than_any_flash_is_refused(write_image):
    chip = CHIPS["ESP32-S3"]
    with pytest.raises(WrongImage, match="more than any flash"):
        check_image(write_image(image_for(chip, (16 << 20) + 1)), chip)
