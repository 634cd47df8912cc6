"""Runs on MicroPython: what the case programs of this folder share. Each runs the one case its argv names."""

import json
import sys


def run(cases):
    """Runs cases[argv[1]] and prints what it returns as one line of JSON."""
    figures = cases[json.loads(sys.argv[1])]()
    print(json.dumps(figures))


def same(found, wanted):
    """Raises AssertionError showing both, unless they are equal."""
    if found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")


def raises(kind, call, *arguments):
    """The error of `kind` that call(*arguments) raises; AssertionError when it does not."""
    try:
        call(*arguments)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")
