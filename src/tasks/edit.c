// elbo_edit: codes moved along linear directions between the values of an attribute.
#include <elbo/edit.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "eval/linear_direction.h"
#include "models/model.h"
#include "tasks/edit_attributes.h"

enum { CHOOSE_FROM = 96, CANDIDATES = 7, CODE_PART = 512 };
static const double candidate[CANDIDATES] = {0.5, 0.75, 1, 1.25, 1.5, 2, 2.5};

void elbo_edit_defaults(elbo_edit_config *config) {
  *config = (elbo_edit_config){.size = sizeof *config, .ridge = 0.1, .n = 1000, .training = 5000, .split = ELBO_SPLIT_TEST};
}

// Examples with everything that editing asks of them.
typedef struct examples {
  elbo_array *x;     // in the model's range
  elbo_array *codes; // (n,d)
  elbo_array *noise; // NULL: the model has none, or it was not asked for
  int16_t *values;   // (n, attributes)
} examples;

static void examples_free(examples *e) {
  elbo_array_destroy(&e->x), elbo_array_destroy(&e->codes), elbo_array_destroy(&e->noise);
  free(e->values);
  e->values = NULL;
}

typedef struct pair {
  int from, to;
  linear_direction direction;
} pair;

typedef struct editor {
  elbo_ctx *ctx;
  elbo_model *m;
  elbo_model_info info;
  elbo_dataset *data;
  const elbo_edit_config *config;
  attribute_set set;
  int which;
  int64_t n_pairs;
  pair *pairs;
} editor;

// --- examples ---

static void rescale(elbo_array *x, double factor, double offset) {
  float *v = x->data;
  for (int64_t i = 0, n = elbo_array_count(x); i < n; i++) v[i] = (float)((double)v[i] * factor + offset);
}

// 0..1 as data and readers have pictures, and low..high as the model has them.
static void to_model(const editor *e, elbo_array *x) {
  if (e->info.bits) rescale(x, e->info.high - e->info.low, e->info.low);
}
static void to_data(const editor *e, elbo_array *x) {
  if (e->info.bits) rescale(x, 1 / (e->info.high - e->info.low), -e->info.low / (e->info.high - e->info.low));
}

// Rows [first, first + n) as an array that borrows.
static elbo_array rows_of(const elbo_array *a, int64_t first, int64_t n) {
  elbo_array part = *a;
  part.dim[0] = n;
  part.data = (char *)a->data + (size_t)first * (elbo_array_bytes(a) / (size_t)a->dim[0]);
  return part;
}

static elbo_status encode_all(const editor *e, const elbo_array *x, elbo_array **codes) {
  const int64_t n = x->dim[0], d = e->info.latent_dim;
  TRY(elbo_array_create(e->ctx, ELBO_F32, 2, (int64_t[]){n, d}, codes));
  for (int64_t at = 0; at < n; at += CODE_PART) {
    int64_t count = n - at < CODE_PART ? n - at : CODE_PART;
    elbo_array part = rows_of(x, at, count), *mean = NULL;
    TRY(elbo_encode(e->m, &part, NULL, &mean, NULL));
    memcpy((float *)(*codes)->data + at * d, mean->data, elbo_array_bytes(mean));
    elbo_array_destroy(&mean);
  }
  return ELBO_OK;
}

static elbo_status read_examples(const editor *e, elbo_split split, int64_t n, examples *out) {
  elbo_array *label = NULL;
  elbo_status status;
  TRY_GOTO(elbo_dataset_read(e->data, split, 0, n, 1, e->config->seed, &out->x, e->set.shapes ? NULL : &label));
  TRY_GOTO(array_new(e->ctx, (size_t)(out->x->dim[0] * e->set.n), sizeof *out->values, "attributes", (void **)&out->values));
  TRY_GOTO(attributes_read(e->ctx, &e->set, out->x, label, out->values));
  to_model(e, out->x);
  status = encode_all(e, out->x, &out->codes);
fail:
  elbo_array_destroy(&label);
  return status;
}

static elbo_status find_noise(const editor *e, examples *of) {
  return e->m->kind->encode_noise ? elbo_encode_noise(e->m, of->x, of->codes, &of->noise) : ELBO_OK;
}

