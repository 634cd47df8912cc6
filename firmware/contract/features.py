"""A window of samples -> a vector of integers: the one definition that training and the board both run.

Schema text, for example `v1;w=16;c=flow:l/s:100,temp:degC:10;f=mean,var,min,max,ld,zc`:
  w  samples in a window, 1 to 256
  c  channels, each `name:unit:scale`; a sample is stored as round(value * scale) counts, `1/N` scales down
  f  features of every channel; the vector holds all features of the first channel, then of the second, ...
The hash of the text travels with every model, so a model never meets features other than its own.

All arithmetic is on integers that fit MicroPython's 31-bit small integers, whatever the samples: nothing here
allocates after `__init__`, nothing depends on how a chip rounds floats; native/window_features.h gives the same bits.
A sample is clamped to +-COUNT_LIMIT counts, a deviation from the mean to the same, a feature to +-FEATURE_LIMIT.
"//" and ">>" round towards minus infinity.

  token   value of one channel's column x of w samples; m is the mean, d = x - m
  mean    m = (sum(x) + w // 2) // w, counts
  var     sum(d * d) // w, counts squared
  sd      floor(sqrt(var)), counts
  min max last    counts
  pp      max - min, counts
  ld ld2  last first and second difference: x[-1] - x[-2], x[-1] - 2 * x[-2] + x[-3], counts
  md md2  mean absolute first and second difference, rounded down, counts
  zc      how often neighbours lie on different sides of m (d < 0 against d >= 0)
  crest   256 * max(abs(d)) / sqrt(var), 0 where var is 0
  kurt    256 * (sum(d ** 4) // w) / var squared, 0 where var is 0; rounding of both as in `_shape`
  beA-B   energy in the bins A to B (1 <= A <= B <= w // 2) of a w-point DFT: sum of (|X| / w) squared, counts
          squared, by correlation with a cosine table. Goertzel's recurrence needs fewer products, but its state
          outgrows 31 bits in the low bins. `beA` is one bin.
"""

import hashlib
from array import array

from contract.wire import MAX_CHANNELS, MAX_FEATURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COUNT_LIMIT = 32767
FEATURE_LIMIT = (1 << 30) - 1
MAX_WINDOW = 256
MAX_SCHEMA_BYTES = 512  # what a manifest can hold
_COS_BITS = 14  # of a table entry's fraction

# Where `_stats` keeps each statistic of the channel at hand; the order is that of TOKENS.
TOKENS = ("mean", "var", "sd", "min", "max", "last", "pp", "ld", "ld2", "md", "md2", "zc", "crest", "kurt")
_MEAN, _VAR, _SD, _MIN, _MAX, _LAST, _PP, _LD, _LD2, _MD, _MD2, _ZC, _CREST, _KURT = range(14)
BAND = 14  # codes from here on name a band: BAND + index into Features.bands
_LEAST_WINDOW = {_LD: 2, _MD: 2, _ZC: 2, _LD2: 3, _MD2: 3}


