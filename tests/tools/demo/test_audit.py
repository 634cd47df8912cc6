"""Alerts are counted against the labels of the windows they were raised on."""

from typing import Any

import numpy as np
import pytest

from tools.demo.audit import in_labels
from tools.demo.stage import Recording

SECOND_MS = 1000
TIMES = {100_000 + seq * SECOND_MS: seq for seq in range(10)}


def played(window: int, labelled: int) -> Recording:
    rows = np.zeros((8, 1), np.int32)
    return Recording(f"v1;w={window};c=x:1:1;f=last", window, ("x",), rows, np.arange(8) == labelled)


def raised(seq: int, after_ms: int) -> list[dict[str, Any]]:
    return [{"at_ms": 100_000 + seq * SECOND_MS + after_ms}]


@pytest.mark.parametrize("after_ms", [0, 3, 80])
def test_an_alert_belongs_to_the_reading_before_it(after_ms: int):
    assert in_labels(raised(4, after_ms), TIMES, played(1, labelled=4)) == 1
    assert in_labels(raised(5, after_ms), TIMES, played(1, labelled=4)) == 0


def test_any_labelled_sample_of_the_window_counts_and_the_recording_begins_again():
    assert in_labels(raised(6, 2), TIMES, played(4, labelled=3)) == 1
    assert in_labels(raised(7, 2), TIMES, played(4, labelled=3)) == 0
    assert in_labels(raised(9, 2), TIMES, played(1, labelled=1)) == 1


def test_an_alert_before_all_readings_is_on_none():
    assert in_labels(raised(-1, 0), TIMES, played(1, labelled=7)) == 0
