"""Batches of readings: the golden vectors, the limits, and rows of the open tail."""

from array import array

from contract import delta, delta_encoder, rowlog
from contract.bits import put_varint, take_varint
from contract.wire import BAD_BODY, BAD_NAMES, BAD_RANGE, BAD_SIZE, MAX_ROWS
from tests.contract.suite.check import Random, refused, unhex, vectors


def flat(rows):
    return array("i", [value for row in rows for value in row])


def encode(times, values, rows, cols, base=None):
    """(first, body) of a batch."""
    out = bytearray(8192)
    end = delta_encoder.Encoder().body(times, values, rows, cols, out)
    body = bytes(out[:end])
    return bytes(out[: delta.first_row(values, base, cols, out)]), body


def random_series(random, rows, cols):
    """Times and values of all kinds: walks, constants, jumps, extremes."""
    gap = random.pick((0, 1, 1000, 60000, 4294967295))
    times = array("q", [random.below(65536) << 20])
    for _ in range(rows - 1):
        times.append(times[-1] + (random.below(gap % 65536 + 1) if random.below(2) else gap))
    values = array("i", bytes(4 * rows * cols))
    for channel in range(cols):
        kind = random.below(5)
        value = random.below(65536) - 32768
        span = 1 << random.below(16)
        for row in range(rows):
            if kind == 1:
                value += random.below(2 * span) - span
            elif kind == 2:
                value = (random.below(2 * span) - span) * 125
            elif kind == 3:
                value = random.pick((-2147483648, 2147483647, 0, value // 2))
            elif kind == 4 and random.below(16) == 0:
                value = (random.below(65536) - 32768) << 15
            values[row * cols + channel] = value
    return times, values


def test_batches_are_coded_to_the_bytes_of_the_vectors():
    for vector in vectors("delta")["batches"]:
        rows = vector["rows"]
        values = flat(rows)
        first, body = encode(vector["times"], values, len(rows), len(rows[0]))
        assert first == unhex(vector["first"]), vector["name"]
        assert body == unhex(vector["body"]), vector["name"]
        based, same_body = encode(vector["times"], values, len(rows), len(rows[0]), vector["base"])
        assert based == unhex(vector["based_first"]), vector["name"]
        assert same_body == body, vector["name"]


def test_bytes_of_the_vectors_are_decoded_to_their_rows():
    for vector in vectors("delta")["batches"]:
        rows = vector["rows"]
        for first, base in ((vector["first"], None), (vector["based_first"], vector["base"])):
            offsets, values = delta.decode(len(rows), len(rows[0]), unhex(first), unhex(vector["body"]), base)
            assert values == flat(rows), vector["name"]
            assert [vector["times"][0] + offset for offset in offsets] == vector["times"], vector["name"]


def test_what_the_vectors_refuse_is_refused_for_the_same_reason():
    for vector in vectors("delta")["refused"]:
        arguments = (vector["rows"], vector["cols"], unhex(vector["first"]), unhex(vector["body"]))
        try:
            refused(BAD_NAMES.index(vector["code"]), delta.decode, *arguments)
        except AssertionError as error:
            raise AssertionError("%s: %s" % (vector["why"], error))


def test_every_cut_of_a_batch_is_refused():
    for vector in vectors("delta")["batches"]:
        rows = len(vector["rows"])
        first = unhex(vector["first"])
        body = unhex(vector["body"])
        if rows * len(body) > 3000:
            continue
        for cut in range(len(first)):
            refused(BAD_BODY, delta.decode, rows, len(vector["rows"][0]), first[:cut], body)
        for cut in range(len(body)):
            refused(BAD_BODY, delta.decode, rows, len(vector["rows"][0]), first, body[:cut])


def test_random_series_survive_and_are_coded_the_same_again():
    random = Random(1)
    for _ in range(150):
        rows = random.pick((1, 2, 3, 7, 30))
        cols = random.pick((1, 2, 8))
        times, values = random_series(random, rows, cols)
        first, body = encode(times, values, rows, cols)
        offsets, found = delta.decode(rows, cols, first, body)
        assert found == values
        assert [times[0] + offset for offset in offsets] == list(times)
        assert encode(offsets, found, rows, cols) == (first, body)


def test_no_batch_is_much_longer_than_its_plain_integers():
    random = Random(2)
    for _ in range(100):
        rows = random.pick((2, 5, 30))
        cols = random.pick((1, 4))
        times, values = random_series(random, rows, cols)
        _, body = encode(times, values, rows, cols)
        assert len(body) <= 4 * (rows - 1) * (cols + 1) + 8 * (cols + 1), (rows, cols, len(body))


def test_a_jump_costs_little_more_than_its_own_bits():
    calm = array("i", [100 + row % 3 for row in range(30)])
    jump = array("i", [value + (1000000 if row > 14 else 0) for row, value in enumerate(calm)])
    times = [1000 * row for row in range(30)]
    assert len(encode(times, jump, 30, 1)[1]) - len(encode(times, calm, 30, 1)[1]) <= 8


def test_a_constant_channel_costs_nine_bits():
    times = [1000 * row for row in range(100)]
    one = array("i", [5] * 100)
    nine = array("i", [5] * 900)
    assert len(encode(times, nine, 100, 9)[1]) - len(encode(times, one, 100, 1)[1]) == 9


def test_the_encoder_writes_where_it_is_told_and_leaves_the_rest_alone():
    times = [0, 1000, 2000]
    values = array("i", [1, 5, 2])
    _, body = encode(times, values, 3, 1)
    out = bytearray(b"\xaa" * 64)
    end = delta_encoder.Encoder().body(times, values, 3, 1, out, 10)
    assert out[10:end] == body
    assert out[:10] == b"\xaa" * 10
    assert out[end:] == b"\xaa" * (64 - end)


def test_an_output_too_small_is_refused():
    times = [0, 1000, 2001]
    values = array("i", [1, 5, 2])
    first, body = encode(times, values, 3, 1)
    for size in range(len(body)):
        refused(BAD_SIZE, delta_encoder.Encoder().body, times, values, 3, 1, bytearray(size))
    refused(BAD_SIZE, delta.first_row, values, None, 1, bytearray(len(first) - 1))


def test_batches_outside_the_limits_are_refused():
    encoder = delta_encoder.Encoder()
    out = bytearray(64)
    refused(BAD_RANGE, encoder.body, [0], [1], 0, 1, out)
    refused(BAD_RANGE, encoder.body, [0] * 241, [1] * 241, MAX_ROWS + 1, 1, out)
    refused(BAD_RANGE, delta_encoder.Encoder(2).body, [0] * 3, [1] * 3, 3, 1, out)
    refused(BAD_RANGE, encoder.body, [0], [1] * 17, 1, 17, out)
    refused(BAD_RANGE, encoder.body, [5, 4], [1, 1], 2, 1, out)
    refused(BAD_RANGE, encoder.body, [0, 1 << 32], [1, 1], 2, 1, out)


def test_extremes_are_those_of_each_channel():
    assert delta.extremes(array("i", [1, -5, 3, 7, 2, 0]), 2) == ([1, -5], [3, 7])


def test_rows_of_the_tail_come_back_in_order():
    random = Random(3)
    for cols in (1, 8):
        times, values = random_series(random, 20, cols)
        buf = bytearray(20 * 5 * (cols + 2))
        previous = array("i", bytes(4 * cols))
        end = 0
        for row in range(20):
            gap = times[row] - times[row - 1] if row else 0
            now = values[row * cols : (row + 1) * cols]
            end = rowlog.append_row(buf, end, gap, now, previous)
            previous = now
        found = array("i", bytes(4 * cols))
        at = 0
        for row in range(20):
            gap, at = rowlog.take_row(buf, at, end, found)
            assert gap == (times[row] - times[row - 1] if row else 0)
            assert found == values[row * cols : (row + 1) * cols]
        assert at == end


def test_a_row_that_does_not_fit_is_refused_and_one_that_is_cut_is_too():
    row = array("i", [1000, -1000])
    zeros = array("i", [0, 0])
    buf = bytearray(16)
    end = rowlog.append_row(buf, 0, 60000, row, zeros)
    for size in range(end):
        refused(BAD_SIZE, rowlog.append_row, bytearray(size), 0, 60000, row, zeros)
        refused(BAD_BODY, rowlog.take_row, buf, 0, size, array("i", [0, 0]))
    refused(BAD_BODY, rowlog.take_row, b"\x00\xfe\xff\xff\xff\x0f", 0, 6, array("i", [1]))


def test_varints_are_shortest_and_bounded():
    buf = bytearray(16)
    for number, size in ((0, 1), (127, 1), (128, 2), (16383, 2), (16384, 3), ((1 << 49) - 1, 7)):
        assert put_varint(buf, 0, number) == size
        assert take_varint(buf, 0, size) == (number, size)
    refused(BAD_BODY, take_varint, b"\x80\x00", 0, 2)
    refused(BAD_BODY, take_varint, b"\xff" * 8, 0, 8)
