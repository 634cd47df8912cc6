// Lets one allocation fail, as where the heap is full, so that a test can try each in turn.
//
//     import scarce
//     scarce.fail(n)       the n-th allocation from here on, from 0, finds no memory, once; a negative n: none does
//     scarce.count()       allocations since then
//
// The linker sends every call of gc_alloc and gc_realloc here (micropython.mk).

#include "py/gc.h"
#include "py/runtime.h"

static mp_int_t to_fail = -1;
static mp_int_t counted;

void *__real_gc_alloc(size_t n_bytes, unsigned int flags);
void *__real_gc_realloc(void *piece, size_t n_bytes, bool may_move);

void *__wrap_gc_alloc(size_t n_bytes, unsigned int flags) {
    return counted++ == to_fail ? NULL : __real_gc_alloc(n_bytes, flags);
}

void *__wrap_gc_realloc(void *piece, size_t n_bytes, bool may_move) {
    return counted++ == to_fail ? NULL : __real_gc_realloc(piece, n_bytes, may_move);
}

static mp_obj_t scarce_fail(mp_obj_t number) {
    to_fail = mp_obj_get_int(number);
    counted = 0;
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(scarce_fail_obj, scarce_fail);

static mp_obj_t scarce_count(void) {
    return mp_obj_new_int(counted);
}
static MP_DEFINE_CONST_FUN_OBJ_0(scarce_count_obj, scarce_count);

static const mp_rom_map_elem_t scarce_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_scarce) },
    { MP_ROM_QSTR(MP_QSTR_fail), MP_ROM_PTR(&scarce_fail_obj) },
    { MP_ROM_QSTR(MP_QSTR_count), MP_ROM_PTR(&scarce_count_obj) },
};
static MP_DEFINE_CONST_DICT(scarce_globals, scarce_globals_table);

const mp_obj_module_t scarce_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&scarce_globals,
};
MP_REGISTER_MODULE(MP_QSTR_scarce, scarce_module);
