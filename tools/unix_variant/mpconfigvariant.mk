# Edgewise's variant of MicroPython's unix port: what tools/unix_port.py builds. Nothing outside MicroPython's own tree
# is linked, so any machine with a C compiler can build it.
INC += -Ivariants
MICROPY_PY_BTREE = 0
MICROPY_PY_FFI = 0
MICROPY_PY_SSL = 0
MICROPY_PY_THREAD = 0
MICROPY_VFS_FAT = 0
MICROPY_VFS_LFS1 = 0
MICROPY_USE_READLINE = 0
