// Two-dimensional densities whose log-likelihood is known: what a model of them reaches can be told from what is possible.
//
//   rings         circles of radius 1, 2, 3, chosen in proportion to their length; the radius is normal with deviation `width`, the angle
//   uniform spirals       two arms c(t) = 3 t / T (cos t, sin t), t in [0, T], T = 3 pi, half a turn apart, t with density 2 t / T^2; plus
//   normal noise of
//                 deviation `width` in both directions
//   checkerboard  uniform on the eight dark unit squares of a board of 4 x 4 centred on 0
//   gaussians8    eight normal distributions of deviation `width` on a circle of radius 2
#include <elbo/dataset.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/philox.h"
#include "data/dataset.h"

static const double PI = 3.14159265358979323846;

typedef struct density_config {
  int64_t train, valid, test, seed;
  double width;
} density_config;

#define DENSITY_FIELDS(NAME, WIDTH)                                                                      \
  static const config_field NAME[] = {                                                                   \
      CONFIG_INT(density_config, train, 1, 1e9, "50000", "examples", "training points"),                 \
      CONFIG_INT(density_config, valid, 0, 1e9, "5000", "examples", "validation points"),                \
      CONFIG_INT(density_config, test, 0, 1e9, "10000", "examples", "test points"),                      \
      CONFIG_INT(density_config, seed, 0, 9e18, "0", "", "of all points"),                               \
      CONFIG_FLOAT(density_config, width, 0.01, 0.3, WIDTH, "", "standard deviation across the figure"), \
  }
DENSITY_FIELDS(RINGS_FIELDS, "0.1");
DENSITY_FIELDS(SPIRALS_FIELDS, "0.1");
DENSITY_FIELDS(GAUSSIANS8_FIELDS, "0.2");
DENSITY_FIELDS(CHECKERBOARD_FIELDS, "0.1"); // width has no meaning there

// The four uniform numbers of one draw; u[0] and u[1] are above 0.
typedef struct draw4 {
  uint32_t bits[4];
} draw4;

static void rings_sample(double width, draw4 d, double x[2]) {
  double pick = 6 * philox_uniform(d.bits[0]), normal[2], angle = 2 * PI * philox_uniform(d.bits[1]);
  philox_normal2(d.bits[2], d.bits[3], normal);
  double r = fabs((pick < 1 ? 1 : pick < 3 ? 2 : 3) + width * normal[0]); // folded at 0; rings_log_prob counts both sides
  x[0] = r * cos(angle), x[1] = r * sin(angle);
}

static double log_add(double a, double b) {
  double top = a > b ? a : b;
  return top == -INFINITY ? top : top + log(exp(a - top) + exp(b - top));
}

static double log_normal(double x, double deviation) {
  return -0.5 * (x / deviation) * (x / deviation) - log(deviation) - 0.5 * log(2 * PI);
}

// p(x) = sum_k k/6 (N(r; k, w) + N(-r; k, w)) / (2 pi r)
static double rings_log_prob(double width, const double x[2]) {
  double r = sqrt(x[0] * x[0] + x[1] * x[1]), sum = -INFINITY;
  if (r < 1e-300) r = 1e-300;
  for (int k = 1; k <= 3; k++) {
    double both = log_add(log_normal(r - k, width), log_normal(-r - k, width));
    sum = log_add(sum, log(k / 6.0) + both);
  }
  return sum - log(2 * PI * r);
}

#define SPIRAL_END (3 * PI)
#define SPIRAL_RADIUS 3.0

static void spirals_sample(double width, draw4 d, double x[2]) {
  double t = SPIRAL_END * sqrt(philox_uniform(d.bits[0])), arm = d.bits[1] >> 31 ? PI : 0, normal[2], r = SPIRAL_RADIUS * t / SPIRAL_END;
  philox_normal2(d.bits[2], d.bits[3], normal);
  x[0] = r * cos(t + arm) + width * normal[0], x[1] = r * sin(t + arm) + width * normal[1];
}

