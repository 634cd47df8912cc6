# Runs on a board: says in one line of JSON what its MicroPython is.
import gc
import json
import sys

try:
    import umqtt.simple

    has_umqtt = bool(umqtt.simple)
except ImportError:
    has_umqtt = False
try:
    from esp32 import HEAP_DATA, idf_heap_info

    gc.collect()
    regions = idf_heap_info(HEAP_DATA)
    # What Python has and what ESP-IDF has left, whose largest block mem_free() counts, too.
    ram = gc.mem_alloc() + gc.mem_free() - max([region[2] for region in regions])
    ram += sum([region[1] for region in regions])
except ImportError:
    ram = None
sys.path[:] = [".frozen"]  # files win over what is frozen
try:
    import contract.wire

    frozen = bool(contract.wire)
except ImportError:
    frozen = False
said = {"mpy": sys.implementation._mpy, "machine": sys.implementation._machine}
said["umqtt"], said["frozen"], said["ram"] = has_umqtt, frozen, ram
print(json.dumps(said))
