"""Runs on MicroPython: calls every check_* function of a program and prints what came of each as a line of JSON."""

import gc
import io
import json
import sys


def run(names):
    """`names` is the program's globals()."""
    for name in sorted(names):
        if name.startswith("check_"):
            trace = ""
            try:
                names[name]()
            except Exception as e:
                out = io.StringIO()
                sys.print_exception(e, out)
                trace = out.getvalue()
            gc.collect()
            print(json.dumps([name, trace]))


def equal(found, expected):
    """Fails with both values."""
    if found != expected:
        raise AssertionError("found %r, expected %r" % (found, expected))
