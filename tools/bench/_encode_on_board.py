"""Run by wire_bytes.py under MicroPython: time and memory of coding one batch, as JSON."""

# pyright: basic, reportAttributeAccessIssue=false
# Module gc and time are MicroPython's.
import gc
import json
import sys
import time
from array import array

from contract import delta, delta_encoder

_REPEATS = 40

batch = json.loads(sys.stdin.read())
rows, cols = batch["rows"], batch["cols"]
times = batch["times"]
values = array("i", batch["values"])
out = bytearray(4096)
gc.collect()
before = gc.mem_alloc()
encoder = delta_encoder.Encoder(rows)
gc.collect()
kept = gc.mem_alloc() - before
gc.disable()
before = gc.mem_alloc()
end = encoder.body(times, values, rows, cols, out)
used = gc.mem_alloc() - before
gc.enable()
began = time.ticks_us()
for _ in range(_REPEATS):
    encoder.body(times, values, rows, cols, out)
encode_us = time.ticks_diff(time.ticks_us(), began) / _REPEATS
row = array("i", values[:cols])
body = bytes(out[:end])
began = time.ticks_us()
for _ in range(_REPEATS):
    delta.decode_body(body, row, rows)
decode_us = time.ticks_diff(time.ticks_us(), began) / _REPEATS
print(json.dumps({"encode_us": encode_us, "decode_us": decode_us, "kept_bytes": kept, "used_bytes": used}))
