"""firmware/ulp/watch.s as machine code: assembled under MicroPython, run by tests/support/ulp.py.

Whether a chip does what Espressif's documents say is for a board on a desk.
"""

import random
from pathlib import Path

import pytest

from tests.support.ulp import BadInstruction, NoHalt, Ulp, load
from tools import sdists
from tools.firmware import FIRMWARE
from tools.gen_ulp import SOURCE_PATH, assemble

ROOT = Path(__file__).resolve().parents[2]
RTC_CNTL, LOW_POWER_ST = 0, 0xC0 >> 2
ASLEEP = {(RTC_CNTL, LOW_POWER_ST): 1 << 19}
LOW, LOW_BACK, HIGH_BACK, HIGH = 1000, 1200, 2800, 3000
RING_WORDS = 128
OVERSAMPLING = 4


@pytest.fixture(scope="module")
def assembled() -> tuple[dict[str, int], bytes]:
    try:
        return assemble(ROOT / SOURCE_PATH)
    except sdists.Unavailable as unavailable:
        pytest.skip(f"{unavailable}")


class Watch:
    """The program with limits filled in, over a signal that the test sets."""

    def __init__(self, assembled: tuple[dict[str, int], bytes], asleep: bool = True) -> None:
        self.at, binary = assembled
        self.pads: list[tuple[int, int]] = []
        self.signal = 0
        self.ulp = Ulp(load(binary), self._convert, dict(ASLEEP) if asleep else {})
        self.ulp.memory[self.at["measure"]] |= 7 << 2  # channel 6; the assembled mux is 1
        limits = {"low": LOW, "low_back": LOW_BACK, "high_back": HIGH_BACK, "high": HIGH}
        for name, value in limits.items():
            self.ulp.memory[self.at[name]] = value

    def _convert(self, unit: int, pad: int) -> int:
        self.pads.append((unit, pad))
        return self.signal

    def sees(self, *signal: int) -> list[int]:
        """The samples (counted from 0) that woke the board."""
        woke: list[int] = []
        for number, value in enumerate(signal):
            before = self.ulp.wakes
            self.signal = value
            self.ulp.run(self.at["entry"])
            if self.ulp.wakes > before:
                woke.append(number)
        return woke

    def word(self, name: str, index: int = 0) -> int:
        return self.ulp.memory[self.at[name] + index] & 0xFFFF


def test_a_signal_within_its_limits_wakes_nobody(assembled: tuple[dict[str, int], bytes]):
    watch = Watch(assembled)
    assert watch.sees(2000, LOW, HIGH, 1500) == []
    assert watch.pads == [(0, 7)] * (4 * OVERSAMPLING), "ADC1, the patched pad, four conversions a sample"


def test_each_crossing_wakes_once_and_again_only_after_the_hysteresis(assembled: tuple[dict[str, int], bytes]):
    watch = Watch(assembled)
    assert watch.sees(2000, 3001, 4095, 3001) == [1]
    assert watch.sees(2900, 3001) == [], "left by less than the hysteresis"
    assert watch.sees(2800, 3001) == [1]
    assert watch.sees(999) == [0], "from above to below in one step is another event"
    assert watch.sees(0, 1100, 999) == []
    assert watch.sees(1200, 999) == [1]


def test_a_noisy_signal_at_a_limit_wakes_once(assembled: tuple[dict[str, int], bytes]):
    noise = random.Random(5)
    watch = Watch(assembled)
    assert len(watch.sees(*(HIGH + noise.randrange(-150, 150) for _ in range(500)))) == 1


@pytest.mark.parametrize("value", [0, 1, 999, 1000, 1199, 1200, 2800, 2801, 3000, 3001, 4095])
def test_the_zone_after_any_pair_of_values_is_what_the_rule_says(assembled: tuple[dict[str, int], bytes], value: int):
    for first in (0, 2000, 4095):
        watch = Watch(assembled)
        watch.sees(first)
        before = watch.word("zone")
        watch.sees(value)
        within = 0 if LOW_BACK <= value <= HIGH_BACK else before
        assert watch.word("zone") == (1 if value > HIGH else 2 if value < LOW else within)


