"""Runs on MicroPython: verifies the cases of a file, one at a time, in the heap of a board.

argv: the file of 160-byte cases. Prints the verdicts as a string of 0 and 1, those on the first case with one of its
three values a byte too short or too long, and the time per verdict in us.
"""

import json
import sys
import time

from device import signature

_CASE_BYTES = 160


def misfit_verdicts(digest, rs, key):
    """Six verdicts, all of which must be False."""
    return [
        signature.verify(digest[1:], rs, key),
        signature.verify(digest + b"\0", rs, key),
        signature.verify(digest, rs[1:], key),
        signature.verify(digest, rs + b"\0", key),
        signature.verify(digest, rs, key[1:]),
        signature.verify(digest, rs, key + b"\0"),
    ]


def main():
    case = bytearray(_CASE_BYTES)
    verdicts = bytearray()
    spent_us = 0
    misfits = None
    with open(sys.argv[1], "rb") as f:
        while f.readinto(case) == _CASE_BYTES:
            digest, rs, key = bytes(case[:32]), bytes(case[32:96]), bytes(case[96:])
            misfits = misfits or misfit_verdicts(digest, rs, key)
            began = time.ticks_us()
            verdict = signature.verify(digest, rs, key)
            spent_us += time.ticks_diff(time.ticks_us(), began)
            verdicts.append(48 + verdict)
    print(json.dumps([verdicts.decode(), misfits, spent_us / max(len(verdicts), 1)]))


main()
