// MicroPython glue of window_features.h: the native module ew_features, which contract.features.Features computes by where a
// board has it. compute() checks every length and code first, as machine code would read past the end.

#include "window_features.h"

#include "py/dynruntime.h"

static void take(mp_obj_t from, mp_buffer_info_t *buffer, char typecode, mp_uint_t flags) {
    mp_get_buffer_raise(from, buffer, flags);
    if (buffer->typecode != typecode) {
        mp_raise_ValueError("array of another type");
    }
}

static int is_sound(const ew_schema *schema, size_t n_bands, size_t n_cosines) {
    if (schema->samples < 1 || schema->samples > EW_MAX_WINDOW || schema->channels < 1) {
        return 0;
    }
    if (n_bands && n_cosines != 4 * (size_t)schema->samples) {
        return 0;
    }
    for (size_t i = 0; i < n_bands; i++) {
        if (schema->bands[2 * i] < 1 || schema->bands[2 * i + 1] > schema->samples / 2) {
            return 0;
        }
    }
    for (int i = 0; i < schema->n_codes; i++) {
        if (schema->codes[i] >= EW_BAND + n_bands) {
            return 0;
        }
    }
    return 1;
}

// compute(plan, cosines, window, out): plan is array('B') of channels, number of codes, the codes, first and last bin of
// each band; cosines array('h'); window and out array('i') as Features.compute_into takes them.
static mp_obj_t compute(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t plan, cosines, window, out;
    take(args[0], &plan, 'B', MP_BUFFER_READ);
    take(args[1], &cosines, 'h', MP_BUFFER_READ);
    take(args[2], &window, 'i', MP_BUFFER_READ);
    take(args[3], &out, 'i', MP_BUFFER_WRITE);
    const uint8_t *bytes = plan.buf;
    size_t count = window.len / sizeof(int32_t);
    if (plan.len < 3 || plan.len < 2 + (size_t)bytes[1] || bytes[0] == 0 || count % bytes[0]) {
        mp_raise_ValueError("window or out has the wrong length");
    }
    ew_schema schema = {
        .samples = (int)(count / bytes[0]),
        .channels = bytes[0],
        .n_codes = bytes[1],
        .codes = bytes + 2,
        .bands = bytes + 2 + bytes[1],
        .cosines = cosines.buf,
    };
    size_t n_bands = (plan.len - 2 - bytes[1]) / 2;
    if (out.len != sizeof(int32_t) * bytes[0] * bytes[1]
        || !is_sound(&schema, n_bands, cosines.len / sizeof(int16_t))) {
        mp_raise_ValueError("window or out has the wrong length");
    }
    ew_features(&schema, window.buf, out.buf);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(compute_obj, 4, 4, compute);

// fill_cosines(table): array('h') of 4 entries for each sample of a window.
static mp_obj_t fill_cosines(mp_obj_t table_in) {
    mp_buffer_info_t table;
    take(table_in, &table, 'h', MP_BUFFER_WRITE);
    size_t samples = table.len / (4 * sizeof(int16_t));
    if (samples < 1 || samples > EW_MAX_WINDOW || table.len != samples * 4 * sizeof(int16_t)) {
        mp_raise_ValueError("table of another length");
    }
    ew_cosines((int)samples, table.buf);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(fill_cosines_obj, fill_cosines);

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    mp_store_global(MP_QSTR_compute, MP_OBJ_FROM_PTR(&compute_obj));
    mp_store_global(MP_QSTR_fill_cosines, MP_OBJ_FROM_PTR(&fill_cosines_obj));
    MP_DYNRUNTIME_INIT_EXIT
}
