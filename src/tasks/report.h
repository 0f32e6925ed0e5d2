// The pieces of a report: drawings and pictures as HTML text.
#ifndef TASKS_REPORT_H
#define TASKS_REPORT_H

#include <elbo/array.h>

#include "core/config.h"

typedef struct curve {
  const char *name, *unit;
  int64_t n;
  const double *x, *y; // y may hold NaN: left out
} curve;

void html_add_text(text_buffer *out, const char *text); // & < > " escaped
// One line chart with its name, the range of both axes and the last value.
void html_add_curve(text_buffer *out, const curve *c);
// One bar a value, the largest first; values below `threshold` are drawn pale.
void html_add_bars(text_buffer *out, int64_t n, const double *values, const char *unit, double threshold);
// <img> with the picture (H,W,C) uint8 inside as a PNG.
elbo_status html_add_picture(elbo_ctx *ctx, text_buffer *out, const elbo_array *picture, const char *description);
extern const char html_head[];

#endif
