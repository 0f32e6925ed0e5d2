#include "models/tiled_decode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "graph/store.h"
#include "nn/akl_bands.h"

// A whole map (h,w,c), in pages of its own that can be given back one by one.
typedef struct band_map {
  int64_t h, w, c;
  float *at;
  size_t bytes;
  double *sum, *square; // (c) over all of it
} band_map;

typedef struct decoding {
  elbo_model *m;
  const akl_config *config;
  int64_t rows; // of the code under a band
  bool dry;     // only what it would take is wanted
  int64_t bytes, most;
  band_map map, next;
  float *picture; // (H,W,C) of the present one
  const elbo_decode_config *report;
  int64_t done, total; // bands
} decoding;

static void took(decoding *d, int64_t bytes) {
  d->bytes += bytes;
  if (d->bytes > d->most) d->most = d->bytes;
}

// --- maps ---

static elbo_status map_create(decoding *d, int64_t h, int64_t w, int64_t c, band_map *out) {
  *out = (band_map){.h = h, .w = w, .c = c, .bytes = (size_t)(h * w * c) * sizeof(float)};
  took(d, (int64_t)out->bytes);
  if (d->dry) return ELBO_OK;
  void *pages = mmap(NULL, out->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *sums;
  if (pages == MAP_FAILED) return fail_memory(d->m->ctx, out->bytes, "a map of a decoder");
  out->at = pages;
  TRY(array_new(d->m->ctx, (size_t)(2 * c), sizeof(double), "sums of a map", &sums));
  out->sum = sums, out->square = out->sum + c;
  return ELBO_OK;
}

static void map_destroy(decoding *d, band_map *map) {
  d->bytes -= (int64_t)map->bytes;
  if (map->at) munmap(map->at, map->bytes);
  free(map->sum);
  *map = (band_map){0};
}

// Rows before `row` are not read again.
static void map_release(band_map *map, int64_t row) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), end = (size_t)(row * map->w * map->c) * sizeof(float) / page * page;
  if (row > 0 && end > 0) (void)madvise(map->at, end < map->bytes ? end : map->bytes, MADV_DONTNEED);
}

static void map_forget_sums(band_map *map) { memset(map->sum, 0, 2 * (size_t)map->c * sizeof *map->sum); }

static void add_sums(const float *x, int64_t places, int64_t c, double *sum, double *square) {
  for (int64_t i = 0; i < places; i++, x += c)
    for (int64_t k = 0; k < c; k++) sum[k] += x[k], square[k] += (double)x[k] * x[k];
}

// --- norms ---

// scale and shift of each channel: weight (x - mean) / deviation + bias, mean and deviation of the channel's group
static elbo_status norm_factors(const decoding *d, const char *norm, int64_t c, double places, const double *sum, const double *square,
                                float *scale, float *shift) {
  char name[160];
  elbo_param_info weight, bias;
  snprintf(name, sizeof name, "%s.weight", norm);
  TRY(elbo_store_find(d->m->store, name, &weight));
  snprintf(name, sizeof name, "%s.bias", norm);
  TRY(elbo_store_find(d->m->store, name, &bias));
  const int64_t groups = d->config->norm_num_groups, each = c / groups;
  for (int64_t g = 0; g < groups; g++) {
    double mean = 0, mean_square = 0;
    for (int64_t k = g * each; k < (g + 1) * each; k++)
      mean += sum[k] / (places * (double)each), mean_square += square[k] / (places * (double)each);
    const double variance = fmax(mean_square - mean * mean, 0), inverse = 1 / sqrt(variance + AKL_NORM_EPS);
    for (int64_t k = g * each; k < (g + 1) * each; k++) {
      scale[k] = (float)(weight.data[k] * inverse);
      shift[k] = (float)(bias.data[k] - mean * inverse * weight.data[k]);
    }
  }
  return ELBO_OK;
}

// --- a walk over a map ---

typedef struct walk {
  decoding *d;
  akl_band band;
  band_map *from, *to; // the same map in place; to NULL: only the sums are wanted
  float *kept;         // rows of `from` that the band before has written over
  double *sum, *square;
  session session;
} walk;

static elbo_status open_walk(walk *w) {
  elbo_graph *g = NULL;
  elbo_plan_info info;
  TRY(elbo_graph_create(w->d->m->ctx, "band", &g));
  elbo_tensor *y = akl_band_graph(&w->band, g);
  TRY(session_create_lean(w->d->m->ctx, g, w->d->m->store, y, &w->session));
  elbo_plan_get_info(w->session.plan, &info);
  took(w->d, info.arena_bytes + info.packed_bytes);
  return ELBO_OK;
}

