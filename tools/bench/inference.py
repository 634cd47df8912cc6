"""One score on rv32imc: instructions counted by QEMU (-icount), bytes of code and of heap, ours beside others.

The same forests and windows for all: a random forest of 20 trees (shuttle, 9 features), which everybody has, and an
isolation forest of 50 and a Gaussian of int16, which emlearn has not. Converting a window to the type that a model
takes is not counted, but where a model of dtype int16 does it by itself.

What is compared does not do the same: emlearn's classifiers count one vote a tree and give a class; ours add up shares
and give the score that scikit-learn gives, decided as it does. What emlearn's generator makes of the same integer trees
as regression trees (floats of six digits, added up) has our meaning, and a row of its own. Its table walker is its own
header; only the struct of pointers, which a native module cannot hold, is filled when the module starts.
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
from model_export.detectors import forest as forests
from model_export.detectors import scaling
from model_export.detectors.trees import within_int16
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
_GAUSSIAN_C = _TABLE_C.replace("table_forest.h", "table_gaussian.h").replace(
    "ew_forest_score", "ew_table_gaussian_score"
)
_DETECTORS = (
    "random-forest",
    "isolation-forest",
    "elliptic-envelope",
    "gaussian-mixture",
    "autoencoder",
    "kmeans",
    "nearest-neighbour",
    "pca",
    "one-class-svm",
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
fast = table.scorer
for name in ('rf', 'iforest'):
    blob = uctypes.bytearray_at(*files[name])
    for scorer in (fast, table_plain.scorer):
        table.scorer = scorer
        model = table.Forest(blob)
        out.append(cost(model.score) - call)
table.scorer = fast
from contract.table_gaussian import Gaussian
out.append(cost(Gaussian(uctypes.bytearray_at(*files['gaussian'])).score) - call)
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
    models = {(name, dtype): _model(name, dtype) for name in _DETECTORS for dtype in ("float32", "int16")}
    forest, isolation = models["random-forest", "float32"], models["isolation-forest", "float32"]
    emlearn = _Emlearn(forest.estimator)
    tables = convert.table(forest), convert.table(isolation)
    gaussian = convert.table(models["elliptic-envelope", "int16"])
    sources = {f"m{i}": convert.c_source(model) + _OURS for i, model in enumerate(models.values())}
    sources |= {
        "walker": _TABLE_C.replace('#include "blob.h"', _c_blob(tables[0])),
        "em_inline": emlearn.inline + _EMLEARN,
        "em_table": emlearn.table + _EMLEARN,
        "em_sum": _emlearn_sum(forest) + _EMLEARN,
        "m2c": _m2cgen(forest.estimator) + _M2CGEN,
        "if_walker": _TABLE_C.replace('#include "blob.h"', _c_blob(tables[1])),
        "if_em_sum": _emlearn_sum(isolation) + _EMLEARN,
        "gaussian_c": _GAUSSIAN_C.replace('#include "blob.h"', _c_blob(gaussian)),
    }
    modules = {name: _module(source, name) for name, source in sources.items()}
    empty = _module(
        _OURS.replace("model_score", "none") + "static int none(const int32_t *x) { return *x; }\n", "counter"
    )
    files = {f"{name}.mpy": code for name, code in modules.items()} | {"counter.mpy": empty}
    files |= compiler.table_modules("rv32imc") | {"rf": tables[0], "iforest": tables[1], "csv": emlearn.csv.encode()}
    files |= {"gaussian": gaussian}
    rows = forest.held_out[:: len(forest.held_out) // WINDOWS][:WINDOWS]
    script = _SCRIPT.format(windows=WINDOWS, modules=tuple(sources), csv=_CSV)
    raw = qemu.run(files, np.ascontiguousarray(rows, dtype="<i4").tobytes(), script, ICOUNT)
    counted = struct.unpack(f"<{len(raw) // 4}I", raw)
    c = dict(zip(sources, counted, strict=False))
    ours = {key: c[f"m{i}"] for i, key in enumerate(models)}
    viper, plain, if_viper, if_plain, bytecode, wake, wake_heap, load, load_heap = counted[len(sources) :]
    mine, if_mine = ours["random-forest", "float32"], ours["isolation-forest", "float32"]
    fastest, best = min((c["em_inline"], "emlearn inline"), (c["em_table"], "emlearn table walker"))
    size = {name: len(code) - len(empty) for name, code in modules.items()}
    sizes = {key: size[f"m{i}"] for i, key in enumerate(models)}
    return [
        Row("random forest, ours in C: shares", mine, "instructions", best, fastest, "<= 1"),
        Row("  emlearn inline: votes", c["em_inline"], "instructions"),
        Row("  emlearn table walker: votes", c["em_table"], "instructions"),
        Row("  emlearn inline: same trees, shares", c["em_sum"], "instructions", "ours in C", mine),
        Row("  m2cgen", c["m2c"], "instructions", best, fastest),
        Row("  least: a load and a branch a level", _least(forest, rows), "instructions", "ours in C", mine),
        Row("  table blob, C walker", c["walker"], "instructions", best, fastest),
        Row("  table blob, viper", viper, "instructions", "C walker", c["walker"], "<= 2.5"),
        Row("  table blob, pure Python", plain, "instructions", "C walker", c["walker"], ">= 30"),
        Row("isolation forest, ours in C", if_mine, "instructions", "emlearn, same trees", c["if_em_sum"], "<= 1"),
        Row("  least: a load and a branch a level", _least(isolation, rows), "instructions", "ours in C", if_mine),
        Row("  table blob, C walker", c["if_walker"], "instructions", "ours in C", if_mine),
        Row("  table blob, viper", if_viper, "instructions", "C walker", c["if_walker"], "<= 2.5"),
        Row("  table blob, pure Python", if_plain, "instructions", "C walker", c["if_walker"], ">= 30"),
        *(
            Row(f"{name} of int16", ours[name, "int16"], "instructions", "float32", ours[name, "float32"])
            for name in _DETECTORS
        ),
        Row("Gaussian table blob, C", c["gaussian_c"], "instructions", "float32", ours["elliptic-envelope", "float32"]),
        Row("  bytecode", bytecode, "instructions", "C", c["gaussian_c"], ">= 10"),
        Row("wake to first score, table blob", wake, "instructions", "emlearn's CSV read", load, "<= 0.02"),
        Row("  heap for the model and its objects", wake_heap, "bytes", "emlearn's CSV read", load_heap),
        Row("random forest, ours in C", sizes["random-forest", "float32"], "bytes of .mpy", best, size["em_inline"]),
        Row("  table blob", len(tables[0]), "bytes", "emlearn inline", size["em_inline"]),
        Row("  emlearn table walker", size["em_table"], "bytes of .mpy", "emlearn inline", size["em_inline"]),
        Row("  m2cgen", size["m2c"], "bytes of .mpy", "emlearn inline", size["em_inline"]),
        Row("isolation forest, ours in C", sizes["isolation-forest", "float32"], "bytes of .mpy"),
        Row("  table blob", len(tables[1]), "bytes", "ours in C", sizes["isolation-forest", "float32"]),
    ]


def _model(name: str, dtype: str) -> Model:
    preset = data.PRESETS["shuttle"]
    plan = Plan("shuttle", preset.schema, name, train_part=0.1, held_out_part=0.1, dtype=dtype)
    return train(data.load("shuttle"), plan)


def _module(source: str, name: str) -> bytes:
    return compiler.built({"model.h": source, "bench.c": GLUE.read_text()}, "rv32imc", name, "bench.c")


class _Emlearn:
    """What emlearn's own converter makes of a classifier with its defaults: C inline, C with a table, CSV."""

    def __init__(self, estimator: Any) -> None:
        with TemporaryDirectory() as folder, chdir(folder), np.errstate(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import emlearn

            self.inline: str = emlearn.convert(estimator, method="inline").save(name="em", format="c")
            made = emlearn.convert(estimator, method="loadable")
            self.table = _filled_at_start(made.save(name="em", format="c"))
            emlearn.convert(estimator).save(name="em", file="em.csv", format="csv")
            self.csv = Path("em.csv").read_text()


def _filled_at_start(source: str) -> str:
    """C of emlearn's table with its struct filled by BENCH_BEGIN; the header's table of error texts is left out."""
    before, rest = source.split("EmlTrees em = {")
    values, after = rest.split("};", 1)
    names = ("n_nodes", "nodes", "n_trees", "tree_roots", "n_leaves", "leaves", "leaf_bits", "n_features", "n_classes")
    filled = " ".join(
        f"em.{name} = {value.strip()};" for name, value in zip(names, values.split(",")[: len(names)], strict=True)
    )
    header = (compiler.emlearn_dir() / "eml_trees.h").read_text()
    texts = header.index("const char * const eml_trees_errors")
    header = header[:texts] + header[header.index("};", texts) + 2 :]
    return (
        before.replace("#include <eml_trees.h>", header)
        + f"static EmlTrees em;\n#define BENCH_BEGIN {filled}\n"
        + after
    )


def _emlearn_sum(model: Model) -> str:
    """C by emlearn's generator of the model's integer trees, as trees of a regression."""
    from emlearn.trees import generate_c_inlined

    scalers, core = scaling.split(model.estimator)
    ensemble = within_int16(model.detector.ensemble(core, scalers, model.threshold))  # type: ignore[attr-defined]
    nodes, roots = forests.emlearn_nodes(ensemble.trees)
    leaves = ensemble.values.tolist()
    made: str = generate_c_inlined(
        (nodes, roots, leaves), "em", n_features=9, leaf_bits=32, dtype="int16_t", classifier=False
    )
    return made


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
