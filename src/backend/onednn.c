#include "backend/onednn.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

// --- the library, opened once ---------------------------------------------------------------------------------------------------------

// The formatter cannot make up its mind about these.
// clang-format off
#if DNNL_VERSION_MAJOR >= 3
#define VERSIONED(F) \
  F(memory_desc_create_with_tag) F(memory_desc_destroy) F(convolution_forward_primitive_desc_create) \
  F(convolution_backward_data_primitive_desc_create) F(convolution_backward_weights_primitive_desc_create)
#else
#define VERSIONED(F) \
  F(memory_desc_init_by_tag) F(dilated_convolution_forward_desc_init) F(dilated_convolution_backward_data_desc_init) \
  F(dilated_convolution_backward_weights_desc_init) F(primitive_desc_create)
#endif
#define FUNCTIONS(F) \
  VERSIONED(F) F(version) F(engine_create) F(engine_destroy) F(stream_create) F(stream_destroy) F(stream_wait) F(memory_create) \
  F(memory_destroy) F(memory_set_data_handle) F(memory_desc_equal) F(memory_desc_get_size) F(primitive_attr_create) \
  F(primitive_attr_destroy) F(primitive_attr_set_scratchpad_mode) F(primitive_desc_destroy) F(primitive_desc_query) \
  F(primitive_desc_query_md) F(primitive_create) F(primitive_execute) F(primitive_destroy) F(reorder_primitive_desc_create)
// clang-format on

// Addresses of code, the same for every context; written once.
static struct {
#define DECLARE(name) __typeof__(&dnnl_##name) name;
  FUNCTIONS(DECLARE)
  char version_text[32];
  bool open;
} dnnl;

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)
static const char library_name[] = "libdnnl.so." TEXT(DNNL_VERSION_MAJOR);

static void open_library(void) {
  void *library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
  if (!library) return;
  bool complete = true;
#define LOOK_UP(name)                                                                   \
  {                                                                                     \
    void *found = dlsym(library, "dnnl_" #name);                                        \
    memcpy(&dnnl.name, &found, sizeof found); /* ISO C has no cast from data to code */ \
    complete = complete && found;                                                       \
  }
  FUNCTIONS(LOOK_UP)
  if (!complete || dnnl.version()->major != DNNL_VERSION_MAJOR) {
    dlclose(library);
    return;
  }
  snprintf(dnnl.version_text, sizeof dnnl.version_text, "%d.%d.%d", dnnl.version()->major, dnnl.version()->minor, dnnl.version()->patch);
  dnnl.open = true; // and never closed: libgomp's threads may be inside
}

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
// gcc 12's leak checker follows the thread-local data of libraries that are opened late to where they are not, and crashes at exit; this
// turns that following off. The sanitizer asks the program for it by name.
ELBO_API const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "intercept_tls_get_addr=0"; }
#endif

const char *onednn_version(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, open_library);
  return dnnl.open ? dnnl.version_text : NULL;
}

// --- what differs between the versions ---------------------------------------------------------------------------------------------------

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t layout_ref;
static layout_ref ref(const dnnl_memory_desc_t *d) { return *d; }
static dnnl_status_t layout_create(dnnl_memory_desc_t *d, int rank, const dnnl_dims_t dims, bool bf16, dnnl_format_tag_t tag) {
  return dnnl.memory_desc_create_with_tag(d, rank, dims, bf16 ? dnnl_bf16 : dnnl_f32, tag);
}
static void layout_destroy(dnnl_memory_desc_t *d) {
  if (*d) dnnl.memory_desc_destroy(*d);
  *d = NULL;
}
#else
typedef const dnnl_memory_desc_t *layout_ref;
static layout_ref ref(const dnnl_memory_desc_t *d) { return d; }
static dnnl_status_t layout_create(dnnl_memory_desc_t *d, int rank, const dnnl_dims_t dims, bool bf16, dnnl_format_tag_t tag) {
  return dnnl.memory_desc_init_by_tag(d, rank, dims, bf16 ? dnnl_bf16 : dnnl_f32, tag);
}
static void layout_destroy(dnnl_memory_desc_t *d) { (void)d; }
#endif

typedef struct geometry {
  dnnl_memory_desc_t x, w, y, b;
  bool bias;
  dnnl_dims_t stride, dilation, near, far;
} geometry;

