"""Features of one window: the C twin beside the same definition in MicroPython, one process, this machine."""

import json
import subprocess
import tempfile
from pathlib import Path

from model_export.compile import features_module
from tools.bench import Row
from tools.firmware import FIRMWARE, HOST_ARCH, builds_native, program

WINDOWS = {
    "8 samples, 6 features": "v1;w=8;c=flow:l/s:100;f=mean,var,min,max,ld,zc",
    "3 x 64 samples, 7 features": "v1;w=64;c=x:g:1,y:g:1,z:g:1;f=mean,sd,min,max,md,crest,kurt",
    "3 x 128 samples, bands": "v1;w=128;c=x:g:1,y:g:1,z:g:1;f=mean,sd,be1-4,be5-16",
}
_ON_BOARD = """
import gc, json, sys, time
from array import array
import ew_features
from contract.features import Features
took = []
for schema in json.loads(sys.argv[1]):
    times = []
    for native in (None, ew_features):
        features = Features(schema, native)
        window = array('i', [(i * 7919) % 65535 - 32767 for i in range(features.window * features.n_channels)])
        out = array('i', bytes(4 * features.n_features))
        rounds = 50 if native is None else 2000
        gc.collect()
        best = None
        for _ in range(5):
            began = time.ticks_us()
            for _ in range(rounds):
                features.compute_into(window, out)
            took_us = time.ticks_diff(time.ticks_us(), began) / rounds
            best = took_us if best is None else min(best, took_us)
        times.append(best)
    took.append(times)
print(json.dumps(took))
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="edgewise-bench-") as folder:
        (Path(folder) / "ew_features.mpy").write_bytes(features_module(HOST_ARCH))
        done = subprocess.run(
            [program("micropython"), "-c", _ON_BOARD, json.dumps(list(WINDOWS.values()))],
            env={"MICROPYPATH": f"{folder}:{FIRMWARE}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    rows = [
        Row(f"{name}, C", in_c, "us", "MicroPython bytecode", in_python)
        for name, (in_python, in_c) in zip(WINDOWS, json.loads(done.stdout), strict=True)
    ]
    rows += [
        Row(f"ew_features.mpy, {arch}", len(features_module(arch)), "bytes", "of flash, and of RAM while awake")
        for arch in (HOST_ARCH, "rv32imc", "armv7emsp")
        if builds_native(arch)
    ]
    return rows
