"""How the board has been since its last HEALTH record: counters in RTC memory, and the record made of them."""

import gc
import sys

from contract.wire import FAULT_FLASH, MAX_U32
from device import ledger
from device.errors import fault_of
from device.rtc_state import clear

_MAX_U16 = 0xFFFF


class Health:
    """Works on the counters of an RtcState; board gives what is measured now; chip: whose ledger.PROFILES."""

    def __init__(self, board: object, state: object, log: bool, chip: str = "ESP32") -> None:
        self._board = board
        self._state = state
        self._log = log
        self._profile = ledger.profile_of(chip)

    def fault(self, error: Exception, fault: int | None = None) -> None:
        """Count an exception under `fault`, else its own FAULT_* class; print it where config.json asks for that."""
        self.count(fault_of(error) if fault is None else fault)
        if self._log:
            sys.print_exception(error)

    def count(self, fault: int, times: int = 1) -> None:
        """Count a fault that is no exception."""
        faults = self._state.faults
        faults[fault] = min(faults[fault] + times, _MAX_U16)

    def score(self, score: float, threshold: float) -> None:
        """Count a score in the histogram: 8 bins up to the threshold, 8 above it, each an eighth of its size wide.

        A model with threshold 0 has bins one wide. The outer bins take what lies beyond.
        """
        width = abs(threshold) / 8 or 1.0
        place = max(-8.0, min(7.0, (score - threshold) / width))
        bin_number = 8 + int(place) - (place < int(place))
        scores = self._state.scores
        scores[bin_number] = min(scores[bin_number] + 1, _MAX_U16)

    def outcome(self, outcome: int) -> None:
        """Count what became of a window, OUTCOME_*."""
        routes = self._state.routes
        routes[outcome] = min(routes[outcome] + 1, _MAX_U16)

    def session(self, link: object) -> None:
        """Add the session of this wake, as its Link counted it."""
        state = self._state
        state.radio_sessions = min(state.radio_sessions + link.sessions, _MAX_U16)
        state.radio_failures = min(state.radio_failures + link.failures, _MAX_U16)
        state.radio_ms += link.radio_ms
        state.tx_bytes += link.tx_bytes
        state.rx_bytes += link.rx_bytes

    def flash(self, outbox: object, epoch_stored: bool) -> None:
        """Count what flash refused or spoiled in this wake."""
        self.count(FAULT_FLASH, outbox.write_failures + outbox.damaged_segments + (0 if epoch_stored else 1))

    def spend(self, awake_ms: int, radio_ms: int, slept_ms: int, flash_bytes: int) -> None:
        """Charge one wake and the sleep before it."""
        state = self._state
        state.awake_ms += awake_ms
        ledger.charge(state.energy_uj, awake_ms, radio_ms, slept_ms, flash_bytes, self._profile)

    def record(self, journal: object, dropped: list, next_contact_ms: int, shadow: bytes | None = None) -> None:
        """Note a HEALTH record of the period that ends now, and begin the next.

        dropped: records given up, by stream. shadow: sha8 of the model that scores beside the active one, or None.
        """
        from device import profile  # a wake that installs a model needs the room

        state = self._state
        now_ms = self._board.now_ms()
        state.energy_mj = min(state.energy_mj + (sum(state.energy_uj) + 500) // 1000, MAX_U32)
        gc.collect()
        journal.health(
            now_ms - state.health_ms if state.health_ms else now_ms - state.began_ms,
            state.health_wakes,
            self._board.battery_mv(),
            state.link_rssi,
            gc.mem_free(),
            min(self._board.free_flash(), MAX_U32),
            state.awake_ms,
            state.energy_uj,
            (state.radio_sessions, state.radio_ms, state.tx_bytes, state.rx_bytes, state.radio_failures),
            dropped,
            [(fault, times) for fault, times in enumerate(state.faults) if times],
            state.scores,
            state.resets,
            next_contact_ms,
            state.routes,
            ledger.sending_uj(state.tx_bytes, state.energy_uj[ledger.RADIO], self._profile),
            state.energy_mj,
            state.line_holds,
            shadow,
            state.shadow[1],
            state.shadow[2],
            profile.report(state),
        )
        state.line_holds = 0
        state.health_ms = now_ms
        state.told_band = state.battery_band
        state.health_wakes = state.awake_ms = 0
        state.radio_sessions = state.radio_failures = state.radio_ms = state.tx_bytes = state.rx_bytes = 0
        clear(state.shadow, 1)
        for counts in (state.energy_uj, state.faults, state.scores, state.routes):
            clear(counts)
