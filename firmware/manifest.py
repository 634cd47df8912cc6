"""What is frozen into a MicroPython image, for the port's FROZEN_MANIFEST; docs/boards.md has the commands.

Frozen code runs from flash: no .mpy file is read and no name of ours is in the heap. main.py is frozen too, although it
is where the pins are: as text on the flash it would be compiled at every wake. Who builds an image has the source and
changes the pins here. boot.py stays a file on the board, for what must run before the firmware or instead of it.

On a chip the port's own manifest comes first; it brings umqtt.simple. board="host" is that of tools/frozen_port.py.
"""

import os

options.defaults(board="esp32")  # noqa: F821 - these names are what makemanifest.py gives to a manifest
_LEFT_OUT = {
    "messages.py",  # the table other files are generated from: no board reads it
    *(("host.py",) if options.board == "esp32" else ("esp32.py", "ulp_program.py", "ulp_watch.py")),  # noqa: F821
}

if options.board == "esp32":  # noqa: F821
    include("$(PORT_DIR)/boards/manifest.py")  # noqa: F821
module("main.py", opt=2)  # noqa: F821
for _name in ("contract", "device"):
    _files = [
        os.path.relpath(os.path.join(folder, file), _name)
        for folder, _, files in os.walk(_name)
        for file in files
        if file.endswith(".py") and file not in _LEFT_OUT
    ]
    package(_name, files=sorted(_files), opt=2)  # noqa: F821
