// MicroPython glue of the table walkers: as a native module (.mpy) or, in a firmware built with micropython.mk or
// micropython.cmake, as the built-in module ew_table.

#include "table_forest.h"
#include "table_gaussian.h"

#ifdef MICROPY_ENABLE_DYNRUNTIME
#include "py/dynruntime.h"
#else
#include "py/runtime.h"
#define mp_obj_new_float_from_f(value) mp_obj_new_float((mp_float_t)(value))
#endif

static const uint8_t *bytes_of(mp_obj_t object, size_t *size) {
    mp_buffer_info_t buffer;
    mp_get_buffer_raise(object, &buffer, MP_BUFFER_READ);
    *size = buffer.len;
    return buffer.buf;
}

// check(blob) -> int: 0 when every byte of it is sound, else which kind of thing is not (table_forest.h).
static mp_obj_t table_check(mp_obj_t blob_in) {
    size_t size;
    const uint8_t *blob = bytes_of(blob_in, &size);
    return MP_OBJ_NEW_SMALL_INT(ew_forest_check(blob, size));
}
static MP_DEFINE_CONST_FUN_OBJ_1(table_check_obj, table_check);

// The features of a score: array('i'), as many as the blob's header says.
static const int32_t *features_of(mp_obj_t object, const uint8_t *blob) {
    mp_buffer_info_t features;
    mp_get_buffer_raise(object, &features, MP_BUFFER_READ);
    if (features.typecode != 'i' || features.len != 4 * ew_u16(blob + 6)) {
        mp_raise_ValueError(MP_ERROR_TEXT("features must be array('i') of n_features values"));
    }
    return features.buf;
}

// score(blob, features) -> float: blob is a forest that passed check() and lies at a multiple of 4.
static mp_obj_t table_score(mp_obj_t blob_in, mp_obj_t features_in) {
    size_t size;
    const uint8_t *blob = bytes_of(blob_in, &size);
    if (size < EW_FOREST_BYTES || (uintptr_t)blob % 4) {
        mp_raise_ValueError(MP_ERROR_TEXT("no blob at a multiple of 4"));
    }
    return mp_obj_new_float_from_f(ew_forest_score(blob, features_of(features_in, blob)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(table_score_obj, table_score);

// gaussian(blob, features) -> float: blob is a Gaussian that passed contract/table_gaussian.py's check().
static mp_obj_t table_gaussian(mp_obj_t blob_in, mp_obj_t features_in) {
    size_t size;
    const uint8_t *blob = bytes_of(blob_in, &size);
    if (!ew_table_gaussian_fits(blob, size)) {
        mp_raise_ValueError(MP_ERROR_TEXT("no Gaussian"));
    }
    return mp_obj_new_float_from_f(ew_table_gaussian_score(blob, features_of(features_in, blob)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(table_gaussian_obj, table_gaussian);

#ifdef MICROPY_ENABLE_DYNRUNTIME

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    mp_store_global(MP_QSTR_check, MP_OBJ_FROM_PTR(&table_check_obj));
    mp_store_global(MP_QSTR_gaussian, MP_OBJ_FROM_PTR(&table_gaussian_obj));
    mp_store_global(MP_QSTR_score, MP_OBJ_FROM_PTR(&table_score_obj));
    MP_DYNRUNTIME_INIT_EXIT
}

#else

static const mp_rom_map_elem_t table_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_ew_table)},
    {MP_ROM_QSTR(MP_QSTR_check), MP_ROM_PTR(&table_check_obj)},
    {MP_ROM_QSTR(MP_QSTR_gaussian), MP_ROM_PTR(&table_gaussian_obj)},
    {MP_ROM_QSTR(MP_QSTR_score), MP_ROM_PTR(&table_score_obj)},
};
static MP_DEFINE_CONST_DICT(table_globals, table_globals_table);

const mp_obj_module_t ew_table_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&table_globals,
};
MP_REGISTER_MODULE(MP_QSTR_ew_table, ew_table_module);

#endif
