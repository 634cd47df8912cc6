"""One score on rv32imc: instructions counted by QEMU (-icount), bytes of code and of heap, ours beside others.

The same forests and windows for all: a random forest of 20 trees (shuttle, 9 features), which everybody has, and an
isolation forest of 50, which emlearn has not. Converting a window to the type that a model takes is not counted.
"""

import struct
import warnings
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from model_export import compile as compiler
from model_export import convert, data, qemu
from model_export.detectors import scaling
from model_export.model import Model
from model_export.train import Plan, train
from tools.bench import Row

GLUE = Path(__file__).with_name("_inference.c")
WINDOWS = 64
ICOUNT = ("-icount", "shift=0")

_OURS = "\n#include <stdint.h>\n#define BENCH_TYPE int32_t\n#define BENCH_FEATURES 9\n#define bench_score model_score\n"
_TABLE_C = (
    '#include "table_forest.h"\n#include "blob.h"'
    + _OURS.replace("model_score", "table_score")
    + "static float table_score(const int32_t *x) { return ew_forest_score((const uint8_t *)blob, x); }\n"
)
_EMLEARN = "\n#define BENCH_TYPE int16_t\n#define BENCH_FEATURES 9\n#define bench_score(x) em_predict(x, 9)\n"
_M2CGEN = (
    "\n#define BENCH_TYPE double\n#define BENCH_FEATURES 9\n#include <stdint.h>\n"
    "static double bench_score(double *x) { double out[2]; score(x, out); return out[1]; }\n"
)

# What emlearn-micropython's emlearn_trees.py does with each line; its builder, which is C, is left out.
_CSV = """
def load_csv(text):
    kept = []
    for line in text.split('\\n'):
        tok = line.rstrip('\\r').split(',')
        if tok[0] in ('l', 'r'):
            kept.append(int(tok[1]))
        elif tok[0] == 'n':
            kept.append((int(tok[1]), round(float(tok[2])), int(tok[3]), int(tok[4])))
    return kept
"""

_SCRIPT = """
import gc, struct, counter
rows = array('i', [0] * ({windows} * 9))
uctypes.bytearray_at(uctypes.addressof(rows), 4 * len(rows))[:] = data(0, 4 * len(rows))
out = []
for name in {modules}:
    out.append(__import__(name).count(rows) // {windows})
def nothing(row):
    pass
def cost(score):
    total = 0
    for i in range({windows}):
        row = rows[9 * i:9 * i + 9]
        began = counter.now()
        score(row)
        total += counter.now() - began & 0x3fffffff
    return total // {windows}
call = cost(nothing)
from device import table, table_plain
fast = table.walk
for name in ('rf', 'iforest'):
    blob = uctypes.bytearray_at(*files[name])
    for walk in (fast, table_plain.walk):
        table.walk = walk
        model = table.Forest(blob)
        out.append(cost(model.score) - call)
table.walk = fast
blob = uctypes.bytearray_at(*files['rf'])
row = rows[0:9]
model = None
gc.collect()
held = gc.mem_alloc()
began = counter.now()
model = table.Forest(blob)
model.score(row)
out.append(counter.now() - began & 0x3fffffff)
gc.collect()
out.append(gc.mem_alloc() - held)
{csv}
text = str(uctypes.bytearray_at(*files['csv']), 'utf8')
gc.collect()
held = gc.mem_alloc()
began = counter.now()
kept = load_csv(text)
out.append(counter.now() - began & 0x3fffffff)
gc.collect()
out.append(gc.mem_alloc() - held)
print(binascii.hexlify(struct.pack('<%dI' % len(out), *out)).decode())
"""


