"""The decision tables, row by row, and what must hold for all of them."""

from array import array

from contract import policy
from contract.policy import BAND_EMPTY, BAND_FAIR, BAND_FULL, BAND_LOW, JITTER_RANGE
from tests.contract.suite.check import Random

RECORDED = (
    # upload, told, raw windows left: raw, left after it
    ((policy.UPLOAD_ALL, False, 0), (True, 0)),
    ((policy.UPLOAD_ALL, True, 5), (True, 0)),
    ((policy.UPLOAD_EVENTS, False, 0), (False, 0)),
    ((policy.UPLOAD_EVENTS, True, 0), (True, 1)),
    ((policy.UPLOAD_EVENTS, False, 1), (True, 0)),
    ((policy.UPLOAD_EVENTS, True, 9), (True, 8)),
    ((policy.UPLOAD_ASKED, True, 0), (False, 0)),
    ((policy.UPLOAD_ASKED, False, 3), (True, 2)),
)


def test_samples_are_recorded_when_the_upload_table_says_so():
    for arguments, expected in RECORDED:
        assert policy.records_raw(*arguments) == expected, arguments


def test_battery_bands_have_bounds_with_hysteresis():
    for battery_mv, band, expected in (
        (4200, BAND_EMPTY, BAND_FULL),
        (3700, BAND_FULL, BAND_FULL),
        (3699, BAND_FULL, BAND_FAIR),
        (3759, BAND_FAIR, BAND_FAIR),
        (3760, BAND_FAIR, BAND_FULL),
        (3499, BAND_FULL, BAND_LOW),
        (3559, BAND_LOW, BAND_LOW),
        (3560, BAND_LOW, BAND_FAIR),
        (3299, BAND_FULL, BAND_EMPTY),
        (3359, BAND_EMPTY, BAND_EMPTY),
        (3360, BAND_EMPTY, BAND_LOW),
        (1, BAND_FULL, BAND_EMPTY),
        (0, BAND_EMPTY, BAND_FULL),
    ):
        assert policy.battery_band(battery_mv, band) == expected, (battery_mv, band)


def test_sag_within_the_hysteresis_does_not_flap():
    random = Random(1)
    for centre in range(3200, 3800, 7):
        band = policy.battery_band(centre, BAND_FULL)
        bands = []
        for _ in range(40):
            band = policy.battery_band(centre - 29 + random.below(59), band)
            if not bands or bands[-1] != band:
                bands.append(band)
        assert len(bands) <= 2, (centre, bands)


SYNCED = (
    # now, next sync, events, ring per cent, band, breaker, tokens: reason
    ((1000, 5000, 0, 10, BAND_FULL, policy.NEW_BREAKER, 1000), policy.SYNC_NONE),
    ((1000, 5000, 1, 10, BAND_FULL, policy.NEW_BREAKER, 1000), policy.SYNC_EVENT),
    ((5000, 5000, 0, 10, BAND_FULL, policy.NEW_BREAKER, 1000), policy.SYNC_WINDOW),
    ((1000, 5000, 0, 75, BAND_FULL, policy.NEW_BREAKER, 1000), policy.SYNC_ROOM),
    ((1000, 5000, 0, 84, BAND_FAIR, policy.NEW_BREAKER, 1000), policy.SYNC_NONE),
    ((1000, 5000, 0, 95, BAND_LOW, policy.NEW_BREAKER, 1000), policy.SYNC_ROOM),
    ((1000, 5000, 0, 99, BAND_EMPTY, policy.NEW_BREAKER, 1000), policy.SYNC_NONE),
    ((1000, 5000, 3, 99, BAND_EMPTY, policy.NEW_BREAKER, 1000), policy.SYNC_EVENT),
    ((5000, 5000, 9, 99, BAND_FULL, (policy.BREAKER_OPEN, 3, 5001), 1000), policy.SYNC_NONE),
    ((5001, 5000, 9, 99, BAND_FULL, (policy.BREAKER_OPEN, 3, 5001), 1000), policy.SYNC_EVENT),
    ((5000, 5000, 9, 99, BAND_FULL, policy.NEW_BREAKER, 999), policy.SYNC_NONE),
)


def test_a_session_begins_for_the_most_important_reason_and_only_when_allowed():
    for arguments, expected in SYNCED:
        assert policy.sync_reason(*arguments) == expected, arguments


