// The pieces of a report: drawings and pictures as HTML text.
#ifndef TASKS_REPORT_H
#define TASKS_REPORT_H

#include <elbo/model.h>

#include "core/config.h"

typedef struct curve {
  const char *name, *unit;
  int64_t n;
  const double *x, *y; // y may hold NaN: left out
  const char *x_name;  // before the last x; NULL: "step"
} curve;

void html_add_text(text_buffer *out, const char *text); // & < > " escaped
// One line chart with its name, the range of both axes and the last value.
void html_add_curve(text_buffer *out, const curve *c);
// One bar a value, the largest first; values below `threshold` are drawn pale.
void html_add_bars(text_buffer *out, int64_t n, const double *values, const char *unit, double threshold);
// <img> with the picture (H,W,C) uint8 inside as a PNG.
elbo_status html_add_picture(elbo_ctx *ctx, text_buffer *out, const elbo_array *picture, const char *description);
extern const char html_head[];

// Of a diffusion model: log-SNR over time; and of one of points in the plane a picture of its density, samples and points (n,...,2) beside
// each other.
void report_schedule(const elbo_model *m, text_buffer *page);
elbo_status report_plane(elbo_model *m, const elbo_array *points, uint64_t seed, text_buffer *page);

#endif