// The given rows of `from`, with the noise that leads to each.
static elbo_status pick(const editor *e, const examples *from, int64_t n, const int64_t *row, examples *out) {
  elbo_status status;
  int64_t dim[ELBO_MAX_RANK];
  const elbo_array *source[3] = {from->x, from->codes, from->noise};
  elbo_array **to[3] = {&out->x, &out->codes, &out->noise};
  for (int k = 0; k < 3 && source[k]; k++) {
    memcpy(dim, source[k]->dim, sizeof dim);
    dim[0] = n;
    TRY_GOTO(elbo_array_create(e->ctx, ELBO_F32, source[k]->rank, dim, to[k]));
    size_t bytes = elbo_array_bytes(source[k]) / (size_t)source[k]->dim[0];
    for (int64_t i = 0; i < n; i++)
      memcpy((char *)(*to[k])->data + (size_t)i * bytes, (const char *)source[k]->data + (size_t)row[i] * bytes, bytes);
  }
  TRY_GOTO(array_new(e->ctx, (size_t)(n * e->set.n), sizeof *out->values, "attributes", (void **)&out->values));
  for (int64_t i = 0; i < n; i++)
    memcpy(out->values + i * e->set.n, from->values + row[i] * e->set.n, (size_t)e->set.n * sizeof *out->values);
  status = out->noise ? ELBO_OK : find_noise(e, out);
fail:
  if (status != ELBO_OK) examples_free(out);
  return status;
}

// --- editing ---

// Codes moved by their pair's direction, decoded with the noise that they had.
static elbo_status decode_moved(const editor *e, const examples *from, const pair *const *of, double step, elbo_array **after) {
  elbo_array *codes = NULL;
  const int64_t n = from->codes->dim[0], d = from->codes->dim[1];
  TRY(elbo_array_convert(e->ctx, from->codes, ELBO_F32, &codes));
  for (int64_t i = 0; i < n; i++) linear_direction_move(&of[i]->direction, step, (float *)codes->data + i * d);
  elbo_status status = from->noise ? elbo_decode_noise(e->m, codes, from->noise, after) : elbo_decode(e->m, codes, NULL, after);
  elbo_array_destroy(&codes);
  return status;
}

// What the edited pictures read as, against what they were asked for and what they were.
static elbo_status judge(const editor *e, const examples *from, const pair *const *of, const elbo_array *after, elbo_edit_measure *out) {
  const int64_t n = after->dim[0];
  const int count = e->set.n;
  elbo_array *x = NULL;
  int16_t *values = NULL;
  elbo_status status;
  out->n = n, out->obeyed = NAN, out->others = 0;
  if (!e->set.shapes) return ELBO_OK;
  TRY_GOTO(elbo_array_convert(e->ctx, after, ELBO_F32, &x));
  to_data(e, x);
  TRY_GOTO(array_new(e->ctx, (size_t)(n * count), sizeof *values, "attributes", (void **)&values));
  TRY_GOTO(attributes_read(e->ctx, &e->set, x, NULL, values));
  out->obeyed = 0;
  for (int64_t i = 0; i < n; i++) out->obeyed += (values[i * count + e->which] == of[i]->to) / (double)n;
  for (int a = 0; a < count; a++) {
    if (a == e->which) continue;
    int k = out->others++;
    snprintf(out->other[k], sizeof out->other[0], "%s", e->set.at[a].name);
    out->unchanged[k] = 0;
    for (int64_t i = 0; i < n; i++) out->unchanged[k] += (values[i * count + a] == from->values[i * count + a]) / (double)n;
  }
fail:
  elbo_array_destroy(&x);
  free(values);
  return status;
}

// Examples that have a value to be moved from, each with a pair; those of one value take its pairs in turn. Returns how many, up to `most`.
static int64_t assign_pairs(const editor *e, const examples *from, int64_t most, int64_t *row, const pair **of) {
  int64_t n = 0, turn = 0;
  for (int64_t i = 0; i < from->x->dim[0] && n < most; i++) {
    int16_t value = from->values[i * e->set.n + e->which];
    for (int64_t k = 0; k < e->n_pairs; k++) {
      const pair *p = &e->pairs[(turn + k) % e->n_pairs];
      if (p->from != value) continue;
      row[n] = i, of[n++] = p, turn = (turn + k + 1) % e->n_pairs;
      break;
    }
  }
  return n;
}

