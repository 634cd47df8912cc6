"""device/clock.py: which advances of the RTC are believed, and what becomes of the others."""

import re

from tests.support.micropython import evaluate
from tools.firmware import FIRMWARE

START_MS = 1 << 41
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


def jumps(cases: list[tuple[int, int, int]]) -> list[int]:
    """jump_of() of (now, stored, sleep) each."""
    return evaluate(f"from device.clock import jump_of\nresult = [jump_of(*case) for case in {cases!r}]")


def test_a_sleep_that_ends_on_time_early_or_a_little_late_is_believed():
    stored = START_MS + YEAR_MS
    advances = [0, 1, 30_000, 60_000, 63_000, 60_000 + 600_000]
    assert jumps([(stored + advance, stored, 60_000) for advance in advances]) == [0] * len(advances)


def test_five_percent_drift_of_the_rtc_is_believed_at_any_interval():
    stored = START_MS + 5
    assert jumps([(stored + sleep * 21 // 20, stored, sleep) for sleep in (1000, HOUR_MS, 24 * HOUR_MS)]) == [0, 0, 0]


def test_a_clock_set_back_or_far_ahead_is_a_jump_by_all_but_the_sleep():
    stored = START_MS + 20 * YEAR_MS
    cases = [(stored - 1, stored, 60_000), (stored - 10 * YEAR_MS, stored, 60_000), (START_MS, stored, 60_000)]
    cases += [(stored + 2 * HOUR_MS, stored, 60_000), (stored + 10 * YEAR_MS, stored, 60_000)]
    assert jumps(cases) == [now - stored - sleep for now, stored, sleep in cases]


def test_after_compensation_every_age_is_what_it_was_plus_one_sleep():
    names, ages = evaluate(
        f"""
        from device import clock
        class State:
            pass
        names = [name for name in clock.MOMENTS if name not in ("hello_ms", "tokens_ms")]
        ages = []
        for jump_ms in (-{10 * YEAR_MS}, -{YEAR_MS}, {YEAR_MS}, {10 * YEAR_MS}):
            state = State()
            state.tokens_ms = state.hello_ms = 0
            now_ms = {START_MS + 20 * YEAR_MS}
            for number, name in enumerate(names):
                setattr(state, name, now_ms - 1000 * number)
            now_ms += 60_000 + jump_ms
            clock.compensate(state, clock.jump_of(now_ms, state.stored_ms + 1000, 60_000))
            ages.append([now_ms - getattr(state, name) for name in names])
            assert state.tokens_ms == 0, "never stays never"
            assert state.hello_ms == 0, "a HELLO is due"
        result = (names, ages)
        """
    )
    assert ages == [[60_000 + 1000 * number for number in range(len(names))]] * 4


def test_every_moment_in_rtc_memory_is_moved():
    """rtc_layout.py says "board clock" of each field that holds one."""
    layout = (FIRMWARE / "device" / "rtc_layout.py").read_text()
    fields = re.findall(r'^ +\("(\w+)", \d+, "IH"\),  # .*board clock', layout, re.MULTILINE)
    assert sorted(fields) == sorted(evaluate("from device import clock\nresult = list(clock.MOMENTS)"))
