// Reads a picture of the shapes set back into its attributes, by analysis and synthesis: what the pixels say about colours, centre and area
// fixes everything but the kind; the kind is the one whose rendering fits the mask best.
#include <elbo/dataset.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/ctx.h"
#include "data/shapes.h"

static int nearest_color(const double rgb[3], const uint8_t palette[][3], int n) {
  int best = 0;
  double least = DBL_MAX;
  for (int i = 0; i < n; i++) {
    double d = 0;
    for (int c = 0; c < 3; c++) d += (rgb[c] - palette[i][c]) * (rgb[c] - palette[i][c]);
    if (d < least) least = d, best = i;
  }
  return best;
}

// The mean of the four corners' 2x2 pixels: no shape reaches there.
static void corner_color(const uint8_t *rgb, int side, double out[3]) {
  for (int c = 0; c < 3; c++) {
    double sum = 0;
    for (int k = 0; k < 16; k++) {
      int y = (k & 1) + (k & 4 ? side - 2 : 0), x = (k >> 1 & 1) + (k & 8 ? side - 2 : 0);
      sum += rgb[(y * side + x) * 3 + c];
    }
    out[c] = sum / 16;
  }
}

static double distance2(const uint8_t *p, const double q[3]) {
  double d = 0;
  for (int c = 0; c < 3; c++) d += (p[c] - q[c]) * (p[c] - q[c]);
  return d;
}

// The mean of the pixels that differ most from the ground (those beyond 0.8 of the largest distance).
static bool ink_color(const uint8_t *rgb, int side, const double ground[3], double out[3]) {
  double most = 0, n = 0;
  for (int i = 0; i < side * side; i++) most = fmax(most, distance2(rgb + 3 * i, ground));
  if (most < 30 * 30) return false;
  out[0] = out[1] = out[2] = 0;
  for (int i = 0; i < side * side; i++) {
    if (distance2(rgb + 3 * i, ground) < 0.64 * most) continue;
    for (int c = 0; c < 3; c++) out[c] += rgb[3 * i + c];
    n++;
  }
  for (int c = 0; c < 3; c++) out[c] /= n;
  return true;
}

static int nearest_cell(double at) {
  return at < 0.5 * (shape_cell_center(0) + shape_cell_center(1)) ? 0 : at < 0.5 * (shape_cell_center(1) + shape_cell_center(2)) ? 1 : 2;
}

static int nearest_size(double radius) {
  double low, high, before;
  for (int s = 1; s < SHAPE_SIZES; s++) {
    shape_size_range(s - 1, &low, &before);
    shape_size_range(s, &low, &high);
    if (radius < (before + low) / 2) return s - 1;
  }
  return SHAPE_SIZES - 1;
}

bool shape_read(const uint8_t *rgb, int side, double rotation, float *scratch, shape_scene *out) {
  double ground[3], ink[3], step[3], length2 = 0, area = 0, x = 0, y = 0;
  float *mask = scratch, *trial = scratch + side * side;
  corner_color(rgb, side, ground);
  if (!ink_color(rgb, side, ground, ink)) return false;
  out->background = nearest_color(ground, SHAPE_BACKGROUND_RGB, SHAPE_BACKGROUNDS);
  out->color = nearest_color(ink, SHAPE_COLOR_RGB, SHAPE_COLORS);
  for (int c = 0; c < 3; c++) step[c] = ink[c] - ground[c], length2 += step[c] * step[c];
  for (int i = 0; i < side * side; i++) {
    double dot = 0;
    for (int c = 0; c < 3; c++) dot += (rgb[3 * i + c] - ground[c]) * step[c];
    double a = dot / length2;
    mask[i] = (float)(a < 0.1 ? 0 : a > 1 ? 1 : a); // a tenth: noise in a model's pictures does not move the centre
    area += (double)mask[i];
    x += (double)mask[i] * (i % side + 0.5), y += (double)mask[i] * (i / side + 0.5);
  }
  if (area < 1) return false;
  out->x = x / area / side, out->y = y / area / side;
  double least = DBL_MAX;
  for (int kind = 0; kind < SHAPE_KINDS; kind++)
    for (int turn = -2; turn <= 2; turn++) {
      if (turn && (rotation == 0 || kind == SHAPE_CIRCLE || kind == SHAPE_RING)) continue;
      shape_scene guess = *out;
      guess.kind = kind;
      guess.angle = turn * rotation / 2 * (3.14159265358979323846 / 180);
      guess.radius = sqrt(area / shape_unit_area(kind)) / side;
      shape_coverage(&guess, side, trial);
      double error = 0;
      for (int i = 0; i < side * side; i++) error += (double)((trial[i] - mask[i]) * (trial[i] - mask[i]));
      if (error < least) least = error, out->kind = kind, out->radius = guess.radius, out->angle = guess.angle;
    }
  out->row = nearest_cell(out->y), out->column = nearest_cell(out->x);
  out->size = nearest_size(out->radius);
  return true;
}

elbo_status elbo_shapes_read(elbo_ctx *ctx, const elbo_array *picture, char *caption, size_t size) {
  const int64_t *d = picture->dim;
  if (picture->rank != 3 || picture->dtype != ELBO_U8 || d[2] != 3 || d[0] != d[1] || d[0] < 16 || d[0] > SHAPE_MAX_SIDE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "reading a shape: expected a square picture of 16 to %d pixels, (H,W,3) uint8", SHAPE_MAX_SIDE);
  float *scratch = malloc((size_t)(2 * d[0] * d[1]) * sizeof *scratch);
  if (!scratch) return fail_memory(ctx, (size_t)(2 * d[0] * d[1]) * sizeof *scratch, "reading a shape");
  shape_scene scene;
  bool found = shape_read(picture->data, (int)d[0], 15, scratch, &scene);
  free(scratch);
  if (!found) return fail(ctx, ELBO_ERROR_FORMAT, "reading a shape: nothing differs from the background");
  shape_caption(&scene, caption, size);
  return ELBO_OK;
}
