# Runs on a board: says in one line of JSON what its MicroPython is.
import json
import sys

try:
    import umqtt.simple

    has_umqtt = bool(umqtt.simple)
except ImportError:
    has_umqtt = False
implementation = sys.implementation
print(json.dumps({"mpy": implementation._mpy, "machine": implementation._machine, "umqtt": has_umqtt}))
