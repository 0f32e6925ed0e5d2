// Captioned shapes: one coloured figure on a plain ground, anti-aliased, with a sentence that says everything that is categorical about it.
#include "data/shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/philox.h"
#include "data/dataset.h"

const char *const SHAPE_KIND_NAMES[SHAPE_KINDS] = {"circle", "square", "triangle", "star", "cross", "ring"};
const char *const SHAPE_SIZE_NAMES[SHAPE_SIZES] = {"small", "medium", "large"};
const char *const SHAPE_PLACE_NAMES[SHAPE_CELLS][SHAPE_CELLS] = {{"at the top left", "at the top", "at the top right"},
                                                                 {"at the left", "in the middle", "at the right"},
                                                                 {"at the bottom left", "at the bottom", "at the bottom right"}};
const char *const SHAPE_COLOR_NAMES[SHAPE_COLORS] = {"red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"};
const uint8_t SHAPE_COLOR_RGB[SHAPE_COLORS][3] = {{220, 40, 40},  {240, 140, 30}, {240, 220, 40}, {50, 170, 70},
                                                  {60, 200, 210}, {50, 80, 220},  {140, 60, 180}, {245, 130, 190}};
const char *const SHAPE_BACKGROUND_NAMES[SHAPE_BACKGROUNDS] = {"white", "grey", "black"};
const uint8_t SHAPE_BACKGROUND_RGB[SHAPE_BACKGROUNDS][3] = {{255, 255, 255}, {128, 128, 128}, {0, 0, 0}};

#define CELL_STEP 0.21   // between the middles of rows and of columns
#define CELL_JITTER 0.03 // either way
#define SUBSAMPLES 8     // of a pixel, each way
#define STAR_INNER 0.45
#define CROSS_ARM 0.33
#define RING_INNER 0.55

double shape_cell_center(int cell) { return 0.5 + (cell - 1) * CELL_STEP; }

void shape_size_range(int size, double *low, double *high) {
  static const double LOW[SHAPE_SIZES] = {0.10, 0.155, 0.215}, HIGH[SHAPE_SIZES] = {0.125, 0.185, 0.25};
  *low = LOW[size], *high = HIGH[size];
}

void shape_scene_draw(uint64_t seed, uint32_t stream, uint64_t index, double rotation, shape_scene *out) {
  uint32_t a[4], b[4], c[4];
  philox_draw(seed, stream, index, 0, a);
  philox_draw(seed, stream, index, 1, b);
  philox_draw(seed, stream, index, 2, c);
  double low, high;
  out->kind = (int)(((uint64_t)a[0] * SHAPE_KINDS) >> 32);
  out->size = (int)(((uint64_t)a[1] * SHAPE_SIZES) >> 32);
  out->row = (int)(((uint64_t)a[2] * SHAPE_CELLS) >> 32);
  out->column = (int)(((uint64_t)a[3] * SHAPE_CELLS) >> 32);
  out->color = (int)(((uint64_t)b[0] * SHAPE_COLORS) >> 32);
  out->background = (int)(((uint64_t)b[1] * SHAPE_BACKGROUNDS) >> 32);
  shape_size_range(out->size, &low, &high);
  out->radius = low + (high - low) * philox_uniform(b[2]);
  out->x = shape_cell_center(out->column) + CELL_JITTER * (2 * philox_uniform(c[0]) - 1);
  out->y = shape_cell_center(out->row) + CELL_JITTER * (2 * philox_uniform(c[1]) - 1);
  out->angle = rotation * (2 * philox_uniform(c[2]) - 1) * (3.14159265358979323846 / 180);
}

void shape_attributes(const shape_scene *s, float *out) {
  const double reach = CELL_STEP + CELL_JITTER, low = 0.10, high = 0.25, most = 15 * (3.14159265358979323846 / 180);
  memset(out, 0, SHAPE_ATTRIBUTES * sizeof *out);
  out[s->kind] = out[SHAPE_KINDS + s->color] = out[SHAPE_KINDS + SHAPE_COLORS + s->background] = 1;
  float *place = out + SHAPE_KINDS + SHAPE_COLORS + SHAPE_BACKGROUNDS;
  place[0] = (float)((s->x - 0.5) / reach), place[1] = (float)((s->y - 0.5) / reach);
  place[2] = (float)((2 * s->radius - low - high) / (high - low)), place[3] = (float)(s->angle / most);
}