class SchemaError(ValueError):
    """A schema text that breaks the grammar; `part` is what was wrong, `reason` says how."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(part, reason)
        self.part = part
        self.reason = reason

    def __str__(self) -> str:
        return "feature schema: " + repr(self.part) + " " + self.reason


class Channel:
    """One column of a window: counts = round(value * scale_num / scale_den)."""

    def __init__(self, text: str) -> None:
        parts = text.split(":")
        if len(parts) != 3 or not parts[0]:
            raise SchemaError(text, "is not name:unit:scale")
        self.name, self.unit, scale = parts
        numerator, _, denominator = scale.partition("/")
        self.scale_num = _integer(numerator, 1, 1000000)
        self.scale_den = _integer(denominator or "1", 1, 1000000)


class Features:
    """The features one schema declares; `compute_into` is the only work done per window.

    Attributes: text, schema_hash (8 bytes), window (samples), channels, n_channels, names ("flow.mean", ...),
    n_features, codes (one per feature of a channel) and bands ((first, last) bins).

    native: the module of native/features_module.c, where a board has it; it then does the computing, to the same bits.
    """

    def __init__(self, schema: str, native: "Any" = None) -> None:
        fields = _fields(schema)
        self.text = schema
        self.schema_hash = hashlib.sha256(schema.encode()).digest()[:8]
        self.window = _integer(fields["w"], 1, MAX_WINDOW)
        self.channels = [Channel(part) for part in fields["c"].split(",")]
        self.n_channels = len(self.channels)
        self.bands: list[tuple[int, int]] = []
        tokens = fields["f"].split(",")
        self.codes = [self._code(token) for token in tokens]
        self.names = [channel.name + "." + token for channel in self.channels for token in tokens]
        self.n_features = len(self.names)
        if self.n_channels > MAX_CHANNELS:
            raise SchemaError(fields["c"], "has more than " + str(MAX_CHANNELS) + " channels")
        if self.n_features > MAX_FEATURES:
            raise SchemaError(schema, "declares more than " + str(MAX_FEATURES) + " features")
        if len(set(self.names)) != self.n_features:
            raise SchemaError(schema, "names a channel or a feature twice")

        self._native = native
        if native is not None:
            bins = [line for band in self.bands for line in band]
            self._plan = array("B", [self.n_channels, len(self.codes)] + self.codes + bins)
            self._cosines = array("h", [0] * (4 * self.window if self.bands else 0))
            if self.bands:
                native.fill_cosines(self._cosines)
            return
        self._column = array("i", [0] * self.window)
        self._stats = array("i", [0] * len(TOKENS))
        self._cosines = cosine_table(self.window) if self.bands else array("h")
        self._differs = any(code in (_MD, _MD2) for code in self.codes)
        self._shapes = any(code in (_SD, _CREST, _KURT) for code in self.codes)

    def compute_into(self, window: "array[int]", out: "array[int]") -> None:
        """Fill `out` array('i') (n_features,) from `window` array('i') (window, n_channels) row-major, counts.

        Allocates nothing. Raises ValueError when either length is not the schema's.
        """
        if len(window) != self.window * self.n_channels or len(out) != self.n_features:
            raise ValueError("window or out has the wrong length")
        if self._native is not None:
            self._native.compute(self._plan, self._cosines, window, out)
            return
        stats = self._stats
        at = 0
        for channel in range(self.n_channels):
            self._levels(window, channel)
            self._spread()
            if self._differs:
                self._differences()
            if self._shapes:
                self._shape()
            for code in self.codes:
                value = stats[code] if code < BAND else self._band(code - BAND)
                out[at] = min(value, FEATURE_LIMIT)
                at += 1

    def _code(self, token: str) -> int:
        """The code of one feature token; a band is added to `bands`."""
        if token in TOKENS:
            code = TOKENS.index(token)
            if self.window < _LEAST_WINDOW.get(code, 1):
                raise SchemaError(token, "needs a longer window than w=" + str(self.window))
            return code
        if not token.startswith("be"):
            raise SchemaError(token, "is not one of " + " ".join(TOKENS) + " beA-B")
        first, _, last = token[2:].partition("-")
        low = _integer(first, 1, MAX_WINDOW)
        band = (low, _integer(last or first, low, MAX_WINDOW))
        if band[1] > self.window // 2:
            raise SchemaError(token, "ends above bin w // 2 = " + str(self.window // 2))
        self.bands.append(band)
        return BAND + len(self.bands) - 1

    def _levels(self, window: "array[int]", channel: int) -> None:
        """Copy one channel into the column, clamped, and take what one look at each sample gives."""
        column = self._column
        step = self.n_channels
        count = self.window
        total = 0
        low = COUNT_LIMIT
        high = -COUNT_LIMIT
        at = channel
        for i in range(count):
            x = window[at]
            at += step
            if x > COUNT_LIMIT:
                x = COUNT_LIMIT
            elif x < -COUNT_LIMIT:
                x = -COUNT_LIMIT
            column[i] = x
            total += x
            if x < low:
                low = x
            if x > high:
                high = x
        last = column[count - 1]
        stats = self._stats
        stats[_MEAN] = (total + count // 2) // count
        stats[_MIN] = low
        stats[_MAX] = high
        stats[_LAST] = last
        stats[_PP] = high - low
        if count > 1:
            stats[_LD] = last - column[count - 2]
        if count > 2:
            stats[_LD2] = last - 2 * column[count - 2] + column[count - 3]

    def _spread(self) -> None:
        """Variance and zero crossings; leaves the clamped deviations in the column."""
        column = self._column
        count = self.window
        stats = self._stats
        mean = stats[_MEAN]
        # A square is below 2**30, a sum of them is not: the sum is kept as high * 2**15 + low.
        high = 0
        low = 0
        crossings = 0
        below = column[0] < mean
        for i in range(count):
            d = column[i] - mean
            if (d < 0) != below:
                below = not below
                crossings += 1
            if d > COUNT_LIMIT:
                d = COUNT_LIMIT
            elif d < -COUNT_LIMIT:
                d = -COUNT_LIMIT
            column[i] = d
            d *= d
            high += d >> 15
            low += d & 0x7FFF
        whole = high // count
        stats[_VAR] = (whole << 15) + (((high - whole * count) << 15) + low) // count
        stats[_ZC] = crossings

    def _differences(self) -> None:
        """Mean absolute first and second differences of the deviations, which are those of the samples."""
        column = self._column
        count = self.window
        first = 0
        second = 0
        before = 0
        for i in range(1, count):
            step = column[i] - column[i - 1]
            first += step if step >= 0 else -step
            if i > 1:
                turn = step - before
                second += turn if turn >= 0 else -turn
            before = step
        self._stats[_MD] = first // (count - 1)
        if count > 2:
            self._stats[_MD2] = second // (count - 2)

    def _shape(self) -> None:
        """Standard deviation, crest factor and kurtosis."""
        stats = self._stats
        stats[_SD] = square_root(stats[_VAR])
        stats[_CREST] = stats[_KURT] = 0
        variance = stats[_VAR]
        if not variance:
            return
        # A root of 14 or 15 significant bits: the deviation divided by it is right to 1/2**13.
        shift = 0
        while variance < 1 << 28:
            variance <<= 2
            shift += 1
        root = square_root(variance)
        peak = 0
        high = 0
        low = 0
        for d in self._column:
            if d < 0:
                d = -d
            if d > peak:
                peak = d
            # d <= sqrt(2 * w * var), so t = 64 * d / sd < 1449, t * t in 1/16 < 8192, its square in 1/256 < 2**26
            t = (d << shift + 6) // root
            t = t * t >> 8
            t *= t
            high += t >> 15
            low += t & 0x7FFF
        whole = high // self.window
        stats[_CREST] = (peak << shift + 8) // root
        stats[_KURT] = (whole << 15) + (((high - whole * self.window) << 15) + low) // self.window

    def _band(self, index: int) -> int:
        """Energy of one band of bins, counts squared; at most var, by Parseval's theorem, but for rounding."""
        column = self._column
        cosines = self._cosines
        count = self.window
        quarter = 3 * count  # sin(t) = cos(t + 3/4 turn); the table has 4 * w entries per turn
        first, last = self.bands[index]
        energy = 0
        for line in range(first, last + 1):
            real = 0
            imaginary = 0
            angle = 0
            for i in range(count):
                d = column[i]
                real += d * cosines[angle] >> 7
                turned = angle + quarter
                if turned >= 4 * count:
                    turned -= 4 * count
                imaginary += d * cosines[turned] >> 7
                angle += 4 * line
                if angle >= 4 * count:
                    angle -= 4 * count
            # |sum| < 256 * 2**22 = 2**30; 7 bits of the cosine's fraction are left
            real = real // count >> 7
            imaginary = imaginary // count >> 7
            energy += real * real + imaginary * imaginary
            if energy > FEATURE_LIMIT:
                return FEATURE_LIMIT
        return energy


