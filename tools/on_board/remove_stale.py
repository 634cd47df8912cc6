# Runs on a board, after a line that sets `keep`: removes modules of an earlier release and prints their paths. Left
# behind, an old .py would win over the new .mpy of the same name, and any file or empty folder over what is frozen.
import os

import machine

# The watchdog of the firmware that was interrupted outlives the soft reset, and would end the copying after a minute.
machine.WDT(timeout=1800000)


def sweep(folder):
    for entry in list(os.ilistdir(folder)):
        path = folder + "/" + entry[0]
        if entry[1] == 0x4000:
            sweep(path)
        elif path not in keep:  # noqa: F821
            os.remove(path)
            print(path)
    if not list(os.ilistdir(folder)):
        os.rmdir(folder)


for folder in ("contract", "device"):
    try:
        os.stat(folder)
    except OSError:
        continue
    sweep(folder)
