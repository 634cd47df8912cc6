"""Counts each scored window in the bins of the model that scored it (contract/profile.py), in RTC memory.

Counts belong to one artifact: another one begins anew. Scores are counted at every window; features six at a time,
from one HEALTH record to the next, so that 24 bytes do for any number. Bins that a model has not, and a head that
cannot be read, leave the window uncounted and nothing else undone.
"""

from micropython import const

from contract import profile
from device.rtc_state import clear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

_MANIFEST_AT = const(92)  # contract/artifact.py, which a wake without an update does not import
_NO_MODEL = bytes(8)


def count(parts: object, sha8: bytes, score: float, features: "array") -> None:
    """Count one window that the active model, artifact `sha8`, scored; features: array('i') of n_features."""
    state = parts.state
    if state.profile_model != sha8:
        _clear(state)
        state.profile_model = sha8
        state.profile_from = 0
    with parts.updater.open_head() as f:
        at, n_bytes = profile.find_bins(f, _MANIFEST_AT)
        if n_bytes < profile.SCORE_BYTES:
            state.profile_model = _NO_MODEL
            return
        f.seek(at)
        edges = profile.score_edges(f.read(profile.SCORE_BYTES))
        n_profiled = (n_bytes - profile.SCORE_BYTES) // profile.FEATURE_BYTES
        if state.profile_from >= n_profiled:
            state.profile_from = 0
        first = state.profile_from
        n_now = min(profile.FEATURES_AT_ONCE, n_profiled - first)
        f.seek(at + profile.SCORE_BYTES + profile.FEATURE_BYTES * first)
        group = f.read(profile.FEATURE_BYTES * n_now)
    profile.count(state.profile_scores, 0, score, edges)
    for index in range(n_now):
        edges = profile.edges_at(group, profile.FEATURE_BYTES * index)
        profile.count(state.profile_features, profile.FEATURE_BINS * index, features[first + index], edges)


def report(state: object) -> "tuple | None":
    """What HEALTH says, (model, scores, first feature, counts of features), None when nothing was counted.

    The next period begins, with the next features.
    """
    if state.profile_model == _NO_MODEL or not any(state.profile_scores):
        return None
    found = (state.profile_model, bytes(state.profile_scores), state.profile_from, bytes(state.profile_features))
    _clear(state)
    state.profile_from += profile.FEATURES_AT_ONCE
    return found


def _clear(state: object) -> None:
    clear(state.profile_scores)
    clear(state.profile_features)