// The integral over t by 8-point Gauss-Legendre panels, each short against the width: exact to rounding.
static double spirals_log_prob(double width, const double x[2]) {
  static const double NODE[4] = {0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363};
  static const double WEIGHT[4] = {0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763};
  int panels = (int)ceil(SPIRAL_END * SPIRAL_RADIUS / (2 * width)) + 8; // at most two widths of curve each
  double half = SPIRAL_END / panels / 2, sum = -INFINITY;
  for (int p = 0; p < panels; p++)
    for (int k = 0; k < 8; k++) {
      double t = half * (2 * p + 1 + (k & 1 ? NODE[k / 2] : -NODE[k / 2])), r = SPIRAL_RADIUS * t / SPIRAL_END;
      double weight = log(half * WEIGHT[k / 2] * 2 * t / (SPIRAL_END * SPIRAL_END)) - log(2 * PI * width * width) - log(2.0);
      for (int arm = -1; arm <= 1; arm += 2) {
        double dx = x[0] - arm * r * cos(t), dy = x[1] - arm * r * sin(t);
        double term = weight - 0.5 * (dx * dx + dy * dy) / (width * width);
        if (term > sum - 60) sum = log_add(sum, term); // what is left out is below the rounding of what is there
      }
    }
  return sum;
}

static void checkerboard_sample(double width, draw4 d, double x[2]) {
  (void)width;
  int cell = (int)(d.bits[0] >> 29), row = cell / 2, column = 2 * (cell % 2) + row % 2;
  x[0] = column - 2 + philox_uniform(d.bits[1]), x[1] = row - 2 + philox_uniform(d.bits[2]);
}

static double checkerboard_log_prob(double width, const double x[2]) {
  (void)width;
  double column = floor(x[0]), row = floor(x[1]);
  if (!(column >= -2 && column < 2 && row >= -2 && row < 2)) return -INFINITY;
  return ((int)column + (int)row) % 2 == 0 ? -log(8.0) : -INFINITY;
}

static void gaussians8_sample(double width, draw4 d, double x[2]) {
  double angle = 2 * PI * (double)(d.bits[0] >> 29) / 8, normal[2];
  philox_normal2(d.bits[2], d.bits[3], normal);
  x[0] = 2 * cos(angle) + width * normal[0], x[1] = 2 * sin(angle) + width * normal[1];
}

static double gaussians8_log_prob(double width, const double x[2]) {
  double sum = -INFINITY;
  for (int k = 0; k < 8; k++) {
    double angle = 2 * PI * k / 8;
    sum = log_add(sum, log_normal(x[0] - 2 * cos(angle), width) + log_normal(x[1] - 2 * sin(angle), width) - log(8.0));
  }
  return sum;
}

static const struct density {
  const char *name;
  void (*sample)(double width, draw4 d, double x[2]);
  double (*log_prob)(double width, const double x[2]);
  config_table table;
} DENSITIES[] = {
    {"rings", rings_sample, rings_log_prob, CONFIG_TABLE("rings", density_config, RINGS_FIELDS, "three rings")},
    {"spirals", spirals_sample, spirals_log_prob, CONFIG_TABLE("spirals", density_config, SPIRALS_FIELDS, "two spirals")},
    {"checkerboard", checkerboard_sample, checkerboard_log_prob,
     CONFIG_TABLE("checkerboard", density_config, CHECKERBOARD_FIELDS, "a board of 4 x 4")},
    {"gaussians8", gaussians8_sample, gaussians8_log_prob, CONFIG_TABLE("gaussians8", density_config, GAUSSIANS8_FIELDS, "eight bumps")},
};

static const struct density *find_density(const char *name) {
  for (size_t i = 0; i < sizeof DENSITIES / sizeof DENSITIES[0]; i++)
    if (!strcmp(DENSITIES[i].name, name)) return &DENSITIES[i];
  return NULL;
}

bool density_known(const char *name) { return find_density(name) != NULL; }