static int64_t far_padding(int64_t size, int64_t kernel, int64_t out, int64_t stride, int64_t dilation, int64_t near) {
  int64_t far = (out - 1) * stride + dilation * (kernel - 1) + 1 - size - near;
  return far > 0 ? far : 0;
}

// As `direction` reads and writes it: with bf16 the two operands are bfloat16, what is made of them float32. g is zero before, and
// geometry_destroy's afterwards, whatever is returned.
static dnnl_status_t geometry_create(geometry *g, const onednn_conv_config *f, onednn_direction direction) {
  *g = (geometry){.bias = f->bias && direction == ONEDNN_FORWARD,
                  .stride = {f->stride[0], f->stride[1]},
                  .dilation = {f->dilation[0] - 1, f->dilation[1] - 1},
                  .near = {f->pad[0], f->pad[1]},
                  .far = {far_padding(f->H, f->kh, f->OH, f->stride[0], f->dilation[0], f->pad[0]),
                          far_padding(f->W, f->kw, f->OW, f->stride[1], f->dilation[1], f->pad[1])}};
  dnnl_dims_t x = {f->B, f->groups * f->I, f->H, f->W}, y = {f->B, f->groups * f->O, f->OH, f->OW}, b = {f->groups * f->O};
  dnnl_dims_t w4 = {f->O, f->I, f->kh, f->kw}, w5 = {f->groups, f->O, f->I, f->kh, f->kw};
  bool grouped = f->groups > 1;
  dnnl_status_t status = layout_create(&g->x, 4, x, f->bf16 && direction != ONEDNN_BACKWARD_DATA, dnnl_nhwc);
  if (status == dnnl_success) status = layout_create(&g->y, 4, y, f->bf16 && direction != ONEDNN_FORWARD, dnnl_nhwc);
  if (status == dnnl_success && g->bias) status = layout_create(&g->b, 1, b, false, dnnl_a);
  if (status == dnnl_success)
    status = layout_create(&g->w, grouped ? 5 : 4, grouped ? w5 : w4, f->bf16 && direction != ONEDNN_BACKWARD_WEIGHTS, dnnl_format_tag_any);
  return status;
}
static void geometry_destroy(geometry *g) {
  layout_destroy(&g->x);
  layout_destroy(&g->w);
  layout_destroy(&g->y);
  layout_destroy(&g->b);
}

static dnnl_status_t describe(onednn_direction direction, const geometry *g, dnnl_engine_t engine, dnnl_primitive_attr_t attr,
                              dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out) {
  const dnnl_alg_kind_t direct = dnnl_convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  switch (direction) {
  case ONEDNN_FORWARD:
    return dnnl.convolution_forward_primitive_desc_create(out, engine, dnnl_forward_training, direct, ref(&g->x), ref(&g->w),
                                                          g->bias ? ref(&g->b) : NULL, ref(&g->y), g->stride, g->dilation, g->near, g->far,
                                                          attr);
  case ONEDNN_BACKWARD_DATA:
    return dnnl.convolution_backward_data_primitive_desc_create(out, engine, direct, ref(&g->x), ref(&g->w), ref(&g->y), g->stride,
                                                                g->dilation, g->near, g->far, hint, attr);
  default:
    return dnnl.convolution_backward_weights_primitive_desc_create(out, engine, direct, ref(&g->x), ref(&g->w), NULL, ref(&g->y), g->stride,
                                                                   g->dilation, g->near, g->far, hint, attr);
  }
#else
  dnnl_convolution_desc_t d;
  dnnl_status_t status;
  if (direction == ONEDNN_FORWARD)
    status = dnnl.dilated_convolution_forward_desc_init(&d, dnnl_forward_training, direct, ref(&g->x), ref(&g->w),
                                                        g->bias ? ref(&g->b) : NULL, ref(&g->y), g->stride, g->dilation, g->near, g->far);
  else if (direction == ONEDNN_BACKWARD_DATA)
    status = dnnl.dilated_convolution_backward_data_desc_init(&d, direct, ref(&g->x), ref(&g->w), ref(&g->y), g->stride, g->dilation,
                                                              g->near, g->far);
  else
    status = dnnl.dilated_convolution_backward_weights_desc_init(&d, direct, ref(&g->x), ref(&g->w), NULL, ref(&g->y), g->stride,
                                                                 g->dilation, g->near, g->far);
  return status != dnnl_success ? status : dnnl.primitive_desc_create(out, &d, attr, engine, hint);
#endif
}