void shape_caption(const shape_scene *s, char *out, size_t size) {
  const char *color = SHAPE_COLOR_NAMES[s->color];
  snprintf(out, size, "a %s %s %s %s on a %s background", SHAPE_SIZE_NAMES[s->size], color, SHAPE_KIND_NAMES[s->kind],
           SHAPE_PLACE_NAMES[s->row][s->column], SHAPE_BACKGROUND_NAMES[s->background]);
}

// Corners of a shape of radius 1, pointing up; 0 for those that have none.
static int shape_corners(int kind, double corner[12][2]) {
  static const double A = CROSS_ARM;
  const double pi = 3.14159265358979323846, b = sqrt(1 - A * A);
  const double cross[12][2] = {{-A, -b}, {A, -b}, {A, -A}, {b, -A}, {b, A}, {A, A}, {A, b}, {-A, b}, {-A, A}, {-b, A}, {-b, -A}, {-A, -A}};
  int n = kind == SHAPE_SQUARE ? 4 : kind == SHAPE_TRIANGLE ? 3 : kind == SHAPE_STAR ? 10 : kind == SHAPE_CROSS ? 12 : 0;
  for (int i = 0; i < n; i++) {
    double t = 2 * pi * (i + (kind == SHAPE_SQUARE ? 0.5 : 0)) / n - pi / 2, r = kind == SHAPE_STAR && i % 2 ? STAR_INNER : 1;
    corner[i][0] = kind == SHAPE_CROSS ? cross[i][0] : r * cos(t);
    corner[i][1] = kind == SHAPE_CROSS ? cross[i][1] : r * sin(t);
  }
  return n;
}

double shape_unit_area(int kind) {
  const double pi = 3.14159265358979323846;
  double corner[12][2], twice = 0;
  int n = shape_corners(kind, corner);
  if (kind == SHAPE_CIRCLE) return pi;
  if (kind == SHAPE_RING) return pi * (1 - RING_INNER * RING_INNER);
  for (int i = 0, j = n - 1; i < n; j = i++) twice += corner[j][0] * corner[i][1] - corner[i][0] * corner[j][1];
  return fabs(twice) / 2;
}

// --- coverage: the share of a pixel's 8 x 8 subsamples that lie inside ---

// Columns of subsamples of one row, from left to right: column j is at ((j + 0.5) / SUBSAMPLES - cx) / radius, in radii from the centre.
typedef struct subsample_row {
  int first, end; // of the columns that are looked at
  double cx, radius;
  int *hits; // a pixel's, from that of `first` on
} subsample_row;

static double column_at(const subsample_row *r, int j) { return ((j + 0.5) / SUBSAMPLES - r->cx) / r->radius; }

// The first column that is not left of x: a guess, and the columns' own places to settle it.
static int first_column(const subsample_row *r, double x) {
  double guess = (x * r->radius + r->cx) * SUBSAMPLES - 0.5;
  int j = guess <= r->first ? r->first : guess >= r->end ? r->end : (int)guess;
  while (j > r->first && column_at(r, j - 1) >= x) j--;
  while (j < r->end && column_at(r, j) < x) j++;
  return j;
}

// Columns [from, to) count by `sign` each.
static void add_columns(const subsample_row *r, int from, int to, int sign) {
  while (from < to) {
    int pixel = from / SUBSAMPLES, end = (pixel + 1) * SUBSAMPLES < to ? (pixel + 1) * SUBSAMPLES : to;
    r->hits[pixel - r->first / SUBSAMPLES] += sign * (end - from);
    from = end;
  }
}

// The columns within `around` of the centre, y below it.
static void add_disc(const subsample_row *r, double around, double y, int sign) {
  if (fabs(y) >= around) return;
  double half = sqrt(around * around - y * y);
  add_columns(r, first_column(r, -half), first_column(r, half), sign);
}