def square_root(value: int) -> int:
    """floor(sqrt(value)) for 0 <= value < 2**30, bit by bit."""
    root = 0
    bit = 1 << 28
    while bit:
        trial = root + bit
        root >>= 1
        if value >= trial:
            value -= trial
            root += bit
        bit >>= 2
    return root


def cosine_table(window: int) -> "array[int]":
    """array('h') (4 * window,): cos(2 * pi * i / (4 * window)) in 1/2**14, rounded, by integers alone."""
    pi = 3373259426  # round(pi * 2**30)
    table = array("h", [0] * (4 * window))
    for i in range(window + 1):  # the first quarter turn; the rest mirrors it
        angle = (2 * pi * i) // (4 * window)
        square = angle * angle >> 30
        term = total = 1 << 30
        for k in range(1, 10):
            term = -(term * square >> 30) // ((2 * k - 1) * 2 * k)
            total += term
        value = (total + (1 << 15)) >> 16
        table[i] = value
        table[2 * window - i] = -value
        if i:
            table[4 * window - i] = value
        table[(2 * window + i) % (4 * window)] = -value
    return table


def _fields(schema: str) -> "dict[str, str]":
    """The parts of a schema text by their letter."""
    if len(schema) > MAX_SCHEMA_BYTES:
        raise SchemaError(schema[:32], "is longer than " + str(MAX_SCHEMA_BYTES) + " characters")
    parts = schema.split(";")
    if parts[0] != "v1":
        raise SchemaError(parts[0], "is not version v1")
    fields: dict[str, str] = {}
    for part in parts[1:]:
        letter, equals, value = part.partition("=")
        if not equals or letter not in ("w", "c", "f") or letter in fields:
            raise SchemaError(part, "is not one of w= c= f=, each given once")
        fields[letter] = value
    for letter in ("w", "c", "f"):
        if not fields.get(letter):
            raise SchemaError(schema, "lacks " + letter + "=")
    return fields


def _integer(text: str, low: int, high: int) -> int:
    """A decimal integer within [low, high]."""
    if not text.isdigit() or len(text) > 7 or not low <= int(text) <= high:
        raise SchemaError(text, "is not a number from " + str(low) + " to " + str(high))
    return int(text)