// --- convolutions ------------------------------------------------------------------------------------------------------------------------

// An operand that is rounded before it is multiplied: from float32, as it is given, to what the convolution reads.
typedef struct rounding {
  dnnl_primitive_t primitive; // NULL: taken as it is
  dnnl_memory_t given;
  size_t bytes;
} rounding;

struct onednn_conv {
  elbo_ctx *ctx;
  onednn_direction direction;
  bool turned; // asked for the gradient by x, made as a forward convolution
  char name[64];
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_t primitive, reorder;         // reorder NULL: weights are taken as they are
  dnnl_memory_t x, w, y, bias, scratch, plain; // plain: weights as (O,I,kh,kw)
  rounding round_x, round_y;
  size_t scratch_bytes, packed_bytes; // scratch_bytes: of the library's own
};

void onednn_conv_destroy(onednn_conv **conv) {
  onednn_conv *c = *conv;
  *conv = NULL;
  if (!c) return;
  dnnl_memory_t memories[] = {c->x, c->w, c->y, c->bias, c->scratch, c->plain, c->round_x.given, c->round_y.given};
  dnnl_primitive_t primitives[] = {c->primitive, c->reorder, c->round_x.primitive, c->round_y.primitive};
  for (size_t i = 0; i < sizeof primitives / sizeof primitives[0]; i++)
    if (primitives[i]) dnnl.primitive_destroy(primitives[i]);
  for (size_t i = 0; i < sizeof memories / sizeof memories[0]; i++)
    if (memories[i]) dnnl.memory_destroy(memories[i]);
  if (c->stream) dnnl.stream_destroy(c->stream);
  if (c->engine) dnnl.engine_destroy(c->engine);
  free(c);
}

static dnnl_status_t make_conversion(const onednn_conv *c, layout_ref from, layout_ref to, dnnl_primitive_t *out) {
  dnnl_primitive_desc_t d = NULL;
  dnnl_status_t status = dnnl.reorder_primitive_desc_create(&d, from, c->engine, to, c->engine, NULL);
  if (status == dnnl_success) status = dnnl.primitive_create(out, d);
  if (d) dnnl.primitive_desc_destroy(d);
  return status;
}

static dnnl_status_t make_reorder(onednn_conv *c, layout_ref plain, layout_ref own) {
  bool back = c->direction == ONEDNN_BACKWARD_WEIGHTS;
  dnnl_status_t status = dnnl.memory_create(&c->plain, plain, c->engine, DNNL_MEMORY_NONE);
  if (status == dnnl_success) status = make_conversion(c, back ? own : plain, back ? plain : own, &c->reorder);
  if (status == dnnl_success) c->packed_bytes = dnnl.memory_desc_get_size(own);
  return status;
}

static size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// `to`, a pixel's channels side by side, out of float32.
static dnnl_status_t make_rounding(const onednn_conv *c, const dnnl_dims_t dims, layout_ref to, rounding *r) {
  dnnl_memory_desc_t from;
  memset(&from, 0, sizeof from);
  dnnl_status_t status = layout_create(&from, 4, dims, false, dnnl_nhwc);
  if (status == dnnl_success) status = dnnl.memory_create(&r->given, ref(&from), c->engine, DNNL_MEMORY_NONE);
  if (status == dnnl_success) status = make_conversion(c, ref(&from), to, &r->primitive);
  if (status == dnnl_success) r->bytes = whole_lines(dnnl.memory_desc_get_size(to));
  layout_destroy(&from);
  return status;
}