def run() -> list[Row]:
    forest, isolation = _model("random-forest"), _model("isolation-forest")
    inline, csv = _emlearn(forest.estimator)
    tables = convert.table(forest), convert.table(isolation)
    sources = {
        "ours": convert.c_source(forest) + _OURS,
        "walker": _TABLE_C.replace('#include "blob.h"', _c_blob(tables[0])),
        "em_inline": inline + _EMLEARN,
        "m2c": _m2cgen(forest.estimator) + _M2CGEN,
        "if_ours": convert.c_source(isolation) + _OURS,
        "if_walker": _TABLE_C.replace('#include "blob.h"', _c_blob(tables[1])),
    }
    modules = {name: _module(source, name) for name, source in sources.items()}
    empty = _module(
        _OURS.replace("model_score", "none") + "static int none(const int32_t *x) { return *x; }\n", "counter"
    )
    files = {f"{name}.mpy": code for name, code in modules.items()} | {"counter.mpy": empty}
    files |= compiler.table_modules("rv32imc") | {"rf": tables[0], "iforest": tables[1], "csv": csv.encode()}
    rows = forest.held_out[:: len(forest.held_out) // WINDOWS][:WINDOWS]
    script = _SCRIPT.format(windows=WINDOWS, modules=tuple(sources), csv=_CSV)
    raw = qemu.run(files, np.ascontiguousarray(rows, dtype="<i4").tobytes(), script, ICOUNT)
    counted = struct.unpack(f"<{len(raw) // 4}I", raw)
    c = dict(zip(sources, counted, strict=False))
    viper, plain, if_viper, if_plain, wake, wake_heap, load, load_heap = counted[len(sources) :]
    best = c["em_inline"]
    size = {name: len(code) - len(empty) for name, code in modules.items()}
    return [
        Row("random forest, ours in C", c["ours"], "instructions", "emlearn inline", best, "<= 1"),
        Row("  emlearn inline, hard votes", c["em_inline"], "instructions"),
        Row("  m2cgen", c["m2c"], "instructions", "emlearn inline", best),
        Row("  least: a load and a branch a level", _least(forest, rows), "instructions", "ours in C", c["ours"]),
        Row("  table blob, C walker", c["walker"], "instructions", "emlearn inline", best),
        Row("  table blob, viper", viper, "instructions", "C walker", c["walker"], "<= 2.5"),
        Row("  table blob, pure Python", plain, "instructions", "C walker", c["walker"], ">= 30"),
        Row("isolation forest, ours in C", c["if_ours"], "instructions"),
        Row("  least: a load and a branch a level", _least(isolation, rows), "instructions", "ours in C", c["if_ours"]),
        Row("  table blob, C walker", c["if_walker"], "instructions", "ours in C", c["if_ours"]),
        Row("  table blob, viper", if_viper, "instructions", "C walker", c["if_walker"], "<= 2.5"),
        Row("  table blob, pure Python", if_plain, "instructions", "C walker", c["if_walker"], ">= 30"),
        Row("wake to first score, table blob", wake, "instructions", "emlearn's CSV read", load, "<= 0.02"),
        Row("  heap for the model and its objects", wake_heap, "bytes", "emlearn's CSV read", load_heap),
        Row("random forest, ours in C", size["ours"], "bytes of .mpy", "emlearn inline", size["em_inline"]),
        Row("  table blob", len(tables[0]), "bytes", "emlearn inline", size["em_inline"]),
        Row("  m2cgen", size["m2c"], "bytes of .mpy", "emlearn inline", size["em_inline"]),
        Row("isolation forest, ours in C", size["if_ours"], "bytes of .mpy"),
        Row("  table blob", len(tables[1]), "bytes", "ours in C", size["if_ours"]),
    ]


def _model(name: str) -> Model:
    preset = data.PRESETS["shuttle"]
    return train(data.load("shuttle"), Plan("shuttle", preset.schema, name, train_part=0.1, held_out_part=0.1))


def _module(source: str, name: str) -> bytes:
    return compiler.built({"model.h": source, "bench.c": GLUE.read_text()}, "rv32imc", name, "bench.c")


def _emlearn(estimator: Any) -> tuple[str, str]:
    """C by emlearn with its own defaults, inline, and its CSV. Its table walker does not link into a native module."""
    with TemporaryDirectory() as folder, chdir(folder), np.errstate(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import emlearn

        inline: str = emlearn.convert(estimator, method="inline").save(name="em", format="c")
        emlearn.convert(estimator).save(name="em", file="em.csv", format="csv")
        return inline, Path("em.csv").read_text()


def _m2cgen(estimator: Any) -> str:
    import m2cgen

    return str(m2cgen.export_to_c(estimator))


def _c_blob(blob: bytes) -> str:
    words = struct.unpack(f"<{(len(blob) + 3) // 4}I", blob + bytes(-len(blob) % 4))
    return f"static const uint32_t blob[] = {{{', '.join(hex(word) for word in words)}}};\n"


def _least(model: Model, rows: Any) -> float:
    """A load and a compare-and-branch for each node passed, an addition for each tree, on average over the windows."""
    core = scaling.split(model.estimator)[1]
    passed = sum(tree.decision_path(rows).sum() - len(rows) for tree in core.estimators_)
    return float(2 * passed / len(rows) + len(core.estimators_))