static void close_walk(walk *w) {
  elbo_plan_info info;
  if (!w->session.plan) return;
  elbo_plan_get_info(w->session.plan, &info);
  w->d->bytes -= info.arena_bytes + info.packed_bytes;
  session_destroy(&w->session);
}

// `sums`: of what each norm in front of scale1 and scale2 sees, NULL: there is no such norm
static elbo_status set_norms(walk *w, double *const sums[2]) {
  for (int i = 1; i <= 2; i++) {
    char norm[128], name[16];
    if (!*akl_band_norm(&w->band, i, norm, sizeof norm)) continue;
    const int64_t c = i == 1 ? akl_band_in_channels(&w->band) : akl_band_out_channels(&w->band);
    const double places = (double)(w->from->h * (akl_band_upsamples(&w->band) ? 2 : 1) * w->band.width);
    snprintf(name, sizeof name, "scale%d", i);
    float *scale = elbo_plan_input(w->session.plan, name);
    snprintf(name, sizeof name, "shift%d", i);
    float *shift = elbo_plan_input(w->session.plan, name);
    TRY(norm_factors(w->d, norm, c, places, sums[i - 1], sums[i - 1] + c, scale, shift));
  }
  return ELBO_OK;
}

// Rows [first, first + n) of `from` as they were, zeros beyond its ends
static void read_rows(const walk *w, int64_t first, int64_t n, int64_t written, int64_t kept, float *to) {
  const band_map *m = w->from;
  const size_t row = (size_t)(m->w * m->c);
  for (int64_t i = 0; i < n; i++, to += row) {
    const int64_t r = first + i;
    const float *at = m->at + (size_t)(r < 0 ? 0 : r) * row;
    if (w->from == w->to && r >= 0 && r < written) at = w->kept + (size_t)(r - (written - kept)) * row;
    if (r < 0 || r >= m->h)
      memset(to, 0, row * sizeof *to);
    else
      memcpy(to, at, row * sizeof *to);
  }
}

// The inputs that say which rows are there; `first` is the band's, of `height` rows of the level.
static void set_inside(const walk *w, int64_t first, int64_t height) {
  for (int i = 0; i < 3; i++) {
    char name[16];
    const int64_t halo = akl_band_inside_halo(&w->band, i);
    snprintf(name, sizeof name, "inside%d", i);
    float *to = halo < 0 ? NULL : elbo_plan_input(w->session.plan, name);
    for (int64_t r = 0; to && r < w->band.rows + 2 * halo; r++) {
      const int64_t at = first - halo + r;
      to[r] = at >= 0 && at < height;
    }
  }
}

static elbo_status report(decoding *d) {
  d->done++;
  if (!d->report || !d->report->progress || d->report->progress(d->report->progress_user, "decode", d->done, d->total, "")) return ELBO_OK;
  return fail(d->m->ctx, ELBO_ERROR_STOPPED, "decode: stopped");
}

// All bands of the level. What comes out goes to `to`, or to the picture, or nowhere; sums of it to sum and square where they are wanted.
static elbo_status run_walk(walk *w) {
  decoding *d = w->d;
  const akl_band *b = &w->band;
  const int64_t up = akl_band_upsamples(b) ? 2 : 1, height = w->from->h * up, halo = akl_band_halo(b), c = akl_band_out_channels(b),
                rows_in = b->rows / up + 2 * halo;
  const size_t row_in = (size_t)(w->from->w * w->from->c), row_out = (size_t)(b->width * c);
  float *x = elbo_plan_input(w->session.plan, "x");
  for (int64_t first = 0; first < height; first += b->rows) {
    const int64_t count = height - first < b->rows ? height - first : b->rows;
    read_rows(w, first / up - halo, rows_in, w->from == w->to ? first : 0, halo, x);
    set_inside(w, first, height);
    if (w->from == w->to) // as they are now, for the band below
      for (int64_t i = 0; i < halo; i++) {
        const int64_t r = first + b->rows - halo + i; // before the first row where the band is lower than its halo
        if (r >= 0 && r < height) memcpy(w->kept + (size_t)i * row_in, w->from->at + (size_t)r * row_in, row_in * sizeof(float));
      }
    TRY(elbo_plan_run(w->session.plan, d->m->store));
    const float *y = elbo_plan_output(w->session.plan, 0);
    if (w->sum) add_sums(y, count * b->width, c, w->sum, w->square);
    if (w->to) memcpy(w->to->at + (size_t)first * row_out, y, (size_t)count * row_out * sizeof(float));
    if (b->part == BAND_LAST) memcpy(d->picture + (size_t)first * row_out, y, (size_t)count * row_out * sizeof(float));
    if (w->to && w->from != w->to) map_release(w->from, (first + b->rows) / up - halo);
    if (b->part == BAND_LAST) map_release(w->from, first + b->rows - halo);
    TRY(report(d));
  }
  return ELBO_OK;
}

