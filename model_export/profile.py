"""The quantile bins of a model: how its scores and features are spread over normal windows; contract/profile.py."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contract import artifact, profile
from model_export.model import Model

_LEAST_HELD_OUT = 10 * profile.SCORE_BINS  # windows from which on the fitted ones are left aside


def fields_of(model: Model) -> dict[str, bytes]:
    """The manifest's `bins` and `shares`; the same model gives the same bytes.

    Scores are those of the held-out windows, which the threshold comes from too: a detector scores what it was fitted
    to lower, a nearest neighbour even 0. Where they are few the fitted windows are added. Features are taken from all.
    """
    seen = np.concatenate((model.train, model.held_out))
    fresh = model.held_out if len(model.held_out) >= _LEAST_HELD_OUT else seen
    scores = model.scores(fresh).astype(np.float32)
    edges = _between(scores, profile.SCORE_BINS)
    bins = struct.pack(f"<{len(edges)}f", *edges)
    shares = _shares(scores, edges)
    for column in range(min(seen.shape[1], features_with_room(model.card["schema"]))):
        values = seen[:, column]
        cuts = _at_quantiles(values, profile.FEATURE_BINS)
        bins += struct.pack(f"<{len(cuts)}i", *(int(cut) for cut in cuts))
        shares += _shares(values, cuts)
    return {"bins": bins, "shares": shares}


def _at_quantiles(values: npt.NDArray[Any], bins: int) -> npt.NDArray[Any]:
    """The values at the quantiles between `bins` equal parts."""
    return np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")


def _between(scores: npt.NDArray[np.float32], bins: int) -> npt.NDArray[np.float32]:
    """Edges at the quantiles, halfway to the next score: a board that rounds otherwise counts in the same bin."""
    distinct = np.unique(scores)
    at = np.searchsorted(distinct, _at_quantiles(scores, bins))
    above = distinct[np.minimum(at + 1, len(distinct) - 1)]
    return (distinct[at] + (above - distinct[at]) / 2).astype(np.float32)


def _shares(values: npt.NDArray[Any], edges: Sequence[Any] | npt.NDArray[Any]) -> bytes:
    """How much each bin holds, in 255ths that add up: the largest remainders are rounded up."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    exact = counts * profile.WHOLE / len(values)
    whole = np.floor(exact).astype(int)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: profile.WHOLE - int(whole.sum())]] += 1
    return bytes(whole.tolist())


def features_with_room(schema: str) -> int:
    """For how many features a manifest with this schema has room, whatever its other fields are."""
    fixed = sum(
        len(key) + 1 + max(5, high + 3 if kind in artifact.SIZED else 0)
        for key, kind, _, high in (*artifact.FIELDS, *artifact.OPTIONAL)
        if key not in ("schema", "bins", "shares")
    )
    heads = 3 + len("schema") + 4 + len("bins") + 4 + len("shares") + 4
    room = artifact.MAX_MANIFEST_BYTES - fixed - heads - len(schema) - profile.SCORE_BYTES - profile.SCORE_BINS
    return max(0, room // (profile.FEATURE_BYTES + profile.FEATURE_BINS))