static elbo_status load_config(elbo_ctx *ctx, const struct density *d, int n, const char *const *options, density_config *out) {
  arena *a = arena_create(1024);
  if (!a) return fail_memory(ctx, 1024, d->name);
  elbo_status status = config_load_options(ctx, a, &d->table, n, options, out);
  arena_destroy(&a);
  return status;
}

static void fill_points(const struct density *d, double width, uint64_t seed, uint32_t stream, int64_t n, float *out) {
  for (int64_t i = 0; i < n; i++) {
    draw4 draw;
    double x[2];
    philox_draw(seed, stream, (uint64_t)i, 0, draw.bits);
    d->sample(width, draw, x);
    out[2 * i] = (float)x[0], out[2 * i + 1] = (float)x[1];
  }
}

elbo_status densities_open(elbo_dataset *ds, const char *name, int n_options, const char *const *options) {
  static const char *const STREAMS[3] = {"density.train", "density.valid", "density.test"};
  const struct density *d = find_density(name);
  density_config config;
  TRY(load_config(ds->ctx, d, n_options, options, &config));
  if (ds->config.holdout > 0) config.valid = ds->config.holdout; // drawn, not taken away from the training set
  ds->config.holdout = -1;
  ds->format = d->name, ds->dtype = ELBO_F32;
  ds->height = ds->width = 1, ds->channels = 2;
  const int64_t counts[3] = {config.train, config.valid, config.test};
  for (int s = 0; s < 3; s++) {
    if (!counts[s]) continue;
    TRY(array_new(ds->ctx, (size_t)counts[s], 2 * sizeof(float), d->name, &ds->part[s].pixels));
    ds->part[s].count = counts[s];
    fill_points(d, config.width, (uint64_t)config.seed, philox_stream(STREAMS[s]), counts[s], ds->part[s].pixels);
  }
  return ELBO_OK;
}

static elbo_status parse_spec(elbo_ctx *ctx, const char *spec, const struct density **out, density_config *config) {
  char copy[512];
  const char *options[32];
  int n = 0;
  if (strlen(spec) >= sizeof copy) return fail(ctx, ELBO_ERROR_ARGUMENT, "density: the name is too long");
  snprintf(copy, sizeof copy, "%s", spec);
  for (char *p = strpbrk(copy, ":,"); p && n < 32; p = strpbrk(p, ":,")) {
    *p++ = 0;
    if (*p) options[n++] = p;
  }
  *out = find_density(copy);
  if (!*out) return fail(ctx, ELBO_ERROR_ARGUMENT, "density '%s'; expected rings, spirals, checkerboard or gaussians8", copy);
  return load_config(ctx, *out, n, options, config);
}

elbo_status elbo_density_sample(elbo_ctx *ctx, const char *spec, int64_t n, uint64_t seed, elbo_array **x) {
  const struct density *d;
  density_config config;
  *x = NULL;
  TRY(parse_spec(ctx, spec, &d, &config));
  TRY(elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){n, 2}, x));
  fill_points(d, config.width, seed, philox_stream("density.sample"), n, (*x)->data);
  return ELBO_OK;
}

elbo_status elbo_density_log_prob(elbo_ctx *ctx, const char *spec, const elbo_array *x, elbo_array **log_prob) {
  const struct density *d;
  density_config config;
  *log_prob = NULL;
  TRY(parse_spec(ctx, spec, &d, &config));
  int64_t n = x->rank ? x->dim[0] : 0;
  if (x->rank < 2 || elbo_array_count(x) != 2 * n || x->dtype != ELBO_F32)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: log p of points (n,2) float32", d->name);
  TRY(elbo_array_create(ctx, ELBO_F64, 1, &n, log_prob));
  for (int64_t i = 0; i < n; i++) {
    const float *p = (const float *)x->data + 2 * i;
    ((double *)(*log_prob)->data)[i] = d->log_prob(config.width, (const double[2]){(double)p[0], (double)p[1]});
  }
  return ELBO_OK;
}
