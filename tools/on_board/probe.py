# Runs on a board: says in one line of JSON what its MicroPython is.
import json
import sys

try:
    import umqtt.simple

    has_umqtt = bool(umqtt.simple)
except ImportError:
    has_umqtt = False
sys.path[:] = [".frozen"]  # files win over what is frozen
try:
    import contract.wire

    frozen = bool(contract.wire)
except ImportError:
    frozen = False
said = {"mpy": sys.implementation._mpy, "machine": sys.implementation._machine}
said["umqtt"], said["frozen"] = has_umqtt, frozen
print(json.dumps(said))
