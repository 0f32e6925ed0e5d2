// Weights into a store and out of one.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/file.h"
#include "core/half.h"
#include "core/memory.h"
#include "graph/store_memory.h"
#include "models/weights.h"

enum { LISTED = 12, ALIAS_MAX = 512 }; // names of each kind in a message

const char *weights_shape_text(int rank, const int64_t *dim, char buffer[WEIGHTS_SHAPE_TEXT]) {
  size_t n = (size_t)snprintf(buffer, WEIGHTS_SHAPE_TEXT, "(");
  for (int d = 0; d < rank && d < 8; d++)
    n += (size_t)snprintf(buffer + n, WEIGHTS_SHAPE_TEXT - n, "%s%lld", d ? "," : "", (long long)dim[d]);
  snprintf(buffer + n, WEIGHTS_SHAPE_TEXT - n, ")");
  return buffer;
}

// Tensors in files may be unaligned.
bool weights_read_floats(const tensor_view *v, float *out) {
  const char *from = v->data;
  uint16_t half;
  double wide;
  switch (v->dtype) {
  case ELBO_F32:
    if (v->bytes) memcpy(out, from, v->bytes);
    return true;
  case ELBO_F16:
    for (size_t i = 0; i < v->bytes / 2; i++) memcpy(&half, from + 2 * i, 2), out[i] = f16_to_f32(half);
    return true;
  case ELBO_BF16:
    for (size_t i = 0; i < v->bytes / 2; i++) memcpy(&half, from + 2 * i, 2), out[i] = bf16_to_f32(half);
    return true;
  case ELBO_F64:
    for (size_t i = 0; i < v->bytes / 8; i++) memcpy(&wide, from + 8 * i, 8), out[i] = (float)wide;
    return true;
  default: return false;
  }
}

// The parameter's name in the file, without the prefix; NULL when it is not below the prefix.
static const char *name_below(const char *name, const char *prefix) {
  size_t n = strlen(prefix);
  if (!n) return name;
  return !strncmp(name, prefix, n) && name[n] == '.' ? name + n + 1 : NULL;
}

// diffusers before 0.12 named the layers of its attention blocks so.
static const tensor_view *find_deprecated(const weights *w, const char *name) {
  static const char *const rules[][2] = {{".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};
  char alias[ALIAS_MAX];
  for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
    const char *at = strstr(name, rules[i][0]);
    if (!at) continue;
    int n = snprintf(alias, sizeof alias, "%.*s%s%s", (int)(at - name), name, rules[i][1], at + strlen(rules[i][0]));
    return n > 0 && (size_t)n < sizeof alias ? weights_find(w, alias) : NULL;
  }
  return NULL;
}

// Names that do not fit, of one kind.
typedef struct name_list {
  const char *title;
  text_buffer text;
  int64_t count;
} name_list;

static void add_name(name_list *list, const char *name, const char *detail) {
  if (list->count++ < LISTED) text_add(&list->text, "%s%.160s%s", list->count > 1 ? ", " : "", name, detail);
}

enum { MISSING, MISSHAPED, MISTYPED, UNUSED, N_LISTS };

// Which tensor fills each parameter (of[i], NULL where the parameter is not below the prefix), and what does not fit.
static elbo_status match(const weights *w, const char *prefix, elbo_store *store, const tensor_view **of, unsigned char *used,
                         name_list lists[N_LISTS]) {
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    char have[WEIGHTS_SHAPE_TEXT], want[WEIGHTS_SHAPE_TEXT], detail[2 * WEIGHTS_SHAPE_TEXT + 40];
    TRY(elbo_store_get(store, i, &p));
    const char *name = name_below(p.name, prefix);
    if (!name) continue;
    const tensor_view *v = weights_find(w, name);
    if (!v) v = find_deprecated(w, name);
    if (!v) {
      add_name(&lists[MISSING], name, "");
      continue;
    }
    used[v - weights_at(w, 0)] = 1;
    bool same = v->rank == p.rank;
    for (int d = 0; same && d < p.rank; d++) same = v->dim[d] == p.dim[d];
    bool is_float = v->dtype == ELBO_F32 || v->dtype == ELBO_F16 || v->dtype == ELBO_BF16 || v->dtype == ELBO_F64;
    snprintf(detail, sizeof detail, " %s where %s was expected", weights_shape_text(v->rank, v->dim, have),
             weights_shape_text(p.rank, p.dim, want));
    if (!same) add_name(&lists[MISSHAPED], v->name, detail);
    snprintf(detail, sizeof detail, " %s", elbo_dtype_name(v->dtype));
    if (!is_float) add_name(&lists[MISTYPED], v->name, detail);
    of[i] = v;
  }
  for (int64_t i = 0; i < weights_count(w); i++)
    if (!used[i]) add_name(&lists[UNUSED], weights_at(w, i)->name, "");
  return ELBO_OK;
}