// One walk from beginning to end; sums: of norm 1 and norm 2; found: (2 channels) sums of what comes out, NULL: not wanted.
static elbo_status walk_over(decoding *d, const akl_band *band, band_map *from, band_map *to, double *const sums[2], double *found) {
  walk w = {.d = d, .band = *band, .from = from, .to = to, .sum = found};
  elbo_status status;
  const int64_t c = akl_band_out_channels(band);
  if (found) w.square = found + c;
  TRY_GOTO(open_walk(&w));
  if (!d->dry) {
    if (found) memset(found, 0, 2 * (size_t)c * sizeof *found);
    if (from == to)
      TRY_GOTO(array_new(d->m->ctx, (size_t)(akl_band_halo(band) * from->w * from->c), sizeof(float), "rows", (void **)&w.kept));
    TRY_GOTO(set_norms(&w, sums));
    TRY_GOTO(run_walk(&w));
  }
  status = ELBO_OK;
fail:
  close_walk(&w);
  free(w.kept);
  return status;
}

// --- the decoder ---

static elbo_status run_middle(decoding *d, const float *code, int64_t h, int64_t w) {
  session s = {0};
  elbo_graph *g = NULL;
  elbo_plan_info info;
  elbo_status status;
  const int64_t c = d->config->latent_channels, width = d->config->block_out_channels.at[d->config->block_out_channels.count - 1];
  TRY(elbo_graph_create(d->m->ctx, "middle", &g));
  elbo_tensor *y = kl_decoder_start(d->config, elbo_input(g, "codes", ELBO_F32, 4, (int64_t[]){1, h, w, c}));
  TRY(session_create_lean(d->m->ctx, g, d->m->store, y, &s));
  elbo_plan_get_info(s.plan, &info);
  took(d, info.arena_bytes + info.packed_bytes);
  TRY_GOTO(map_create(d, h, w, width, &d->map));
  if (!d->dry) {
    TRY_GOTO(session_run(&s, &(session_rows){.codes = code}, 0, 1));
    memcpy(d->map.at, session_output(&s, 0), d->map.bytes);
    map_forget_sums(&d->map);
    add_sums(d->map.at, h * w, width, d->map.sum, d->map.square);
  }
fail:
  session_destroy(&s);
  d->bytes -= info.arena_bytes + info.packed_bytes;
  return status;
}

// A residual block of level `level`; what it gives is d->map, with its sums.
static elbo_status run_block(decoding *d, int64_t level, int64_t block, int64_t h, int64_t w) {
  akl_band b = {.config = d->config, .level = level, .block = block, .rows = d->rows << level, .width = w};
  b.part = BAND_BLOCK;
  const int64_t in = akl_band_in_channels(&b), out = akl_band_out_channels(&b);
  double *first = NULL, *second = NULL;
  elbo_status status;
  const bool in_place = !akl_band_upsamples(&b) && in == out;
  TRY_GOTO(array_new(d->m->ctx, (size_t)(2 * in), sizeof *first, "sums", (void **)&first));
  TRY_GOTO(array_new(d->m->ctx, (size_t)(2 * out), sizeof *second, "sums", (void **)&second));
  double *sums[2] = {d->map.sum, second};
  if (akl_band_upsamples(&b)) {
    b.part = BAND_UP, sums[0] = first;
    TRY_GOTO(walk_over(d, &b, &d->map, NULL, sums, first));
  }
  b.part = BAND_FIRST;
  TRY_GOTO(walk_over(d, &b, &d->map, NULL, sums, second));
  if (!in_place) TRY_GOTO(map_create(d, h, w, out, &d->next));
  if (in_place && !d->dry) { // the sums of what is there are read before those of what comes are made
    memcpy(first, d->map.sum, 2 * (size_t)in * sizeof *first);
    sums[0] = first;
  }
  band_map *to = in_place ? &d->map : &d->next;
  b.part = BAND_BLOCK;
  TRY_GOTO(walk_over(d, &b, &d->map, to, sums, to->sum));
  if (!in_place) {
    map_destroy(d, &d->map);
    d->map = d->next, d->next = (band_map){0};
  }
fail:
  free(first), free(second);
  return status;
}

