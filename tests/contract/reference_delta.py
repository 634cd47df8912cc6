"""A second decoder of READINGS batches, written from section 6 of PROTOCOL.md and nothing else, in the plainest way.

It shares no code with contract/delta.py: a batch that both decode to the same rows is coded as the document says.
"""


class Bits:
    """A string of "0" and "1", read from the left."""

    def __init__(self, data: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.met = set[int]()  # predictors of the columns read, and 14 for sparse residuals, 15 for plain ones

    def number(self, width: int) -> int:
        assert len(self.text) >= width, "cut"
        taken, self.text = self.text[:width], self.text[width:]
        return int(taken or "0", 2)

    def ones(self, most: int) -> int:
        """How many ones come next, at most `most`; the zero after them is taken too when there are fewer."""
        count = 0
        while count < most and self.number(1):
            count += 1
        return count

    def sized(self) -> int:
        width = self.number(6)
        return 0 if width == 0 else int("1" + f"{self.number(width - 1):0{width - 1}b}" * (width > 1), 2)

    def golomb(self, k: int) -> int:
        quotient = self.ones(4)
        if quotient == 4:
            width = self.ones(99) + 1
            quotient = 3 + (1 << (width - 1)) + self.number(width - 1)
        return (quotient << k) + self.number(k)


def signed(number: int) -> int:
    return number // 2 if number % 2 == 0 else -(number + 1) // 2


def varints(data: bytes) -> list[int]:
    numbers, current, shift = list[int](), 0, 0
    for byte in data:
        current += (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(current)
            current = shift = 0
    assert shift == 0, "cut"
    return numbers


def column(bits: Bits, count: int) -> list[int]:
    """The differences of `count` values to the first value of the column."""
    predictor = bits.number(3)
    bits.met.add(predictor)
    if predictor == 7:
        slope = signed(bits.sized())
        return [slope * row for row in range(1, count + 1)]
    step = bits.sized() if bits.number(1) else 1
    k = bits.number(4)
    ref = signed(bits.sized()) if predictor in (0, 2) else 0
    if k == 15:
        bits.met.add(k)
        width = bits.number(6)
        misses = [bits.number(width) for _ in range(count)]
    elif k == 14:
        bits.met.add(k)
        run_k, move_k = bits.number(3), bits.number(4)
        misses = list[int]()
        while len(misses) < count:
            misses += [0] * bits.golomb(run_k)
            if len(misses) < count:
                misses.append(signed(bits.golomb(move_k) + 1))
        assert len(misses) == count
    else:
        misses = [signed(bits.golomb(k)) for _ in range(count)]
    rows = [0]
    means = {4: [0, 1], 5: [0, 2], 6: [0, 3]}
    for e in misses:
        if predictor == 0:
            rows.append(ref + e)
        elif predictor in (1, 2):
            rows.append(rows[-1] + ref + e)
        elif predictor == 3:
            before = rows[-2] if len(rows) > 1 else 0
            rows.append(2 * rows[-1] - before + e)
        else:
            total, shift = means[predictor]
            value = total // 2**shift + e
            means[predictor][0] = total - total // 2**shift + value
            rows.append(value)
    return [step * row for row in rows[1:]]


def decode(rows: int, cols: int, first: bytes, bits: Bits) -> tuple[list[int], list[list[int]]]:
    """(times after the first row, rows) of a key frame; `bits` are those of its body."""
    start = [signed(number) for number in varints(first)]
    assert len(start) == cols
    if rows == 1:
        assert bits.text == ""
        return [0], [start]
    times = [0, *column(bits, rows - 1)]
    columns = [[first_value, *(first_value + d for d in column(bits, rows - 1))] for first_value in start]
    assert len(bits.text) < 8
    assert "1" not in bits.text
    return times, [list(row) for row in zip(*columns, strict=True)]
