"""When the update under way may use the radio: contract/download_policy.py with this board's facts.

Apart from cycle.py and sync.py because of its size: a wake without an update does not import it.
"""

from contract import policy
from contract.download_policy import download_reason
from contract.wire import REASON_OK, UPDATE_DOWNLOAD


def reason(parts: object) -> int:
    """REASON_OK when a model may be downloaded now, else what that waits for."""
    config = parts.config
    return download_reason(parts.state.battery_band, config["update_hours"], config["update_urgent"], parts.now_s())


def calls(parts: object) -> bool:
    """Whether the model that is being downloaded or tried is worth a session of its own."""
    if parts.updater.state == UPDATE_DOWNLOAD:
        return reason(parts) == REASON_OK
    return parts.state.battery_band >= policy.BAND_FAIR