// The columns between the places where the line at height y crosses the edges: into the polygon and out of it in turn.
static void add_polygon(const subsample_row *r, int n, double corner[12][2], double y) {
  double at[12];
  int crossings = 0;
  for (int i = 0, j = n - 1; i < n; j = i++) {
    bool above = corner[i][1] > y, other = corner[j][1] > y;
    if (above == other) continue;
    double x = corner[j][0] + (corner[i][0] - corner[j][0]) * (y - corner[j][1]) / (corner[i][1] - corner[j][1]);
    int k = crossings++;
    for (; k > 0 && at[k - 1] > x; k--) at[k] = at[k - 1];
    at[k] = x;
  }
  for (int k = 0; k + 1 < crossings; k += 2) add_columns(r, first_column(r, at[k]), first_column(r, at[k + 1]), 1);
}

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

void shape_coverage(const shape_scene *s, int side, float *out) {
  double corner[12][2], cosine = cos(s->angle), sine = sin(s->angle), radius = s->radius * side, cx = s->x * side, cy = s->y * side;
  int hits[SHAPE_MAX_SIDE], n = shape_corners(s->kind, corner);
  for (int i = 0; i < n; i++) {
    double x = corner[i][0], y = corner[i][1];
    corner[i][0] = x * cosine - y * sine, corner[i][1] = x * sine + y * cosine;
  }
  memset(out, 0, (size_t)side * (size_t)side * sizeof *out);
  int left = clamp((int)floor(cx - radius) - 1, 0, side), right = clamp((int)ceil(cx + radius) + 2, left, side);
  int top = clamp((int)floor(cy - radius) - 1, 0, side), bottom = clamp((int)ceil(cy + radius) + 2, top, side);
  const subsample_row row = {left * SUBSAMPLES, right * SUBSAMPLES, cx, radius, hits};
  for (int y = top; y < bottom; y++) {
    memset(hits, 0, (size_t)(right - left) * sizeof *hits);
    for (int i = 0; i < SUBSAMPLES; i++) {
      double v = (y + (i + 0.5) / SUBSAMPLES - cy) / radius;
      if (n > 0) {
        add_polygon(&row, n, corner, v);
        continue;
      }
      add_disc(&row, 1, v, 1);
      if (s->kind == SHAPE_RING) add_disc(&row, RING_INNER, v, -1);
    }
    for (int x = left; x < right; x++) out[y * side + x] = (float)hits[x - left] / (SUBSAMPLES * SUBSAMPLES);
  }
}

void shape_render(const shape_scene *s, int side, int channels, float *coverage, uint8_t *out) {
  double ground[3], ink[3];
  for (int c = 0; c < 3; c++) ground[c] = SHAPE_BACKGROUND_RGB[s->background][c], ink[c] = SHAPE_COLOR_RGB[s->color][c];
  if (channels == 1) {
    ground[0] = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2];
    ink[0] = 0.299 * ink[0] + 0.587 * ink[1] + 0.114 * ink[2];
  }
  shape_coverage(s, side, coverage);
  uint8_t mixed[SUBSAMPLES * SUBSAMPLES + 1][3];
  for (int k = 0; k <= SUBSAMPLES * SUBSAMPLES; k++)
    for (int c = 0; c < 3; c++) mixed[k][c] = (uint8_t)(ground[c] + (double)k / (SUBSAMPLES * SUBSAMPLES) * (ink[c] - ground[c]) + 0.5);
  for (int i = 0; i < side * side; i++, out += channels)
    memcpy(out, mixed[(int)(coverage[i] * (SUBSAMPLES * SUBSAMPLES))], (size_t)channels);
}

// --- the data set ----------------------------------------------------------------------------------------------------------------

typedef struct shapes_config {
  int64_t size, channels, train, valid, test, seed;
  double rotation;
} shapes_config;

static const config_field SHAPES_FIELDS[] = {
    CONFIG_INT(shapes_config, size, 16, SHAPE_MAX_SIDE, "64", "pixels", "side of a picture"),
    CONFIG_INT(shapes_config, channels, 1, 3, "3", "", "3 colour, 1 grey"),
    CONFIG_INT(shapes_config, train, 1, 1e9, "50000", "examples", "training pictures"),
    CONFIG_INT(shapes_config, valid, 0, 1e9, "5000", "examples", "validation pictures"),
    CONFIG_INT(shapes_config, test, 0, 1e9, "5000", "examples", "test pictures"),
    CONFIG_INT(shapes_config, seed, 0, 9e18, "0", "", "of all scenes"),
    CONFIG_FLOAT(shapes_config, rotation, 0, 15, "0", "degrees", "shapes are turned by up to so much either way"),
};
static const config_table SHAPES_TABLE = CONFIG_TABLE("shapes", shapes_config, SHAPES_FIELDS, "captioned shapes");