static elbo_status report_mismatch(elbo_ctx *ctx, const weights *w, name_list lists[N_LISTS]) {
  text_buffer all = {0};
  for (int i = 0; i < N_LISTS; i++) {
    char *text = lists[i].count ? text_take(&lists[i].text) : NULL;
    if (!text) continue;
    text_add(&all, "%s%s: %s", all.length ? "; " : "", lists[i].title, text);
    if (lists[i].count > LISTED) text_add(&all, " and %lld more", (long long)(lists[i].count - LISTED));
    free(text);
  }
  char *text = text_take(&all);
  elbo_status status = fail(ctx, ELBO_ERROR_FORMAT, "%s: the tensors are not this model's: %s", weights_path(w), text ? text : "");
  free(text);
  return status;
}

// The tensor of each parameter below the prefix, all checked; free(*of).
static elbo_status match_all(elbo_ctx *ctx, const weights *w, const char *prefix, elbo_store *store, const tensor_view ***out) {
  name_list lists[N_LISTS] = {
      [MISSING] = {.title = "missing"},
      [MISSHAPED] = {.title = "of another shape"},
      [MISTYPED] = {.title = "of no float type"},
      [UNUSED] = {.title = "unused"},
  };
  const tensor_view **of = NULL;
  unsigned char *used = NULL;
  int n = elbo_store_count(store);
  elbo_status status = array_new(ctx, (size_t)n, sizeof *of, "a table of tensors", (void **)&of);
  if (status == ELBO_OK) status = array_new(ctx, (size_t)weights_count(w), 1, "a table of tensors", (void **)&used);
  if (status == ELBO_OK) status = match(w, prefix, store, of, used, lists);
  bool fits = true;
  for (int i = 0; i < N_LISTS; i++) fits = fits && !lists[i].count;
  if (status == ELBO_OK && !fits) status = report_mismatch(ctx, w, lists);
  for (int i = 0; i < N_LISTS; i++) free(lists[i].text.at);
  free(used);
  if (status == ELBO_OK)
    *out = of;
  else
    free((void *)of);
  return status;
}

elbo_status weights_check_views(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *views, elbo_store *store) {
  weights *w;
  const tensor_view **of;
  TRY(weights_of_views(ctx, path, n, views, &w));
  elbo_status status = match_all(ctx, w, "", store, &of);
  if (status == ELBO_OK) free((void *)of);
  weights_close(&w);
  return status;
}

elbo_status weights_load_into_store(elbo_ctx *ctx, const weights *w, const char *prefix, elbo_store *store) {
  const tensor_view **of;
  TRY(match_all(ctx, w, prefix, store, &of));
  for (int i = 0, n = elbo_store_count(store); i < n; i++)
    if (of[i]) weights_read_floats(of[i], store_data(store, i)); // its type was checked
  elbo_store_touch(store);
  free((void *)of);
  return ELBO_OK;
}

static void close_lent(void *lender) {
  weights *w = lender;
  weights_close(&w);
}

elbo_status weights_lend_to_store(elbo_ctx *ctx, weights **w, const char *prefix, elbo_store *store) {
  const tensor_view **of = NULL;
  elbo_status status = match_all(ctx, *w, prefix, store, &of);
  bool mapped = weights_are_mapped(*w);
  for (int i = 0, n = elbo_store_count(store); i < n && status == ELBO_OK; i++) {
    if (!of[i]) continue;
    if (of[i]->dtype == ELBO_F32 && (uintptr_t)of[i]->data % sizeof(float) == 0) {
      store_lend(store, i, of[i]->data, mapped);
    } else {
      status = store_own(store, i);
      if (status == ELBO_OK) weights_read_floats(of[i], store_data(store, i));
    }
  }
  free((void *)of);
  if (status == ELBO_OK) status = store_add_lender(store, *w, close_lent), *w = NULL;
  elbo_store_touch(store);
  return status;
}

elbo_status weights_write(elbo_ctx *ctx, const char *folder, const char *prefix, elbo_store *store) {
  int n = elbo_store_count(store);
  tensor_view *views = NULL;
  char path[PATH_MAX];
  int64_t count = 0;
  TRY(path_join(ctx, path, sizeof path, folder, WEIGHTS_NAME));
  TRY(array_new(ctx, (size_t)n + 1, sizeof *views, "a table of tensors", (void **)&views));
  elbo_status status = ELBO_OK;
  for (int i = 0; i < n && status == ELBO_OK; i++) {
    elbo_param_info p;
    status = elbo_store_get(store, i, &p);
    const char *name = status == ELBO_OK ? name_below(p.name, prefix) : NULL;
    if (!name) continue;
    tensor_view *v = &views[count++];
    *v = (tensor_view){.name = name, .dtype = ELBO_F32, .rank = p.rank, .data = p.data, .bytes = (size_t)p.count * 4};
    for (int d = 0; d < p.rank; d++) v->dim[d] = p.dim[d];
  }
  if (status == ELBO_OK && count) status = safetensors_write(ctx, path, count, views, 1, (const char *const[]){"format", "pt"});
  free(views);
  return status;
}
