# The built-in module scarce, through which every allocation of the port goes.
SCARCE_DIR := $(USERMOD_DIR)
SRC_USERMOD_C += $(SCARCE_DIR)/scarce.c
LDFLAGS_USERMOD += -Wl,--wrap=gc_alloc -Wl,--wrap=gc_realloc
