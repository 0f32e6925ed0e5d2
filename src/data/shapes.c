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
#define SUBSAMPLES 8     // of an edge pixel, each way
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

// Distance from (x, y) to the edge, in radii; negative inside for shapes without corners.
static double edge_distance(int kind, int n, double corner[12][2], double x, double y) {
  double r = sqrt(x * x + y * y);
  if (kind == SHAPE_CIRCLE) return r - 1;
  if (kind == SHAPE_RING) return fabs(r - (1 + RING_INNER) / 2) - (1 - RING_INNER) / 2;
  double nearest = INFINITY;
  for (int i = 0, j = n - 1; i < n; j = i++) {
    double ex = corner[i][0] - corner[j][0], ey = corner[i][1] - corner[j][1], px = x - corner[j][0], py = y - corner[j][1];
    double along = px * ex + py * ey, length = ex * ex + ey * ey, t = along <= 0 ? 0 : along >= length ? 1 : along / length;
    double dx = px - t * ex, dy = py - t * ey, d = dx * dx + dy * dy;
    if (d < nearest) nearest = d;
  }
  return sqrt(nearest);
}

// Where the line at height y crosses the edges: a point is inside when a ray from it to the right meets an odd number of crossings.
static int row_crossings(int n, double corner[12][2], double y, double at[12]) {
  int crossings = 0;
  for (int i = 0, j = n - 1; i < n; j = i++) {
    bool above = corner[i][1] > y, other = corner[j][1] > y;
    if (above != other) at[crossings++] = corner[j][0] + (corner[i][0] - corner[j][0]) * (y - corner[j][1]) / (corner[i][1] - corner[j][1]);
  }
  return crossings;
}

static bool odd_beyond(int crossings, const double at[12], double x) {
  int beyond = 0;
  for (int i = 0; i < crossings; i++) beyond += x < at[i];
  return beyond & 1;
}

static bool is_inside(int kind, int n, double corner[12][2], double x, double y) {
  double at[12];
  if (n == 0) return edge_distance(kind, n, corner, x, y) < 0;
  return odd_beyond(row_crossings(n, corner, y, at), at, x);
}

void shape_coverage(const shape_scene *s, int side, float *out) {
  double corner[12][2], radius = s->radius * side, cosine = cos(s->angle), sine = sin(s->angle);
  int n = shape_corners(s->kind, corner);
  memset(out, 0, (size_t)side * (size_t)side * sizeof *out);
  double cx = s->x * side, cy = s->y * side;
  int top = (int)floor(cy - radius) - 1, bottom = (int)ceil(cy + radius) + 1, left = (int)floor(cx - radius) - 1,
      right = (int)ceil(cx + radius) + 1;
  for (int y = top < 0 ? 0 : top; y < side && y <= bottom; y++)
    for (int x = left < 0 ? 0 : left; x < side && x <= right; x++) {
      double px = (x + 0.5 - cx) / radius, py = (y + 0.5 - cy) / radius, u = px * cosine + py * sine, v = py * cosine - px * sine;
      double d = edge_distance(s->kind, n, corner, u, v) * radius;
      float *to = &out[y * side + x];
      // half a pixel's diagonal is 0.71: beyond it the pixel is all in or all out
      if (fabs(d) > 0.75) {
        *to = is_inside(s->kind, n, corner, u, v);
        continue;
      }
      int hits = 0;
      double qx[SUBSAMPLES];
      for (int j = 0; j < SUBSAMPLES; j++) qx[j] = (x + (j + 0.5) / SUBSAMPLES - cx) / radius;
      for (int i = 0; i < SUBSAMPLES; i++) {
        double at[12], qy = (y + (i + 0.5) / SUBSAMPLES - cy) / radius;
        bool upright = n > 0 && sine == 0; // all of the row's subsamples have the same crossings
        int crossings = upright ? row_crossings(n, corner, qy * cosine, at) : 0;
        for (int j = 0; j < SUBSAMPLES; j++)
          hits += upright ? odd_beyond(crossings, at, qx[j])
                          : is_inside(s->kind, n, corner, qx[j] * cosine + qy * sine, qy * cosine - qx[j] * sine);
      }
      *to = (float)hits / (SUBSAMPLES * SUBSAMPLES);
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
  uint8_t plain[2][3]; // nearly all pixels are one of the two
  for (int c = 0; c < 3; c++) plain[0][c] = (uint8_t)(ground[c] + 0.5), plain[1][c] = (uint8_t)(ground[c] + (ink[c] - ground[c]) + 0.5);
  for (int i = 0; i < side * side; i++) {
    double part = (double)coverage[i];
    for (int c = 0; c < channels; c++)
      *out++ = part == 0 ? plain[0][c] : part == 1 ? plain[1][c] : (uint8_t)(ground[c] + part * (ink[c] - ground[c]) + 0.5);
  }
}

// --- the data set ----------------------------------------------------------------------------------------------------------------

typedef struct shapes_config {
  int64_t size, channels, train, valid, test, seed;
  double rotation;
} shapes_config;

static const config_field SHAPES_FIELDS[] = {
    CONFIG_INT(shapes_config, size, 16, 1024, "64", "pixels", "side of a picture"),
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
  if (config.size < 16 || config.size > 1024)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "shapes: size %lld; expected 16 to 1024", (long long)config.size);
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
