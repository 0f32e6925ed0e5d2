// What gemm_cpu.c and gemm_panel_cpu.c have of each other. Only these two include this.
#ifndef OPS_GEMM_PANEL_H
#define OPS_GEMM_PANEL_H

#include "ops/gemm_cpu.h"

// Whether the job is one for gemm_panel_cpu.c; it then has no panel_columns.
bool ISA(gemm_panel_takes)(const gemm_job *j);
static inline bool gemm_by_panel(const gemm_job *j) { return j->panel_columns == 0; }
// Chooses how `threads` share the job, and gives the elements of io->packed that it takes.
int64_t ISA(gemm_panel_plan)(gemm_job *j, int threads);
// Part `part` of row_parts * column_parts.
void ISA(gemm_panel_run)(const gemm_job *j, const gemm_io *io, int part);

// Rows [k0, k0 + K) of columns [n0, n0 + width) of the matrix B: dst[k * width + n]
void ISA(gemm_pack_matrix)(const gemm_job *j, const float *b, int64_t k0, int64_t K, int64_t n0, int width, float *dst);
// Adds a tile [r][GEMM_NR] to C and, after the last block of K, applies the epilogue. offset: where its rows lie
void ISA(gemm_store_tile)(const gemm_job *j, const gemm_io *io, bool first, bool last, const float *tile, const int64_t *offset, int rows,
                          int64_t n0, int vectors);

#endif
