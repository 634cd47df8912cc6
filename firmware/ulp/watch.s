# Program of the ESP32's ULP coprocessor (FSM): watches one channel of ADC1 while the board sleeps.
#
# The ULP timer starts it once per sample. It keeps the mean of four conversions in a ring, from which the board takes
# its window at the next wake, and wakes the board when the signal enters a zone it was not in: above `high` or below
# `low`. A zone counts as left when the signal is back between `low_back` and `high_back`; the distance is the
# hysteresis. A crossing that finds the chip not asleep is not noted, so the next sample tries again.
#
# Instructions and addressing: ESP-IDF Programming Guide, "ESP32 ULP Coprocessor Instruction Set". A store writes 16
# bits and puts the program counter into the upper half of the word; the board masks it off. The board patches the pad
# into `measure` (its mux field is channel + 1) and fills in the four limits before it starts the program.
# tools/gen_ulp.py assembles this file into device/board/ulp_program.py.

#define RTC_CNTL_LOW_POWER_ST_REG 0x3ff480c0
# RTC_CNTL_RDY_FOR_WAKEUP, bit 19: the chip is asleep and can be woken (ESP32 TRM, "RTC_CNTL_LOW_POWER_ST_REG")
#define RDY_FOR_WAKEUP 19

.set oversample_log2, 2
.set ring_mask, 127

.global entry
.global measure
.global high
.global low
.global high_back
.global low_back
.global zone
.global count
.global taken
.global tag
.global ring

.text
entry:
    move r1, 0
    stage_rst
measure:
    adc r0, 0, 1
    add r1, r1, r0
    stage_inc 1
    jumps measure, 1 << oversample_log2, lt
    rsh r1, r1, oversample_log2

    # ring[count & ring_mask] = r1, count += 1
    move r3, count
    ld r2, r3, 0
    and r0, r2, ring_mask
    add r2, r2, 1
    st r2, r3, 0
    move r3, ring
    add r3, r3, r0
    st r1, r3, 0

    # OV after a subtraction: the result is below 0
    move r3, high
    ld r0, r3, 0
    sub r0, r0, r1
    jump above, ov
    move r3, low
    ld r0, r3, 0
    sub r0, r1, r0
    jump below, ov

    # Between the limits: the zone is left only beyond the hysteresis
    move r3, high_back
    ld r0, r3, 0
    sub r0, r0, r1
    jump done, ov
    move r3, low_back
    ld r0, r3, 0
    sub r0, r1, r0
    jump done, ov
    move r2, 0
    move r3, zone
    st r2, r3, 0
    jump done

above:
    move r2, 1
    jump crossed
below:
    move r2, 2
crossed:
    move r3, zone
    ld r0, r3, 0
    sub r0, r0, r2
    jump done, eq
    READ_RTC_FIELD(RTC_CNTL_LOW_POWER_ST_REG, RDY_FOR_WAKEUP)
    jumpr done, 1, lt
    st r2, r3, 0
    wake
done:
    halt

.data
high: .long 0
low: .long 0
high_back: .long 0
low_back: .long 0
# where the signal is: 0 between the limits, 1 above, 2 below
zone: .long 0
# samples taken, modulo 65536
count: .long 0
# the board's: `count` at its last look, and what tells it that this program with these limits is running
taken: .long 0
tag: .long 0

.bss
ring: .skip 512
