"""Feeds mutated frames to every decoder of the contract, on either runtime: `fuzz.py SEED COUNT`.

Frames of the golden vectors are damaged (bits flipped, bytes set, cut, lengths that lie, two frames spliced, parts
repeated) and decoded. A decoder may return or raise WireError; anything else is a crash. Prints one JSON object: how
many frames, what became of them, and the crashes. The numbers come from one generator, so two runtimes given the same
seed see the same frames and must come to the same outcomes.
"""

import json
import sys
from array import array

from contract import delta, downlink, frames, msgpack, rowlog
from contract.bits import put_varint
from contract.msgpack import Reader
from contract.wire import BAD_NAMES, READINGS, WireError
from tests.contract.suite.check import Random, unhex, vectors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_CRASHES = 5
LIES = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\x7f\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xdc\xff\xff",
)
DEEP = b"\x91" * 64


def mutate(random, frame, other):
    """A damaged copy of `frame`, one to four times over."""
    for _ in range(1 + random.below(4)):
        # One number decides what and where: most of what this takes are numbers.
        bits = random.bits()
        kind = bits & 7
        size = len(frame)
        at = (bits >> 3) % size if size else 0
        if size == 0 or kind == 0:
            frame = bytearray(frame) + bytes([bits >> 15])
        elif kind <= 2:
            frame[at] ^= 1 << (bits >> 20)
        elif kind == 3:
            frame[at] = random.pick(
                (0, 1, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xCB, 0xD9, 0xDC, 0xDE, 0xFF, random.below(256))
            )
        elif kind == 4:
            frame = frame[:at]
        elif kind == 5:
            frame = frame[:at] + (random.pick(LIES) if random.below(4) else DEEP) + frame[at:]
        elif kind == 6:
            frame = frame[:at] + other[random.below(len(other) + 1) :]
        else:
            frame = frame[:at] + frame[random.below(at + 1) :]
    return frame


def decode_down(random, frame, other):
    downlink.parse_downlink(mutate(random, frame, other))


def peek_up(random, frame, other):
    frames.peek_header(mutate(random, frame, other))


def decode_readings(random, frame, other):
    frames.parse_readings(mutate(random, frame, other))


def decode_value(random, frame, other):
    msgpack.unpack(mutate(random, frame, other), 1 + random.below(8), 1 + random.below(600))


def skip_value(random, frame, other):
    Reader(mutate(random, frame, other)).skip(random.below(8))


def decode_batch(random, batch, other):
    rows, cols, first, body = batch
    kind = random.below(8)
    if kind == 0:
        rows = random.below(260)
    elif kind == 1:
        cols = random.below(20)
    elif kind == 2:
        first = mutate(random, bytearray(first), other[2])
    else:
        body = mutate(random, bytearray(body), other[3])
    base = array("i", [random.below(65536) << 15 for _ in range(cols)]) if random.below(2) else None
    delta.decode(rows, cols, first, body, base)


def decode_rows(random, rows, other):
    damaged = mutate(random, rows, other)
    row = array("i", bytes(4 * (1 + random.below(4))))
    at = 0
    while at < len(damaged):
        _, at = rowlog.take_row(damaged, at, len(damaged), row)


def corpus():
    """[(decoder, its undamaged inputs)]."""
    wire_frames = vectors("wire")
    up = [unhex(vector["hex"]) for vector in wire_frames["up"]]
    down = [unhex(vector["hex"]) for vector in wire_frames["down"] + wire_frames["down_newer"]]
    values = [unhex(vector["hex"]) for vector in vectors("msgpack")["values"] if len(vector["hex"]) < 200]
    batches = []
    for vector in vectors("delta")["batches"]:
        # Long batches are slow to decode and break in no other way than short ones.
        if len(vector["rows"]) * len(vector["rows"][0]) <= 30:
            batches.append((len(vector["rows"]), len(vector["rows"][0]), unhex(vector["first"]), unhex(vector["body"])))
    rows = []
    for size in (1, 9, 40):
        buf = bytearray(8 * size)
        end = 0
        for index in range(size):
            end = put_varint(buf, end, index * 77 % 300)
        rows.append(bytes(buf[:end]))
    return [
        (decode_down, down),
        (peek_up, up),
        (decode_readings, [frame for frame in up if frame[1] == READINGS]),
        (decode_value, up + down + values),
        (skip_value, up + down + values),
        (decode_batch, batches),
        (decode_rows, rows),
    ]


def fuzz(seed: int, count: int) -> "dict[str, Any]":
    """Outcomes by decoder and reason, and the first crashes with what they can be repeated from."""
    random = Random(seed)
    targets = corpus()
    taken = [0] * len(targets)
    refused = [[0] * len(BAD_NAMES) for _ in targets]
    crashes: "list[str]" = []
    for number in range(count):
        target = number % len(targets)
        decoder, inputs = targets[target]
        chosen = random.pick(inputs)
        other = random.pick(inputs)
        try:
            decoder(random, chosen if isinstance(chosen, tuple) else bytearray(chosen), other)
            taken[target] += 1
        except WireError as error:
            refused[target][error.code] += 1
        except Exception as error:  # every kind of crash is what this looks for
            if len(crashes) < MOST_CRASHES:
                crashes.append("frame %d of seed %d: %s: %r" % (number, seed, decoder.__name__, error))
    outcomes: "dict[str, int]" = {}
    for (decoder, _), n_taken, by_code in zip(targets, taken, refused):
        outcomes[decoder.__name__ + ": taken"] = n_taken
        for code, name in enumerate(BAD_NAMES):
            if by_code[code]:
                outcomes[decoder.__name__ + ": " + name] = by_code[code]
    return {"count": count, "outcomes": outcomes, "crashes": crashes}


if __name__ == "__main__":
    print(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]))))
