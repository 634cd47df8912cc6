"""Holds sessions, each as soon as the breaker allows it, with a broker that refuses every connection.

argv[1]: how many. EDGEWISE_BOARD_DIR names the board. The clock jumps over the waits, as deep sleep would.
"""

import gc
import json
import sys

import main

from contract import policy
from device.rtc_state import clear

ASLEEP_MS = 50


def live(times):
    parts = main.make_parts()
    state, board = parts.state, parts.board
    state.load(1)
    parts.outbox.open()
    state.link_quality = 255
    began_ms = board.now_ms()
    tries = heap = 0
    spent_uj = [0] * len(state.energy_uj)
    while tries < times:
        woke_ms = board.now_ms()
        breaker = (state.breaker_state, state.breaker_failures, state.breaker_until_ms)
        state.tokens_milli, state.tokens_ms = policy.refill(state.tokens_milli, state.tokens_ms, woke_ms, 60, 60)
        reason = policy.sync_reason(woke_ms, 0, 0, 0, policy.BAND_FULL, breaker, state.tokens_milli)
        if reason != policy.SYNC_NONE:
            main.hold_session(parts)
            tries += 1
            parts.health.spend(board.now_ms() - woke_ms, parts.radio_ms, 0, parts.journal.written_bytes)
            spent_uj = [spent + more for spent, more in zip(spent_uj, state.energy_uj)]
            clear(state.energy_uj)
            parts.radio_ms = parts.journal.written_bytes = 0
            state.store()
            gc.collect()
            if tries == 20:
                heap = gc.mem_alloc()
        board.woke_ms += max(ASLEEP_MS, state.breaker_until_ms - board.now_ms())
    print(
        json.dumps(
            {
                "tries": tries,
                "clock_ms": board.now_ms() - began_ms,
                "energy_uj": spent_uj,
                "breaker": [state.breaker_state, state.breaker_failures],
                "heap_growth": gc.mem_alloc() - heap,
            }
        )
    )


live(int(json.loads(sys.argv[1])))
