"""Runs the functions `test_*` of the modules named in argv, on either runtime: one JSON object per test on stdout."""

import io
import json
import sys
import time

SUITE = "tests.contract.suite."


def failure(error):
    """The traceback as text."""
    print_exception = getattr(sys, "print_exception", None)  # MicroPython's
    if print_exception:
        out = io.StringIO()
        print_exception(error, out)
        return out.getvalue()
    import traceback

    return "".join(traceback.format_exception(error))


def run(module_name):
    module = getattr(__import__(SUITE + module_name).contract.suite, module_name)
    for name in sorted(dir(module)):
        if not name.startswith("test_"):
            continue
        began = time.time()
        text = None
        try:
            getattr(module, name)()
        except Exception as error:  # whatever a test raises is its result
            text = failure(error)
        print(json.dumps({"test": module_name + "." + name, "failure": text, "seconds": time.time() - began}))


for each in sys.argv[1:]:
    run(each)
