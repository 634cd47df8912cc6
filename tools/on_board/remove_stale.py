# Runs on a board, after a line that sets `keep`: removes modules of an earlier release and prints their paths. Left
# behind, an old .py would win over the new .mpy of the same name.
import os


def sweep(folder):
    for entry in os.ilistdir(folder):
        path = folder + "/" + entry[0]
        if entry[1] == 0x4000:
            sweep(path)
        elif path not in keep:  # noqa: F821
            os.remove(path)
            print(path)


for folder in ("contract", "device"):
    try:
        os.stat(folder)
    except OSError:
        continue
    sweep(folder)
