#include "models/initial_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/model.h>

#include "core/config.h"
#include "models/model.h"
#include "models/weights.h"

enum { NAMES_LISTED = 12 };

// Names that do not fit, of one kind, for a message.
typedef struct misfits {
  const char *title;
  text_buffer names;
  int64_t count;
} misfits;

static void add_misfit(misfits *m, const char *name, const char *detail) {
  if (m->count++ < NAMES_LISTED) text_add(&m->names, "%s%.160s%s", m->count > 1 ? ", " : "", name, detail);
}

static bool same_shape(const elbo_param_info *a, const elbo_param_info *b) {
  return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0;
}

enum { ABSENT, OTHER_SHAPE, SURPLUS, MISFIT_KINDS };

static bool in_models(const elbo_param_info *p, const char *const *training_only) {
  for (; training_only && *training_only; training_only++)
    if (strncmp(p->name, *training_only, strlen(*training_only)) == 0) return false;
  return p->kind != ELBO_PARAM_STATE;
}

static bool has_any(const elbo_store *s, const char *prefix) {
  elbo_param_info p;
  for (int i = 0; i < elbo_store_count(s); i++)
    if (elbo_store_get(s, i, &p) == ELBO_OK && strncmp(p.name, prefix, strlen(prefix)) == 0) return true;
  return false;
}

static elbo_status compare(const elbo_store *to, const elbo_store *from, const char *const *training_only, const char *may_be_new,
                           misfits found[MISFIT_KINDS]) {
  const char *const fresh[] = {may_be_new && !has_any(from, may_be_new) ? may_be_new : NULL, NULL};
  elbo_param_info want, have;
  char text[2][WEIGHTS_SHAPE_TEXT], detail[2 * WEIGHTS_SHAPE_TEXT + 40];
  for (int i = 0; i < elbo_store_count(to); i++) {
    TRY(elbo_store_get(to, i, &want));
    if (elbo_store_find(from, want.name, &have) != ELBO_OK) {
      if (in_models(&want, training_only) && in_models(&want, fresh)) add_misfit(&found[ABSENT], want.name, "");
    } else if (!same_shape(&want, &have)) {
      snprintf(detail, sizeof detail, " %s where %s was expected", weights_shape_text(have.rank, have.dim, text[0]),
               weights_shape_text(want.rank, want.dim, text[1]));
      add_misfit(&found[OTHER_SHAPE], want.name, detail);
    }
  }
  for (int i = 0; i < elbo_store_count(from); i++) {
    TRY(elbo_store_get(from, i, &have));
    if (elbo_store_find(to, have.name, &want) != ELBO_OK) add_misfit(&found[SURPLUS], have.name, "");
  }
  return ELBO_OK;
}

static elbo_status report_misfits(elbo_ctx *ctx, const char *path, misfits found[MISFIT_KINDS]) {
  text_buffer all = {0};
  for (int k = 0; k < MISFIT_KINDS; k++) {
    char *names = found[k].count ? text_take(&found[k].names) : NULL;
    if (!names) continue;
    text_add(&all, "%s%s: %s", all.length ? "; " : "", found[k].title, names);
    if (found[k].count > NAMES_LISTED) text_add(&all, " and %lld more", (long long)(found[k].count - NAMES_LISTED));
    free(names);
  }
  char *text = text_take(&all);
  elbo_status status = fail(ctx, ELBO_ERROR_ARGUMENT, "train.init: %s: another model than the recipe's: %s", path, text ? text : "");
  free(text);
  return status;
}

static elbo_status copy(elbo_store *to, const elbo_store *from) {
  elbo_param_info want, have;
  for (int i = 0; i < elbo_store_count(to); i++) {
    TRY(elbo_store_get(to, i, &want));
    if (elbo_store_find(from, want.name, &have) == ELBO_OK) memcpy(want.data, have.data, (size_t)want.count * sizeof(float));
  }
  elbo_store_touch(to);
  return ELBO_OK;
}

elbo_status initial_weights_load(elbo_ctx *ctx, const char *path, const char *const *training_only, const char *may_be_new,
                                 elbo_store *to) {
  misfits found[MISFIT_KINDS] = {
      [ABSENT] = {.title = "missing"}, [OTHER_SHAPE] = {.title = "of another shape"}, [SURPLUS] = {.title = "unused"}};
  elbo_model *m = NULL;
  elbo_status status = elbo_model_load(ctx, path, NULL, &m);
  if (status != ELBO_OK) return fail_within(ctx, status, "train.init");
  status = compare(to, m->store, training_only, may_be_new, found);
  bool fits = true;
  for (int k = 0; k < MISFIT_KINDS; k++) fits = fits && !found[k].count;
  if (status == ELBO_OK) status = fits ? copy(to, m->store) : report_misfits(ctx, path, found);
  for (int k = 0; k < MISFIT_KINDS; k++) free(found[k].names.at);
  elbo_model_destroy(&m);
  return status;
}
