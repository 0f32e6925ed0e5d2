// Loops that reach the processor's arithmetic limit and the memory's, one an instruction set (tasks/peak_cpu.c).
#ifndef TASKS_PEAK_H
#define TASKS_PEAK_H

#include <stdint.h>

float peak_loop_base(int64_t rounds, float factor, float offset);
float peak_loop_v3(int64_t rounds, float factor, float offset);
float peak_loop_v4(int64_t rounds, float factor, float offset);
void stream_loop_base(float *to, const float *from, int64_t count);
void stream_loop_v3(float *to, const float *from, int64_t count);
void stream_loop_v4(float *to, const float *from, int64_t count);
int peak_flops_per_round_base(void);
int peak_flops_per_round_v3(void);
int peak_flops_per_round_v4(void);

#endif