typedef struct shapes_part {
  shapes_config config;
  uint32_t stream;
} shapes_part;

static elbo_status shapes_make(void *user, elbo_ctx *ctx, int64_t index, void *out, int32_t *label) {
  const shapes_part *part = user;
  shape_scene scene;
  int side = (int)part->config.size;
  float *coverage = malloc((size_t)side * (size_t)side * sizeof *coverage);
  if (!coverage) return fail_memory(ctx, (size_t)side * (size_t)side * sizeof *coverage, "shapes");
  shape_scene_draw((uint64_t)part->config.seed, part->stream, (uint64_t)index, part->config.rotation, &scene);
  shape_render(&scene, side, (int)part->config.channels, coverage, out);
  free(coverage);
  *label = scene.kind;
  return ELBO_OK;
}

static elbo_status shapes_describe(void *user, elbo_ctx *ctx, int64_t index, char *caption, size_t size) {
  const shapes_part *part = user;
  shape_scene scene;
  (void)ctx;
  shape_scene_draw((uint64_t)part->config.seed, part->stream, (uint64_t)index, part->config.rotation, &scene);
  shape_caption(&scene, caption, size);
  return ELBO_OK;
}

static void shapes_attributes(void *user, int64_t index, float *out) {
  const shapes_part *part = user;
  shape_scene scene;
  shape_scene_draw((uint64_t)part->config.seed, part->stream, (uint64_t)index, part->config.rotation, &scene);
  shape_attributes(&scene, out);
}

elbo_status shapes_open(elbo_dataset *ds, int n_options, const char *const *options) {
  static const char *const STREAMS[3] = {"shapes.train", "shapes.valid", "shapes.test"};
  shapes_config config;
  arena *a = arena_create(1024);
  if (!a) return fail_memory(ds->ctx, 1024, "shapes");
  elbo_status status = config_load_options(ds->ctx, a, &SHAPES_TABLE, n_options, options, &config);
  arena_destroy(&a);
  TRY(status);
  if (ds->config.size) config.size = ds->config.size;
  if (ds->config.channels) config.channels = ds->config.channels;
  if (config.size < 16 || config.size > SHAPE_MAX_SIDE)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "shapes: size %lld; expected 16 to %d", (long long)config.size, SHAPE_MAX_SIDE);
  if (config.channels != 1 && config.channels != 3) return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "shapes: channels must be 1 or 3");
  if (ds->config.holdout > 0) config.valid = ds->config.holdout; // drawn, not taken away from the training set
  ds->config.holdout = -1;
  ds->format = "shapes", ds->dtype = ELBO_U8, ds->image = true;
  ds->height = ds->width = (int)config.size, ds->channels = (int)config.channels;
  TRY(array_new(ds->ctx, SHAPE_KINDS, sizeof *ds->class_names, "class names", (void **)&ds->class_names));
  ds->classes = SHAPE_KINDS;
  for (int k = 0; k < SHAPE_KINDS; k++) {
    ds->class_names[k] = string_copy(SHAPE_KIND_NAMES[k]);
    if (!ds->class_names[k]) return fail_memory(ds->ctx, 16, "class names");
  }
  const int64_t counts[3] = {config.train, config.valid, config.test};
  for (int s = 0; s < 3; s++) {
    if (!counts[s]) continue;
    shapes_part *part = calloc(1, sizeof *part);
    if (!part) return fail_memory(ds->ctx, sizeof *part, "shapes");
    *part = (shapes_part){config, philox_stream(STREAMS[s])};
    ds->part[s] = (example_part){.count = counts[s],
                                 .make = shapes_make,
                                 .describe = shapes_describe,
                                 .attributes = shapes_attributes,
                                 .attribute_count = SHAPE_ATTRIBUTES,
                                 .user = part,
                                 .release_user = free};
  }
  return ELBO_OK;
}
