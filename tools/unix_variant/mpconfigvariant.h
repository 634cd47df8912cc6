// Features of the level the ESP32 port has; where words are 32 bits wide, a chip's numbers too.
#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)

#if defined(__i386__) && !defined(MICROPY_FLOAT_IMPL)
#define MICROPY_FLOAT_IMPL (MICROPY_FLOAT_IMPL_FLOAT)
#endif

#include "mpconfigvariant_common.h"