// The candidate at which the worse of what is asked for and of what should stay is best on training examples.
static elbo_status choose_step(const editor *e, const examples *training, double *step) {
  int64_t row[CHOOSE_FROM], n;
  const pair *of[CHOOSE_FROM];
  examples few = {0};
  elbo_status status = ELBO_OK;
  double best = -1;
  *step = 1;
  if (!e->set.shapes) return ELBO_OK; // nothing would tell
  n = assign_pairs(e, training, CHOOSE_FROM, row, of);
  TRY(pick(e, training, n, row, &few));
  for (int c = 0; c < CANDIDATES && status == ELBO_OK; c++) {
    elbo_array *after = NULL;
    elbo_edit_measure m;
    status = decode_moved(e, &few, of, candidate[c], &after);
    if (status == ELBO_OK) status = judge(e, &few, of, after, &m);
    elbo_array_destroy(&after);
    if (status != ELBO_OK) break;
    double worst = m.obeyed;
    for (int k = 0; k < m.others; k++) worst = fmin(worst, m.unchanged[k]);
    if (worst > best) best = worst, *step = candidate[c];
    if (e->config->progress && !e->config->progress(e->config->progress_user, "choosing the step", c + 1, CANDIDATES, ""))
      status = fail(e->ctx, ELBO_ERROR_STOPPED, "edit: stopped");
  }
  examples_free(&few);
  return status;
}

static elbo_status fit_pairs(editor *e, const examples *training) {
  const int64_t n = training->codes->dim[0];
  int8_t *side;
  TRY(array_new(e->ctx, (size_t)n, sizeof *side, "sides", (void **)&side));
  elbo_status status = ELBO_OK;
  for (int64_t k = 0; k < e->n_pairs && status == ELBO_OK; k++) {
    pair *p = &e->pairs[k];
    for (int64_t i = 0; i < n; i++) {
      int16_t value = training->values[i * e->set.n + e->which];
      side[i] = value == p->to ? 1 : value == p->from ? 0 : -1;
    }
    status = linear_direction_fit(e->ctx, training->codes->data, n, training->codes->dim[1], side, e->config->ridge, &p->direction);
    if (status != ELBO_OK) {
      char from[32], to[32];
      attribute_value_name(&e->set, e->which, p->from, from, sizeof from);
      attribute_value_name(&e->set, e->which, p->to, to, sizeof to);
      status = fail_within(e->ctx, status, "edit: %s from %s to %s", e->set.at[e->which].name, from, to);
    }
  }
  free(side);
  return status;
}

static elbo_status edit_pair(const editor *e, const examples *held, const pair *p, double step, elbo_edit_fn each, void *user, bool *stop) {
  const int64_t all = held->x->dim[0];
  int64_t *row = NULL, n = 0;
  const pair **of = NULL;
  examples few = {0};
  elbo_array *after = NULL;
  elbo_status status;
  elbo_edit_measure m = {.step = step, .accuracy = p->direction.accuracy};
  TRY_GOTO(array_new(e->ctx, (size_t)all, sizeof *row, "rows", (void **)&row));
  TRY_GOTO(array_new(e->ctx, (size_t)all, sizeof *of, "rows", (void **)&of));
  for (int64_t i = 0; i < all; i++)
    if (held->values[i * e->set.n + e->which] == p->from) row[n] = i, of[n++] = p;
  snprintf(m.attribute, sizeof m.attribute, "%s", e->set.at[e->which].name);
  attribute_value_name(&e->set, e->which, p->from, m.from, sizeof m.from);
  attribute_value_name(&e->set, e->which, p->to, m.to, sizeof m.to);
  if (!n) {
    status = fail(e->ctx, ELBO_ERROR_ARGUMENT, "edit: none of %lld examples has %s %s; look at more", (long long)all, m.attribute, m.from);
    goto fail;
  }
  TRY_GOTO(pick(e, held, n, row, &few));
  TRY_GOTO(decode_moved(e, &few, of, step, &after));
  TRY_GOTO(judge(e, &few, of, after, &m));
  *stop = !each(user, &m, few.x, after);
fail:
  free(row);
  free(of);
  examples_free(&few);
  elbo_array_destroy(&after);
  return status;
}

// --- the call ---

