// Loops that reach the processor's arithmetic limit, one an instruction set (tasks/peak_cpu.c).
#ifndef TASKS_PEAK_H
#define TASKS_PEAK_H

#include <stdint.h>

float peak_loop_base(int64_t rounds, float factor, float offset);
float peak_loop_v3(int64_t rounds, float factor, float offset);
float peak_loop_v4(int64_t rounds, float factor, float offset);
int peak_flops_per_round_base(void);
int peak_flops_per_round_v3(void);
int peak_flops_per_round_v4(void);

#endif
