"""The download table, row by row."""

from contract import download_policy, wire
from contract.policy import BAND_EMPTY, BAND_FAIR, BAND_FULL, BAND_LOW

NOON_S = 12 * 3600
HOURS = (11 * 60, 13 * 60)
NIGHT = (22 * 60, 4 * 60)
DOWNLOADED = (
    # one entry for each row of download_policy.DOWNLOADS, in its order, then what only looks like another row
    ((BAND_EMPTY, (), True, NOON_S), wire.REASON_LOW_BATTERY),
    ((BAND_LOW, NIGHT, True, NOON_S), wire.REASON_OK),
    ((BAND_LOW, (), False, NOON_S), wire.REASON_LOW_BATTERY),
    ((BAND_FULL, NIGHT, False, NOON_S), wire.REASON_NOT_NOW),
    ((BAND_FAIR, HOURS, False, NOON_S), wire.REASON_OK),
    ((BAND_EMPTY, NIGHT, False, NOON_S), wire.REASON_LOW_BATTERY),
    ((BAND_LOW, NIGHT, False, NOON_S), wire.REASON_LOW_BATTERY),
    ((BAND_FULL, (), False, 0), wire.REASON_OK),
    ((BAND_FULL, HOURS, False, 0), wire.REASON_NOT_NOW),  # nobody knows what time it is
    ((BAND_FULL, HOURS, True, 0), wire.REASON_OK),
    ((BAND_FULL, HOURS, False, 86400 + 11 * 3600), wire.REASON_OK),
    ((BAND_FULL, HOURS, False, 11 * 3600 - 1), wire.REASON_NOT_NOW),
    ((BAND_FULL, HOURS, False, 13 * 3600 - 1), wire.REASON_OK),
    ((BAND_FULL, HOURS, False, 13 * 3600), wire.REASON_NOT_NOW),
    ((BAND_FULL, NIGHT, False, 22 * 3600), wire.REASON_OK),
    ((BAND_FULL, NIGHT, False, 4 * 3600 - 1), wire.REASON_OK),
    ((BAND_FULL, NIGHT, False, 4 * 3600), wire.REASON_NOT_NOW),
    ((BAND_FULL, (60, 60), False, NOON_S), wire.REASON_NOT_NOW),  # no hour at all: urgent ones only
    ((BAND_FULL, (60,), False, NOON_S), wire.REASON_OK),
)


def test_a_model_is_downloaded_when_charge_and_hour_allow_it():
    for given, reason in DOWNLOADED:
        assert download_policy.download_reason(*given) == reason, given


def test_every_row_of_the_download_table_decides_for_its_own_facts():
    for number, (_, reason) in enumerate(download_policy.DOWNLOADS):
        assert DOWNLOADED[number][1] == reason
