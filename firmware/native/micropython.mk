# The table walkers as the built-in module ew_table, for ports built with make:
#     make USER_C_MODULES=.../firmware ...
# With EDGEWISE_MODEL=FOLDER also a compiled model, the built-in module ew_model; FOLDER holds its model.h and EMLEARN_DIR
# emlearn's headers. Proven equal to the native modules in tests/native/test_user_module.py.

EDGEWISE_NATIVE := $(USERMOD_DIR)
SRC_USERMOD_C += $(EDGEWISE_NATIVE)/table_module.c
# Floats are rounded after every operation, or scores would differ from those that were proven.
CFLAGS_USERMOD += -ffp-contract=off -Wno-unused-function -I$(EDGEWISE_NATIVE)
ifneq ($(EDGEWISE_MODEL),)
SRC_USERMOD_C += $(EDGEWISE_NATIVE)/module.c
# -fno-thread-jumps: see Makefile.
CFLAGS_USERMOD += -I$(EDGEWISE_MODEL) -I$(EMLEARN_DIR) -fno-thread-jumps -Wno-unused-variable
endif