def test_a_crossing_while_the_chip_is_awake_wakes_it_when_it_sleeps(assembled: tuple[dict[str, int], bytes]):
    watch = Watch(assembled, asleep=False)
    assert watch.sees(4000, 4000) == []
    watch.ulp.registers.update(ASLEEP)
    assert watch.sees(4000, 4000) == [0]


def test_the_ring_holds_the_newest_samples_and_the_count_says_where(assembled: tuple[dict[str, int], bytes]):
    watch = Watch(assembled)
    signal = [1200 + number % 1500 for number in range(300)]
    watch.sees(*signal)
    count = watch.word("count")
    assert count == 300
    newest = [watch.word("ring", (count - RING_WORDS + n) % RING_WORDS) for n in range(RING_WORDS)]
    assert newest == signal[-RING_WORDS:]


def test_a_word_that_was_written_has_something_in_its_upper_half(assembled: tuple[dict[str, int], bytes]):
    """By this the board knows a full ring, whatever the count."""
    watch = Watch(assembled)
    watch.sees(*[0] * (RING_WORDS - 1))
    last = watch.at["ring"] + RING_WORDS - 1
    assert watch.ulp.memory[last] == 0
    watch.sees(0)
    assert watch.ulp.memory[last] >> 16


def test_the_count_goes_round_where_the_ring_does(assembled: tuple[dict[str, int], bytes]):
    watch = Watch(assembled)
    watch.ulp.memory[watch.at["count"]] = 65534
    watch.sees(1300, 1400, 1500)
    assert watch.word("count") == 1
    assert [watch.word("ring", n) for n in (126, 127, 0)] == [1300, 1400, 1500]


def test_a_sample_is_the_mean_of_four_conversions_and_full_scale_does_not_overflow(
    assembled: tuple[dict[str, int], bytes],
):
    watch = Watch(assembled)
    values = iter([4095, 4095, 4095, 4094, 1001, 1002, 1003, 1004])
    watch.ulp.adc = lambda _unit, _pad: next(values)
    watch.ulp.run()
    watch.ulp.run()
    assert [watch.word("ring", n) for n in (0, 1)] == [4094, 1002]


def test_a_sample_costs_few_instructions_and_nothing_else_is_written(assembled: tuple[dict[str, int], bytes]):
    watch = Watch(assembled)
    before = list(watch.ulp.memory)
    steps = max(watch.ulp.run() for _ in range(200))
    print(f"ULP instructions per sample: {steps}, program {watch.at['high']} words")
    assert steps < 60
    changed = {n for n, (old, new) in enumerate(zip(before, watch.ulp.memory, strict=True)) if old != new}
    ring = range(watch.at["ring"], watch.at["ring"] + RING_WORDS)
    assert changed <= {watch.at["count"], watch.at["zone"], *ring}
    assert watch.at["ring"] + RING_WORDS <= 2040 // 4, "what MicroPython's ESP32 port reserves for the ULP"


def test_the_module_the_board_loads_is_this_program(assembled: tuple[dict[str, int], bytes]):
    places, binary = assembled
    scope: dict[str, object] = {"const": lambda value: value}
    text = (FIRMWARE / "device/board/ulp_program.py").read_text()
    exec(text.replace("from micropython import const", ""), scope)
    assert scope["PROGRAM"] == binary
    assert all(scope[name.upper()] == address for name, address in places.items())


def test_the_interpreter_refuses_what_it_does_not_know():
    with pytest.raises(BadInstruction):
        Ulp([0xF0000000], lambda _unit, _pad: 0).run()
    with pytest.raises(NoHalt):
        Ulp([0x80000000], lambda _unit, _pad: 0).run()  # JUMP 0