// forward: the geometry of the forward convolution that a gradient belongs to
static dnnl_status_t make_primitive(onednn_conv *c, const geometry *g, const geometry *forward, layout_ref plain) {
  dnnl_primitive_attr_t attr = NULL;
  dnnl_primitive_desc_t hint = NULL, d = NULL;
  const char *name = NULL;
  bool weights = c->direction == ONEDNN_BACKWARD_WEIGHTS, data = c->direction == ONEDNN_BACKWARD_DATA;
  dnnl_status_t status = dnnl.primitive_attr_create(&attr);
  if (status == dnnl_success) status = dnnl.primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
  if (status == dnnl_success && c->direction != ONEDNN_FORWARD) status = describe(ONEDNN_FORWARD, forward, c->engine, attr, NULL, &hint);
  if (status == dnnl_success) status = describe(c->direction, g, c->engine, attr, hint, &d);
  if (status == dnnl_success) {
    layout_ref x = dnnl.primitive_desc_query_md(d, data ? dnnl_query_diff_src_md : dnnl_query_src_md, 0);
    layout_ref w = dnnl.primitive_desc_query_md(d, weights ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    layout_ref y = dnnl.primitive_desc_query_md(d, c->direction == ONEDNN_FORWARD ? dnnl_query_dst_md : dnnl_query_diff_dst_md, 0);
    layout_ref s = dnnl.primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
    dnnl.primitive_desc_query(d, dnnl_query_impl_info_str, 0, &name);
    snprintf(c->name, sizeof c->name, "onednn:%s%s", c->turned ? "turned:" : "", name ? name : "?");
    c->scratch_bytes = s ? dnnl.memory_desc_get_size(s) : 0;
    status = dnnl.memory_create(&c->x, x, c->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success) status = dnnl.memory_create(&c->w, w, c->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success) status = dnnl.memory_create(&c->y, y, c->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success && g->bias) status = dnnl.memory_create(&c->bias, ref(&g->b), c->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success && c->scratch_bytes) status = dnnl.memory_create(&c->scratch, s, c->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success && !dnnl.memory_desc_equal(w, plain)) status = make_reorder(c, plain, w);
    if (status == dnnl_success) status = dnnl.primitive_create(&c->primitive, d);
  }
  if (d) dnnl.primitive_desc_destroy(d);
  if (hint) dnnl.primitive_desc_destroy(hint);
  if (attr) dnnl.primitive_attr_destroy(attr);
  return status;
}

// The gradient by x of a 1x1 convolution is a forward one of dy with the weights transposed, for which the library has the better kernels.
static bool turn(onednn_conv_config *f) {
  bool same = f->stride[0] == 1 && f->stride[1] == 1 && !f->pad[0] && !f->pad[1] && f->H == f->OH && f->W == f->OW;
  if (f->direction != ONEDNN_BACKWARD_DATA || f->kh != 1 || f->kw != 1 || f->groups != 1 || !same) return false;
  int64_t channels = f->I;
  f->direction = ONEDNN_FORWARD, f->bias = false;
  f->I = f->O, f->O = channels;
  return true;
}

elbo_status onednn_conv_create(elbo_ctx *ctx, const onednn_conv_config *config, onednn_conv **out) {
  *out = NULL;
  onednn_conv_config turned_config = *config, *f = &turned_config;
  const bool turned = turn(f);
  if (!onednn_version()) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s cannot be opened", library_name);
  onednn_conv *c = NULL;
  TRY(array_new(ctx, 1, sizeof *c, "a oneDNN convolution", (void **)&c));
  c->ctx = ctx;
  c->direction = f->direction;
  c->turned = turned;
  geometry g, forward;
  memset(&g, 0, sizeof g);
  memset(&forward, 0, sizeof forward);
  dnnl_memory_desc_t plain;
  memset(&plain, 0, sizeof plain);
  const dnnl_dims_t x = {f->B, f->groups * f->I, f->H, f->W}, y = {f->B, f->groups * f->O, f->OH, f->OW};
  const dnnl_dims_t w4 = {f->O, f->I, f->kh, f->kw}, w5 = {f->groups, f->O, f->I, f->kh, f->kw};
  const bool grouped = f->groups > 1;
  pool_enter(&ctx->pool); // primitives are made for a number of threads
  dnnl_status_t status = dnnl.engine_create(&c->engine, dnnl_cpu, 0);
  if (status == dnnl_success) status = dnnl.stream_create(&c->stream, c->engine, dnnl_stream_default_flags);
  if (status == dnnl_success) status = geometry_create(&g, f, c->direction);
  if (status == dnnl_success) status = geometry_create(&forward, f, ONEDNN_FORWARD);
  if (status == dnnl_success)
    status = layout_create(&plain, grouped ? 5 : 4, grouped ? w5 : w4, false, grouped ? dnnl_goihw : turned ? dnnl_iohw : dnnl_oihw);
  if (status == dnnl_success) status = make_primitive(c, &g, &forward, ref(&plain));
  if (status == dnnl_success && f->bf16 && c->direction != ONEDNN_BACKWARD_DATA) status = make_rounding(c, x, ref(&g.x), &c->round_x);
  if (status == dnnl_success && f->bf16 && c->direction != ONEDNN_FORWARD) status = make_rounding(c, y, ref(&g.y), &c->round_y);
  pool_leave(&ctx->pool);
  geometry_destroy(&g);
  geometry_destroy(&forward);
  layout_destroy(&plain);
  if (status == dnnl_success && f->bf16 && strstr(c->name, "ref")) { // what it does where it has no kernel
    onednn_conv_destroy(&c);
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "oneDNN %s has plain loops alone for this convolution", dnnl.version_text);
  }
  if (status != dnnl_success) {
    onednn_conv_destroy(&c);
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "oneDNN %s refuses this convolution (status %d)", dnnl.version_text, (int)status);
  }
  *out = c;
  return ELBO_OK;
}