static elbo_status decode_one(decoding *d, const float *code, int64_t h, int64_t w) {
  const int64_t levels = d->config->block_out_channels.count;
  TRY(run_middle(d, code, h, w));
  for (int64_t i = 0; i < levels; i++)
    for (int64_t j = 0; j <= d->config->layers_per_block; j++) TRY(run_block(d, i, j, h << i, w << i));
  akl_band last = {
      .config = d->config, .part = BAND_LAST, .level = levels - 1, .rows = d->rows << (levels - 1), .width = w << (levels - 1)};
  double *sums[2] = {d->map.sum, NULL};
  return walk_over(d, &last, &d->map, NULL, sums, NULL);
}

static void end_decoding(decoding *d) {
  map_destroy(d, &d->map);
  map_destroy(d, &d->next);
}

elbo_status tiled_decode_check(const elbo_model *m, const char *what) {
  const codec_config *c = m->autoencoder;
  if (c->network != CODEC_KL)
    return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "%s: only an AutoencoderKL is decoded in parts, not this %s", what, codec_class_name(c));
  for (int64_t i = 0; i < c->kl.up_block_types.count; i++)
    if (strncmp(c->kl.up_block_types.at[i], "Attn", 4) == 0)
      return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "%s: %s attends to its whole map: this autoencoder is decoded whole", what,
                  c->kl.up_block_types.at[i]);
  return ELBO_OK;
}

static elbo_status whole_bytes(elbo_model *m, int64_t h, int64_t w, int64_t *bytes) {
  session s = {0};
  elbo_graph *g = NULL;
  elbo_plan_info info;
  TRY(elbo_graph_create(m->ctx, "decoder", &g));
  elbo_tensor *codes = elbo_input(g, "codes", ELBO_F32, 4, (int64_t[]){1, h, w, codec_config_shape(m->autoencoder).code_channels}),
              *y = NULL;
  y = codec_decode(m->autoencoder, codes);
  TRY(session_create(m->ctx, g, m->store, 1, 1, &y, &s));
  elbo_plan_get_info(s.plan, &info);
  *bytes = info.arena_bytes + info.packed_bytes;
  session_destroy(&s);
  return ELBO_OK;
}

elbo_status tiled_decode_bytes(elbo_model *m, int64_t n, int64_t h, int64_t w, int64_t rows, int64_t *bytes) {
  const codec_shape s = codec_config_shape(m->autoencoder);
  const int64_t pictures = n * h * w * s.up * s.up * s.out_channels * (int64_t)sizeof(float);
  decoding d = {.m = m, .config = &m->autoencoder->kl, .rows = rows, .dry = true};
  *bytes = 0;
  elbo_status status = rows ? decode_one(&d, NULL, h, w) : whole_bytes(m, h, w, &d.most);
  end_decoding(&d);
  *bytes = d.most + pictures;
  return status;
}

elbo_status tiled_decode(elbo_model *m, const elbo_array *codes, int64_t rows, const elbo_decode_config *config, elbo_array **out) {
  const codec_shape s = codec_config_shape(m->autoencoder);
  const int64_t n = codes->dim[0], h = codes->dim[1], w = codes->dim[2], blocks = m->autoencoder->kl.layers_per_block + 1;
  *out = NULL;
  TRY(elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){n, h * s.up, w * s.up, s.out_channels}, out));
  decoding d = {.m = m, .config = &m->autoencoder->kl, .rows = rows, .report = config};
  d.total = n * ((h + rows - 1) / rows) * (s.levels * (2 * blocks + 1));
  elbo_status status = ELBO_OK;
  for (int64_t i = 0; i < n && status == ELBO_OK; i++) {
    d.picture = (float *)(*out)->data + i * (elbo_array_count(*out) / n);
    status = decode_one(&d, (const float *)codes->data + i * h * w * s.code_channels, h, w);
    end_decoding(&d);
  }
  if (status != ELBO_OK) elbo_array_destroy(out);
  return status;
}