def test_scheduled_sessions_spread_over_a_quarter_of_their_interval():
    assert policy.next_sync_ms(1000, 80000, BAND_FULL, 0) == 1000 + 70000
    assert policy.next_sync_ms(1000, 80000, BAND_FULL, JITTER_RANGE - 1) == 1000 + 90000 - 1
    assert policy.next_sync_ms(1000, 80000, BAND_LOW, JITTER_RANGE // 2) == 1000 + 4 * 80000


def test_a_poor_link_or_battery_sends_fewer_frames_but_never_none():
    for band in range(4):
        last = 0
        for quality in range(256):
            frames = policy.frames_per_session(band, quality)
            assert frames >= max(2, last), (band, quality)
            last = frames
        assert policy.frames_per_session(band, 255) == policy.BANDS[band][2]


def test_backoff_doubles_up_to_four_hours_and_is_half_random():
    assert [policy.backoff_ms(failures, 0) for failures in (1, 2, 3, 4)] == [2000, 4000, 8000, 16000]
    assert policy.backoff_ms(1, JITTER_RANGE - 1) == 3999
    assert policy.backoff_ms(255, JITTER_RANGE - 1) <= 4 * 3600 * 1000
    assert policy.backoff_ms(255, 0) == 2 * 3600 * 1000


def test_the_breaker_table_has_a_row_for_every_state_and_happening():
    assert len(policy.BREAKER_TABLE) == len(policy.BREAKER_NAMES) * 3
    for state in range(3):
        for happening in (policy.BEGIN, policy.SUCCESS, policy.FAILURE):
            assert policy.BREAKER_TABLE[(state, happening)] in (0, 1, 2)


def test_the_breaker_opens_at_the_third_failure_and_closes_after_a_good_trial():
    breaker = policy.NEW_BREAKER
    states = []
    now_ms = 0
    for happening in (policy.FAILURE, policy.FAILURE, policy.FAILURE, policy.BEGIN, policy.FAILURE, policy.BEGIN):
        now_ms = max(now_ms, breaker[2])
        assert policy.breaker_allows(breaker, now_ms)
        breaker = policy.breaker_after(breaker, happening, now_ms, 0)
        states.append(breaker[0])
    assert states == [0, 0, 1, 2, 1, 2]
    assert breaker[1] == 4
    assert policy.breaker_after(breaker, policy.SUCCESS, now_ms) == policy.NEW_BREAKER


def test_failures_that_were_remembered_make_the_board_wait_from_now_on():
    assert policy.breaker_restored(0, 1000, 0) == policy.NEW_BREAKER
    assert policy.breaker_restored(1, 1000, 0) == (policy.BREAKER_CLOSED, 1, 3000)
    assert policy.breaker_restored(2, 1000, 0) == (policy.BREAKER_CLOSED, 2, 5000)
    assert policy.breaker_restored(3, 1000, 0) == (policy.BREAKER_OPEN, 3, 9000)
    assert policy.breaker_restored(255, 1000, 0) == (policy.BREAKER_OPEN, 255, 1000 + 2 * 3600 * 1000)


def test_a_failure_makes_the_board_wait():
    breaker = policy.breaker_after(policy.NEW_BREAKER, policy.FAILURE, 1000, 0)
    assert breaker == (policy.BREAKER_CLOSED, 1, 3000)
    assert not policy.breaker_allows(breaker, 2999)
    assert policy.breaker_allows(breaker, 3000)


def test_a_clock_set_back_does_not_keep_the_board_silent():
    breaker = (policy.BREAKER_OPEN, 9, 10**12)
    assert policy.breaker_allows(breaker, 5000)


def test_tokens_flow_in_evenly_however_often_the_bucket_is_looked_at():
    tokens, filled_ms = 0, 0
    for now_ms in range(0, 3_600_001, 777):
        tokens, filled_ms = policy.refill(tokens, filled_ms, now_ms, 7, 1000)
    assert 6980 <= tokens <= 7000, tokens


def test_the_bucket_never_holds_more_than_its_capacity():
    assert policy.refill(0, 0, 10**12, 60, 5) == (5000, 10**12)
    assert policy.refill(4999, 0, 59, 60, 5) == (4999, 0)
    assert policy.refill(4999, 0, 60, 60, 5) == (5000, 60)
    assert policy.refill(100, 0, 5000, 0, 5) == (100, 5000)


def test_a_clock_set_back_starts_the_bucket_anew_without_taking_tokens():
    assert policy.refill(2000, 10**9, 5000, 60, 5) == (2000, 5000)


def hold(values, reported, quiet, bands, heartbeat):
    values = array("i", values)
    reported = array("i", reported)
    quiet = array("B", quiet)
    news = policy.hold_back(values, reported, quiet, bands, heartbeat)
    return news, list(values), list(reported), list(quiet)


def test_a_channel_within_its_dead_band_repeats_what_was_reported():
    assert hold([103, 50], [100, 50], [4, 9], [3, 0], 60) == (False, [100, 50], [100, 50], [5, 10])


def test_a_channel_that_leaves_its_dead_band_is_reported_as_it_is():
    assert hold([104, 50], [100, 50], [4, 9], [3, 0], 60) == (True, [104, 50], [104, 50], [0, 10])
    assert hold([96, 51], [100, 50], [4, 9], [3, 0], 60) == (True, [96, 51], [96, 51], [0, 0])


def test_a_quiet_channel_is_reported_at_its_heartbeat():
    assert hold([103], [100], [58], [3], 60) == (False, [100], [100], [59])
    assert hold([103], [100], [59], [3], 60) == (True, [103], [103], [0])
    assert hold([103], [100], [254], [3], 255) == (True, [103], [103], [0])


def test_what_is_reported_never_strays_further_than_the_dead_band():
    random = Random(5)
    reported, quiet, value = array("i", [0]), array("B", [0]), 0
    for _ in range(2000):
        value += random.below(7) - 3
        values = array("i", [value])
        policy.hold_back(values, reported, quiet, (10,), 60)
        assert abs(values[0] - value) <= 10
        assert quiet[0] < 60
