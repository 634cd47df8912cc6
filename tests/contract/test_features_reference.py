"""The integer features against floating-point definitions, and against the 31 bits that a board computes in."""

import math
from array import array
from typing import Any

import numpy as np
import pytest

from contract import features as module
from contract.features import Features

TOKENS = "mean,var,sd,min,max,last,pp,ld,ld2,md,md2,zc,crest,kurt"
ACCURACY = 1e-3


@pytest.mark.parametrize("window", [4, 16, 50, 256])
def test_features_are_near_their_definitions_over_the_real_numbers(window):
    rng = np.random.default_rng(window)
    features = Features(f"v1;w={window};c=x::1;f={TOKENS},be1-2")
    out = array("i", [0] * features.n_features)
    for spread in (100, 3000, 12000):
        x = np.rint(rng.normal(500, spread, size=window)).clip(-32767, 32767)
        features.compute_into(array("i", x.astype(int).tolist()), out)
        got = dict(zip(features.names, out, strict=True))
        d = x - x.mean()
        spectrum = np.abs(np.fft.rfft(d) / window) ** 2
        expected = {
            "mean": x.mean(), "var": x.var(), "sd": x.std(), "min": x.min(), "max": x.max(), "last": x[-1],
            "pp": np.ptp(x), "ld": x[-1] - x[-2], "ld2": x[-1] - 2 * x[-2] + x[-3],
            "md": np.abs(np.diff(x)).mean(), "md2": np.abs(np.diff(x, 2)).mean(),
            "zc": np.count_nonzero(np.diff(d >= 0)), "crest": 256 * np.abs(d).max() / x.std(),
            "kurt": 256 * (d**4).mean() / x.var() ** 2, "be1-2": spectrum[1:3].sum(),
        }  # fmt: skip
        for token, value in expected.items():
            rough = {"be1-2": 0.02, "kurt": 0.1, "crest": 0.01}.get(token, ACCURACY)
            unit = 4 * math.sqrt(spectrum[1:3].max()) + 4
            floor = {"be1-2": unit, "kurt": 16, "var": 2 * spread / 16}.get(token, 1.01)
            assert got["x." + token] == pytest.approx(value, rel=rough, abs=floor), token


class Narrow(int):
    """An integer that refuses to grow beyond MicroPython's small integers on a 32-bit board."""

    def __new__(cls, value: int) -> "Narrow":
        assert -(1 << 30) <= value < 1 << 30, f"{value} is no small integer"
        return super().__new__(cls, value)


def _narrow(name: str) -> Any:
    plain = getattr(int, name)

    def operation(self: int, *others: int) -> Any:
        result = plain(self, *others)
        return Narrow(result) if type(result) is int else result

    return operation


for _name in ("add", "sub", "mul", "floordiv", "lshift", "rshift", "and", "neg", "abs"):
    setattr(Narrow, f"__{_name}__", _narrow(f"__{_name}__"))
    if _name not in ("neg", "abs"):
        setattr(Narrow, f"__r{_name}__", _narrow(f"__r{_name}__"))


class NarrowList(list[int]):
    """A list whose items come out as Narrow, in place of the arrays that Features works in."""

    def __getitem__(self, index: Any) -> Any:
        return Narrow(super().__getitem__(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, Narrow(value))

    def __iter__(self) -> Any:
        return (Narrow(value) for value in list.__iter__(self))


@pytest.mark.parametrize("window", [1, 2, 3, 16, 255, 256])
def test_no_intermediate_value_leaves_31_bits(window, monkeypatch):
    monkeypatch.setattr(module, "COUNT_LIMIT", Narrow(module.COUNT_LIMIT))
    tokens = "mean,var,sd,min,max,last,crest,kurt" if window < 4 else f"{TOKENS},be1-{window // 2}"
    features = Features(f"v1;w={window};c=x::1;f={tokens}")
    plain = Features(features.text)
    for name in ("_column", "_stats", "_cosines"):
        setattr(features, name, NarrowList(getattr(features, name)))
    rng = np.random.default_rng(window)
    top = 1 << 29
    windows = [
        [top if i % 2 else -top for i in range(window)],
        [top] * (window - 1) + [-top],
        [-top] * (window // 2) + [top] * (window - window // 2),
        [0] * (window - 1) + [1],
        [0] * (window - 1) + [top],
        [round(32767 * math.cos(2 * math.pi * i / window)) for i in range(window)],
        rng.integers(-32767, 32768, size=window).tolist(),
        rng.integers(-2, 3, size=window).tolist(),
    ]
    for samples in windows:
        out = array("i", [0] * features.n_features)
        again = array("i", [0] * features.n_features)
        features.compute_into(NarrowList(samples), out)  # type: ignore[arg-type]
        plain.compute_into(array("i", samples), again)
        assert out == again
