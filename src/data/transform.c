// From the stored form of an example to what a model sees: window, mirror, grey level, then binarised or dequantised.
#include <string.h>

#include "core/philox.h"
#include "data/dataset.h"
#include "data/draws.h"

void dataset_output_shape(const elbo_dataset *ds, int *height, int *width, int *channels) {
  *height = ds->config.crop ? (int)ds->config.crop : ds->height;
  *width = ds->config.crop ? (int)ds->config.crop : ds->width;
  *channels = ds->channels;
}

// `n` values from element `from` of the stored example: integers keep their value unless unit, which brings them to 0..1.
static void load_values(const elbo_dataset *ds, const void *stored, size_t from, int n, bool unit, float *out) {
  if (ds->dtype == ELBO_U8) {
    const uint8_t *v = (const uint8_t *)stored + from;
    for (int i = 0; i < n; i++) out[i] = unit ? ds->unit_of_byte[v[i]] : (float)v[i];
  } else if (ds->dtype == ELBO_U16) {
    const uint16_t *v = (const uint16_t *)stored + from;
    float top = unit ? 65535.0f : 1.0f;
    for (int i = 0; i < n; i++) out[i] = (float)v[i] / top;
  } else {
    memcpy(out, (const float *)stored + from, (size_t)n * sizeof *out);
  }
}

static void mirror_row(float *row, int width, int channels) {
  for (int a = 0, b = width - 1; a < b; a++, b--)
    for (int c = 0; c < channels; c++) {
      float t = row[a * channels + c];
      row[a * channels + c] = row[b * channels + c], row[b * channels + c] = t;
    }
}

// (v + u) / levels; the last step keeps the value below 1 where float32 would round it up.
static void dequantize(const draw_kernels *draws, uint64_t seed, uint32_t stream, uint64_t sample, double levels, int64_t n, float *x) {
  enum { BLOCKS = 64 };
  uint32_t bits[4 * BLOCKS];
  for (int64_t i = 0; i < n; i += 4 * BLOCKS) {
    draws->words(seed, stream, sample, (uint32_t)(i / 4), BLOCKS, bits);
    for (int64_t j = 0; j < 4 * BLOCKS && i + j < n; j++) {
      float v = (float)(((double)x[i + j] + philox_uniform(bits[j])) / levels);
      x[i + j] = v < 1.0f ? v : 0x1.fffffep-1f;
    }
  }
}

// The draws of `binarize`: a function of the position in the stream (dynamic), or of the example alone.
static void binarize_draws(const elbo_dataset *ds, const transform_draw *draw, uint64_t *seed, uint32_t *stream, uint64_t *sample) {
  bool dynamic = ds->config.binarize == BINARIZE_DYNAMIC && draw->augment, fixed = ds->config.binarize == BINARIZE_FIXED && draw->augment;
  *seed = fixed ? (uint64_t)ds->config.seed : draw->seed;
  *stream = philox_stream(dynamic ? "binarize" : "binarize_once");
  *sample = (uint64_t)(dynamic ? draw->position : draw->index);
}

extern const draw_kernels draws_cpu_base, draws_cpu_v3, draws_cpu_v4;

const draw_kernels *draw_kernels_of(isa_level isa) {
#ifdef ELBO_HAVE_X86_VARIANTS
  if (isa == ISA_V4) return &draws_cpu_v4;
  if (isa == ISA_V3) return &draws_cpu_v3;
#endif
  (void)isa;
  return &draws_cpu_base;
}

void transform_example(const elbo_dataset *ds, const void *stored, const transform_draw *draw, bool raw, float *out) {
  const data_config *o = &ds->config;
  const draw_kernels *draws = draw_kernels_of(ds->ctx->isa);
  int height, width, channels, top = 0, left = 0;
  uint64_t seed, sample;
  uint32_t stream;
  dataset_output_shape(ds, &height, &width, &channels);
  if (!raw && o->binarize != BINARIZE_NONE && ds->dtype == ELBO_U8 && !o->crop && !o->flip) {
    binarize_draws(ds, draw, &seed, &stream, &sample);
    draws->binarize_bytes(seed, stream, sample, (int64_t)height * width * channels, stored, out);
    return;
  }
  bool mirror = false, unit = raw || o->dequantize == DEQUANTIZE_NONE;
  if (o->crop || o->flip) {
    int free_y = ds->height + 2 * (int)o->pad - height, free_x = ds->width + 2 * (int)o->pad - width;
    if (!o->crop) free_y = free_x = 0;
    uint32_t bits[4];
    philox_draw(draw->seed, philox_stream("augment"), (uint64_t)draw->position, 0, bits);
    top = draw->augment ? (int)(((uint64_t)bits[0] * (uint64_t)(free_y + 1)) >> 32) : free_y / 2;
    left = draw->augment ? (int)(((uint64_t)bits[1] * (uint64_t)(free_x + 1)) >> 32) : free_x / 2;
    if (o->crop) top -= (int)o->pad, left -= (int)o->pad;
    mirror = draw->augment && o->flip && bits[2] >> 31;
  }
  size_t row = (size_t)width * (size_t)channels;
  for (int y = 0; y < height; y++) {
    float *to = out + (size_t)y * row;
    int from = y + top, first = left < 0 ? -left : 0, last = ds->width - left < width ? ds->width - left : width;
    if (from < 0 || from >= ds->height || last <= first) {
      memset(to, 0, row * sizeof *to);
      continue;
    }
    memset(to, 0, (size_t)(first * channels) * sizeof *to);
    memset(to + last * channels, 0, (size_t)((width - last) * channels) * sizeof *to);
    size_t at = ((size_t)from * (size_t)ds->width + (size_t)(left + first)) * (size_t)channels;
    load_values(ds, stored, at, (last - first) * channels, unit, to + first * channels);
    if (mirror) mirror_row(to, width, channels);
  }
  if (raw) return;
  int64_t n = (int64_t)row * height;
  uint64_t place = (uint64_t)(draw->augment ? draw->position : draw->index);
  if (o->binarize != BINARIZE_NONE) {
    binarize_draws(ds, draw, &seed, &stream, &sample);
    draws->binarize(seed, stream, sample, n, out);
  }
  if (o->dequantize == DEQUANTIZE_UNIFORM)
    dequantize(draws, draw->seed, philox_stream(draw->augment ? "dequantize" : "dequantize_once"), place,
               ds->dtype == ELBO_U8 ? 256.0 : 65536.0, n, out);
}