const char *onednn_conv_name(const onednn_conv *c) { return c->name; }
size_t onednn_conv_scratch_bytes(const onednn_conv *c) { return whole_lines(c->scratch_bytes) + c->round_x.bytes + c->round_y.bytes; }
size_t onednn_conv_packed_bytes(const onednn_conv *c) { return c->packed_bytes; }

static elbo_status execute(onednn_conv *c, const thread_pool *pool, dnnl_primitive_t p, int n, const dnnl_exec_arg_t *args) {
  pool_enter(pool);
  dnnl_status_t status = dnnl.primitive_execute(p, c->stream, n, args);
  if (status == dnnl_success) status = dnnl.stream_wait(c->stream);
  pool_leave(pool);
  if (status == dnnl_success) return ELBO_OK;
  return fail(c->ctx, ELBO_ERROR_INTERNAL, "%s failed (status %d)", c->name, (int)status);
}

static bool attach(dnnl_memory_t m, const void *data) {
  union { // oneDNN takes inputs and outputs by one function
    const void *in;
    void *out;
  } handle = {data};
  return dnnl.memory_set_data_handle(m, handle.out) == dnnl_success;
}

elbo_status onednn_conv_reorder(onednn_conv *c, const thread_pool *pool, const float *from, float *to) {
  bool back = c->direction == ONEDNN_BACKWARD_WEIGHTS;
  dnnl_memory_t source = back ? c->w : c->plain, target = back ? c->plain : c->w;
  if (!attach(source, from) || !attach(target, to)) return fail(c->ctx, ELBO_ERROR_INTERNAL, "%s: no memory", c->name);
  return execute(c, pool, c->reorder, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}});
}

// *operand (float32) rounded to `at`, which the convolution then reads, and *operand points to.
static elbo_status round_operand(onednn_conv *c, const thread_pool *pool, const rounding *r, dnnl_memory_t to, const void **operand,
                                 char *at) {
  if (!attach(r->given, *operand) || !attach(to, at)) return fail(c->ctx, ELBO_ERROR_INTERNAL, "%s: no memory", c->name);
  *operand = at;
  return execute(c, pool, r->primitive, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, r->given}, {DNNL_ARG_TO, to}});
}

elbo_status onednn_conv_run(onednn_conv *c, const thread_pool *pool, const float *first, const float *second, const float *bias,
                            float *result, void *scratch) {
  static const int arguments[3][3] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
                                      {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
                                      {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
  const int *argument = arguments[c->direction];
  const void *x = c->direction == ONEDNN_BACKWARD_DATA ? result : c->turned ? second : first, *w, *y;
  w = c->turned ? first : c->direction == ONEDNN_FORWARD ? second : c->direction == ONEDNN_BACKWARD_DATA ? first : result;
  y = c->direction == ONEDNN_FORWARD ? result : second;
  const size_t behind = whole_lines(c->scratch_bytes); // the library's own
  if (c->round_x.primitive) TRY(round_operand(c, pool, &c->round_x, c->x, &x, (char *)scratch + behind));
  if (c->round_y.primitive) TRY(round_operand(c, pool, &c->round_y, c->y, &y, (char *)scratch + behind + c->round_x.bytes));
  if (!attach(c->x, x) || !attach(c->w, w) || !attach(c->y, y) || (c->scratch && !attach(c->scratch, scratch)) ||
      (c->bias && !attach(c->bias, bias)))
    return fail(c->ctx, ELBO_ERROR_INTERNAL, "%s: no memory", c->name);
  dnnl_exec_arg_t args[5] = {{argument[0], c->x}, {argument[1], c->w}, {argument[2], c->y}};
  int n = 3;
  if (c->scratch) args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, c->scratch};
  if (c->bias) args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, c->bias};
  return execute(c, pool, c->primitive, n, args);
}