static elbo_status check_model(editor *e) {
  elbo_dataset_info info;
  elbo_model_get_info(e->m, &e->info);
  elbo_dataset_get_info(e->data, &info);
  if (!e->m->kind->encode || !e->m->kind->decode)
    return fail(e->ctx, ELBO_ERROR_UNSUPPORTED, "edit: this model (%s) does not encode and decode pictures", e->m->kind->preset);
  if (e->info.classes || e->info.condition_dim)
    return fail(e->ctx, ELBO_ERROR_UNSUPPORTED, "edit: this model is conditional: what it is told changes pictures more directly");
  if (info.height != e->info.height || info.width != e->info.width || info.channels != e->info.channels)
    return fail(e->ctx, ELBO_ERROR_ARGUMENT, "edit: the examples of the data are %d x %d x %d; the model's are %d x %d x %d", info.height,
                info.width, info.channels, e->info.height, e->info.width, e->info.channels);
  if ((int)e->config->split < 0 || e->config->split > ELBO_SPLIT_TEST || info.count[e->config->split] < 1)
    return fail(e->ctx, ELBO_ERROR_ARGUMENT, "edit: there is nothing in that split of the data");
  if (info.count[ELBO_SPLIT_TRAIN] < 1) return fail(e->ctx, ELBO_ERROR_ARGUMENT, "edit: the data hold no training examples");
  return ELBO_OK;
}

static elbo_status list_pairs(editor *e) {
  const elbo_edit_config *c = e->config;
  TRY(attributes_of_data(e->ctx, e->data, &e->set));
  e->which = attribute_find(e->ctx, &e->set, c->attribute);
  if (e->which < 0) return ELBO_ERROR_ARGUMENT;
  const int values = e->set.at[e->which].values;
  int from = -1, to = -1;
  if (!c->from != !c->to) return fail(e->ctx, ELBO_ERROR_ARGUMENT, "edit: both values of %s, or neither, were expected", c->attribute);
  if (c->from && (from = attribute_value(e->ctx, &e->set, e->which, c->from)) < 0) return ELBO_ERROR_ARGUMENT;
  if (c->to && (to = attribute_value(e->ctx, &e->set, e->which, c->to)) < 0) return ELBO_ERROR_ARGUMENT;
  if (c->from && from == to) return fail(e->ctx, ELBO_ERROR_ARGUMENT, "edit: %s from %s to itself", c->attribute, c->from);
  if (values > MOST_VALUES)
    return fail(e->ctx, ELBO_ERROR_ARGUMENT, "edit: %s has %d values; at most %d were expected", c->attribute, values, MOST_VALUES);
  const int64_t n = c->from ? 1 : (int64_t)values * (values - 1);
  TRY(array_new(e->ctx, (size_t)n, sizeof *e->pairs, "pairs", (void **)&e->pairs));
  for (int a = 0; a < values; a++)
    for (int b = 0; b < values; b++)
      if (c->from ? a == from && b == to : a != b) e->pairs[e->n_pairs++] = (pair){.from = a, .to = b};
  return ELBO_OK;
}

elbo_status elbo_edit(elbo_model *m, elbo_dataset *data, const elbo_edit_config *config, elbo_edit_fn each, void *user) {
  editor e = {.ctx = m->ctx, .m = m, .data = data, .config = config};
  examples training = {0}, held = {0};
  double step = config->step;
  bool stop = false;
  elbo_status status;
  TRY_GOTO(check_model(&e));
  TRY_GOTO(list_pairs(&e));
  TRY_GOTO(read_examples(&e, ELBO_SPLIT_TRAIN, config->training, &training));
  TRY_GOTO(fit_pairs(&e, &training));
  if (step == 0) TRY_GOTO(choose_step(&e, &training, &step));
  TRY_GOTO(read_examples(&e, config->split, config->n, &held));
  if (e.n_pairs > 1) TRY_GOTO(find_noise(&e, &held)); // of every example once, whatever number of pairs it is in
  for (int64_t k = 0; k < e.n_pairs && !stop; k++) {
    TRY_GOTO(edit_pair(&e, &held, &e.pairs[k], step, each, user, &stop));
    if (config->progress && !config->progress(config->progress_user, "edit", k + 1, e.n_pairs, ""))
      TRY_GOTO(fail(m->ctx, ELBO_ERROR_STOPPED, "edit: stopped"));
  }
fail:
  examples_free(&training);
  examples_free(&held);
  for (int64_t k = 0; k < e.n_pairs; k++) linear_direction_free(&e.pairs[k].direction);
  free(e.pairs);
  return status;
}
