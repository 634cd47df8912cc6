// Counts the instructions of one model's scores on rv32imc, under QEMU's -icount. model.h gives BENCH_TYPE, the type of
// a feature, BENCH_FEATURES, and bench_score(const BENCH_TYPE *); BENCH_BEGIN, if there, is run first and not counted.

#include "model.h"

#include "py/dynruntime.h"

static inline uint32_t instructions(void) {
    uint32_t count;
    __asm__ volatile (".insn i 0x73, 2, %0, x0, -1278" : "=r"(count)); // csrr minstret: zicsr has no letter here
    return count;
}

// count(rows) -> instructions of bench_score over all rows, array('i') of BENCH_FEATURES values each.
static mp_obj_t count(mp_obj_t rows_in) {
    mp_buffer_info_t rows;
    mp_get_buffer_raise(rows_in, &rows, MP_BUFFER_READ);
    const int32_t *row = rows.buf;
    uint32_t total = 0;
    #ifdef BENCH_BEGIN
    BENCH_BEGIN
    #endif
    for (size_t i = rows.len / 4 / BENCH_FEATURES; i > 0; i--) {
        BENCH_TYPE x[BENCH_FEATURES];
        for (int f = 0; f < BENCH_FEATURES; f++) {
            x[f] = (BENCH_TYPE)*row++;
        }
        uint32_t before = instructions();
        volatile __typeof__(bench_score(x)) score = bench_score(x); // volatile: it has to be computed
        total += instructions() - before - 1;
        (void)score;
    }
    return mp_obj_new_int_from_uint(total);
}
static MP_DEFINE_CONST_FUN_OBJ_1(count_obj, count);

// now() -> instructions since the start, low 30 bits.
static mp_obj_t now(void) {
    return MP_OBJ_NEW_SMALL_INT(instructions() & 0x3FFFFFFF);
}
static MP_DEFINE_CONST_FUN_OBJ_0(now_obj, now);

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    mp_store_global(MP_QSTR_count, MP_OBJ_FROM_PTR(&count_obj));
    mp_store_global(MP_QSTR_now, MP_OBJ_FROM_PTR(&now_obj));
    MP_DYNRUNTIME_INIT_EXIT
}
