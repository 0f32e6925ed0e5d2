// The training step: run every phase's plan on a batch, bring the gradients together, update, average.
#include "train/loop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"
#include "train/trainer.h"

enum { SKIPS_IN_A_ROW = 100 }; // past which a run without stop_on_nan ends after all

// --- sources ---

static elbo_status source_next(void *user, const data_batch **out) { return loader_next(user, out); }
static elbo_status source_seek(void *user, int64_t samples) { return loader_seek(user, samples); }
static elbo_status source_begin(void *user) { return loader_begin(user); }
static int64_t source_bytes(void *user) { return loader_bytes(user); }

train_source train_source_of_loader(loader *l) { return (train_source){l, source_next, source_seek, source_bytes, source_begin}; }

// --- making ---

static elbo_status make_weights(trainer *t, elbo_store *given) {
  const train_task *task = t->task;
  if (given) {
    t->weights = given;
  } else {
    void *memory;
    TRY(array_new(t->ctx, (size_t)task->n_phases, sizeof(elbo_graph *), "a trainer", &memory));
    elbo_graph **graphs = memory;
    for (int i = 0; i < task->n_phases; i++) graphs[i] = task->phases[i].graph;
    elbo_status status = elbo_store_create(t->ctx, task->n_phases, graphs, (uint64_t)t->config->seed, &t->weights);
    free(graphs);
    TRY(status);
    t->owns_weights = true;
  }
  t->weights->no_winograd = t->config->engine.winograd == ENGINE_WINOGRAD_OFF;
  t->weights->precision = t->config->engine.precision;
  t->weights->keep_transformed = 0; // they change
  if (task->initialize) {
    TRY(task->initialize(task->user, t->weights));
    elbo_store_touch(t->weights);
  }
  for (int i = 0; i < train_averages(t->config); i++) {
    TRY(elbo_store_copy(t->ctx, t->weights, &t->averages[i]));
    t->n_averages++;
  }
  return ELBO_OK;
}

static int by_offset(const void *a, const void *b) {
  const store_entry *const *x = a, *const *y = b;
  return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

static elbo_status list_trained(trainer *t, const train_phase *def, trained_list *list) {
  const elbo_graph *g = def->graph;
  size_t most = (size_t)g->n_nodes + 1;
  void *memory;
  TRY(array_new(t->ctx, most, sizeof(elbo_tensor *), "a phase's parameters", &memory));
  list->wrt = memory;
  TRY(array_new(t->ctx, most, sizeof(elbo_tensor *), "a phase's gradients", &memory));
  list->gradient = memory;
  TRY(array_new(t->ctx, most, sizeof(store_entry *), "a phase's parameters", &memory));
  list->entry = memory;
  const char *prefix = def->prefix ? def->prefix : "";
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *leaf = g->nodes[i];
    if (leaf->op != &op_parameter || strncmp(leaf->name, prefix, strlen(prefix)) != 0) continue;
    int at = store_index(t->weights, leaf->name);
    if (at < 0) return fail(t->ctx, ELBO_ERROR_ARGUMENT, "phase %s: the weights have no parameter '%s'", def->name, leaf->name);
    const store_entry *entry = &t->weights->entries[at];
    if (entry->kind == ELBO_PARAM_TRAINED && !train_is_frozen(t->config, entry->name)) list->entry[list->n++] = entry;
  }
  qsort(list->entry, (size_t)list->n, sizeof *list->entry, by_offset);
  for (int64_t k = 0; k < list->n; k++)
    for (int64_t i = 0; i < g->n_nodes; i++)
      if (g->nodes[i]->op == &op_parameter && strcmp(g->nodes[i]->name, list->entry[k]->name) == 0) list->wrt[k] = g->nodes[i]->out[0];
  if (!list->n)
    return fail(t->ctx, ELBO_ERROR_ARGUMENT, "phase %s: graph %s has no trained parameter whose name begins with '%s'%s", def->name,
                g->name, prefix, t->config->freeze.count ? " and that train.freeze leaves" : "");
  return elbo_gradient(def->loss, (int)list->n, list->wrt, list->gradient);
}

// Parameters that the loss does not depend on are left alone, weight decay included.
static elbo_status make_groups(trainer *t, phase_state *p, const trained_list *list) {
  void *memory;
  TRY(array_new(t->ctx, (size_t)list->n, sizeof(store_entry *), "a phase's parameters", &memory));
  const store_entry **entries = memory;
  int64_t n = 0;
  for (int64_t k = 0; k < list->n; k++)
    if (list->gradient[k]) entries[n++] = list->entry[k];
  elbo_status status =
      n ? parameter_groups_create(t->ctx, t->config, &p->config, n, entries, &p->groups)
        : fail(t->ctx, ELBO_ERROR_ARGUMENT, "phase %s: its loss depends on none of the parameters that it trains", p->def->name);
  free(entries);
  return status;
}

// A name that nothing belongs to is a slip of the pen.
static elbo_status check_frozen(trainer *t) {
  for (int64_t i = 0; i < t->config->freeze.count; i++) {
    const train_config one = {.freeze = {1, &t->config->freeze.at[i]}};
    bool met = false;
    for (int k = 0; k < t->weights->n; k++)
      met = met || (t->weights->entries[k].kind == ELBO_PARAM_TRAINED && train_is_frozen(&one, t->weights->entries[k].name));
    if (!met)
      return fail(t->ctx, ELBO_ERROR_ARGUMENT, "train.freeze: '%s': no trained parameter's name begins so (the first is '%s')",
                  t->config->freeze.at[i], t->weights->n ? t->weights->entries[0].name : "");
  }
  return ELBO_OK;
}

static elbo_status check_groups(trainer *t) {
  for (int of = 0; of < (int)t->config->groups.count; of++) {
    bool met = false;
    for (int i = 0; i < t->n_phases; i++)
      for (int k = 0; k < t->phases[i].groups.n; k++) met = met || t->phases[i].groups.at[k].of == of;
    if (!met)
      return fail(t->ctx, ELBO_ERROR_ARGUMENT, "train.groups.%s: no trained parameter's name begins so (the first is '%s')",
                  t->config->groups.name[of], t->weights->n ? t->weights->entries[0].name : "");
  }
  return ELBO_OK;
}

static elbo_status make_phase(trainer *t, phase_state *p) {
  const train_phase *def = p->def;
  TRY(elbo_graph_check(def->graph));
  if (!def->loss || elbo_tensor_dtype(def->loss) != ELBO_F32 || shape_count(&def->loss->shape) != 1)
    return fail(t->ctx, ELBO_ERROR_ARGUMENT, "phase %s: its loss is not one float32 number", def->name);
  p->config = def->optimizer ? *def->optimizer : train_optimizer(t->config);
  TRY(list_trained(t, def, &p->list));
  return make_groups(t, p, &p->list);
}

static void free_list(trained_list *list) {
  free(list->wrt);
  free(list->gradient);
  free(list->entry);
  *list = (trained_list){0};
}

static elbo_status add_value(trainer *t, const phase_state *p, const char *name, const char *unit, int64_t count, bool quiet, bool last) {
  const char *full = p == t->phases ? arena_string(t->arena, name) : arena_printf(t->arena, "%s.%s", p->def->name, name);
  if (!full) return fail_memory(t->ctx, strlen(name), "a metric's name");
  t->values[t->n_values++] = (step_value){full, unit ? unit : "", (int)count, t->numbers + t->n_numbers, quiet, last};
  t->n_numbers += count;
  return ELBO_OK;
}

static elbo_status make_values(trainer *t) {
  int64_t values = 0, numbers = 0;
  for (int i = 0; i < t->n_phases; i++) {
    const train_phase *def = t->phases[i].def;
    values += 3 + def->n_metrics, numbers += 3;
    for (int k = 0; k < def->n_metrics; k++) {
      const elbo_tensor *m = def->metrics[k].value;
      if (!m || m->dtype != ELBO_F32 || m->shape.rank > 1)
        return fail(t->ctx, ELBO_ERROR_ARGUMENT, "phase %s: metric '%s' is not a float32 number or vector", def->name,
                    def->metrics[k].name);
      numbers += shape_count(&m->shape);
    }
  }
  void *memory;
  TRY(array_new(t->ctx, (size_t)values, sizeof(step_value), "a trainer's metrics", &memory));
  t->values = memory;
  TRY(array_new(t->ctx, (size_t)numbers, sizeof(double), "a trainer's metrics", &memory));
  t->numbers = memory;
  for (int i = 0; i < t->n_phases; i++) {
    phase_state *p = &t->phases[i];
    p->first_value = t->n_values;
    TRY(add_value(t, p, "loss", "", 1, false, false));
    for (int k = 0; k < p->def->n_metrics; k++) {
      const train_metric *m = &p->def->metrics[k];
      TRY(add_value(t, p, m->name, m->unit, shape_count(&m->value->shape), m->quiet || m->value->shape.rank > 0, false));
    }
    TRY(add_value(t, p, "learning_rate", "", 1, true, true));
    TRY(add_value(t, p, "grad_norm", "", 1, true, false));
  }
  return ELBO_OK;
}

static elbo_status build_trainer(trainer *t, elbo_store *weights) {
  TRY(train_config_check(t->ctx, t->config));
  if (t->task->n_phases < 1) return fail(t->ctx, ELBO_ERROR_ARGUMENT, "a training task without phases");
  t->arena = arena_create(1 << 12);
  if (!t->arena) return fail_memory(t->ctx, 1 << 12, "a trainer");
  TRY(make_weights(t, weights));
  TRY(check_frozen(t));
  void *memory;
  size_t bytes = (size_t)t->weights->count[ELBO_PARAM_TRAINED] * sizeof(float);
  TRY(aligned_new(t->ctx, bytes, "gradients", &memory));
  t->gradient = memory;
  if (t->config->accumulate > 1) {
    TRY(aligned_new(t->ctx, bytes, "gradients of a micro-batch", &memory));
    t->micro = memory;
  }
  TRY(aligned_new(t->ctx, (size_t)t->weights->count[ELBO_PARAM_STATE] * sizeof(float), "a copy of the running statistics", &memory));
  t->state_before = memory;
  TRY(array_new(t->ctx, (size_t)t->task->n_phases, sizeof(phase_state), "a trainer's phases", &memory));
  t->phases = memory;
  t->n_phases = t->task->n_phases;
  for (int i = 0; i < t->n_phases; i++) {
    t->phases[i].def = &t->task->phases[i];
    TRY(make_phase(t, &t->phases[i]));
  }
  TRY(step_plans_create(t));
  for (int i = 0; i < t->n_phases; i++) {
    free_list(&t->phases[i].list);
    TRY(phase_inputs_create(t, &t->phases[i]));
  }
  TRY(check_groups(t));
  if (t->config->accumulate > 1 && t->n_phases > 1) {
    TRY(array_new(t->ctx, (size_t)t->config->accumulate, sizeof(data_batch), "staged batches", &memory));
    t->staged = memory;
  }
  return make_values(t);
}

elbo_status trainer_create(elbo_ctx *ctx, const train_config *config, const train_task *task, const train_source *source,
                           elbo_store *weights, trainer **out) {
  *out = NULL;
  void *memory;
  TRY(array_new(ctx, 1, sizeof(trainer), "a trainer", &memory));
  trainer *t = memory;
  t->ctx = ctx, t->config = config, t->task = task, t->source = source;
  elbo_status status = build_trainer(t, weights);
  if (status != ELBO_OK) {
    trainer_destroy(&t);
    return status;
  }
  *out = t;
  return ELBO_OK;
}

void trainer_destroy(trainer **address) {
  trainer *t = *address;
  *address = NULL;
  if (!t) return;
  step_batches_destroy(t);
  for (int i = 0; i < t->n_phases; i++) {
    if (t->phases[i].plan) elbo_plan_destroy(&t->phases[i].plan);
    parameter_groups_destroy(&t->phases[i].groups);
    free_list(&t->phases[i].list);
    free(t->phases[i].inputs);
  }
  free(t->phases);
  if (t->owns_weights) elbo_store_destroy(&t->weights);
  for (int i = 0; i < t->n_averages; i++) elbo_store_destroy(&t->averages[i]);
  aligned_free(t->gradient);
  aligned_free(t->micro);
  aligned_free(t->state_before);
  free(t->values);
  free(t->numbers);
  arena_destroy(&t->arena);
  free(t);
}

elbo_status trainer_start_from(trainer *t, elbo_status (*set)(void *user, elbo_store *weights), void *user) {
  TRY(set(user, t->weights));
  elbo_store_touch(t->weights);
  for (int i = 0; i < t->n_averages; i++) {
    store_assign(t->averages[i], t->weights);
    elbo_store_touch(t->averages[i]);
  }
  return ELBO_OK;
}

// --- a step ---

static size_t state_bytes(const trainer *t) { return (size_t)t->weights->count[ELBO_PARAM_STATE] * sizeof(float); }

static void restore_state(trainer *t) {
  if (state_bytes(t)) memcpy(t->weights->data[ELBO_PARAM_STATE], t->state_before, state_bytes(t));
  elbo_store_touch(t->weights);
}

// A loss or gradient that is not finite: the weights have not been touched yet, running statistics go back to what they were.
static elbo_status not_finite(trainer *t, phase_state *p, const data_batch *batch, const char *what, double value) {
  restore_state(t);
  t->skipped++, t->skipped_in_a_row++;
  bool stop = t->config->stop_on_nan || t->skipped_in_a_row > SKIPS_IN_A_ROW;
  if (!stop && t->skipped > 1) return ELBO_OK;
  char origin[512];
  TRY(step_diagnose(t, p, batch, origin, sizeof origin));
  restore_state(t);
  if (stop)
    return fail(t->ctx, ELBO_ERROR_NUMERIC, "step %lld: the %s of phase %s is %g; the first that is not finite: %s", (long long)t->step + 1,
                what, p->def->name, value, origin);
  log_warning(t->ctx, "step %lld skipped: the %s of phase %s is %g; the first that is not finite: %s", (long long)t->step + 1, what,
              p->def->name, value, origin);
  return ELBO_OK;
}

// Adds the outputs that are not gradients, times `share`, to the phase's values.
static double gather_values(trainer *t, phase_state *p, double share) {
  const train_phase *def = p->def;
  step_value *v = &t->values[p->first_value];
  int output = 0;
  v->at[0] += share * (double)*(const float *)elbo_plan_output(p->plan, output++);
  double enable = def->enable ? share * (double)*(const float *)elbo_plan_output(p->plan, output++) : share;
  if (def->observed) output++;
  for (int i = 0; i < def->n_metrics; i++) {
    const float *from = elbo_plan_output(p->plan, output++);
    v++;
    for (int d = 0; d < v->count; d++) v->at[d] += share * (double)from[d];
  }
  return enable;
}

// One micro-batch; *finite false: it was left out.
static elbo_status run_part(trainer *t, phase_state *p, int64_t part, double *enable, bool *finite) {
  const int64_t parts = t->config->accumulate;
  const data_batch *batch = NULL;
  TRY(step_batch(t, (int)(p - t->phases), part, &batch));
  if (!*finite) return ELBO_OK; // the rest of a batch that is not used is still consumed
  TRY(phase_inputs_fill(t, p, batch));
  TRY(elbo_plan_run(p->plan, t->weights));
  double loss = (double)*(const float *)elbo_plan_output(p->plan, 0);
  if (!isfinite(loss)) {
    *finite = false;
    return not_finite(t, p, batch, "loss", loss);
  }
  *enable += gather_values(t, p, 1.0 / (double)parts);
  double norm = groups_norm(&p->groups, t->micro ? t->micro : t->gradient, 1.0);
  if (!isfinite(norm)) {
    *finite = false;
    return not_finite(t, p, batch, "gradient norm", norm);
  }
  if (p->def->observed && t->task->observe) {
    train_rows rows = rows_of_batch(t, batch);
    t->task->observe(t->task->user, &rows, elbo_plan_output(p->plan, p->def->enable ? 2 : 1));
  }
  if (t->micro) {
    groups_accumulate(&p->groups, t->gradient, t->micro, part == 0);
    if (part + 1 == parts) norm = groups_norm(&p->groups, t->gradient, 1.0 / (double)parts);
  }
  t->values[p->first_value + p->def->n_metrics + 2].at[0] = norm;
  return ELBO_OK;
}

// Running statistics are averaged like the weights.
static void average_states(trainer *t, const weight_averages *averages) {
  const optimizer_kernels *kernels = optimizer_kernels_of(t->ctx->isa);
  int64_t n = t->weights->count[ELBO_PARAM_STATE];
  for (int i = 0; i < t->n_averages; i++) {
    if (n) kernels->average(t->averages[i]->data[ELBO_PARAM_STATE], t->weights->data[ELBO_PARAM_STATE], n, averages->decay[i]);
    elbo_store_touch(t->averages[i]);
  }
}

static elbo_status run_phase(trainer *t, phase_state *p, bool *finite) {
  const int64_t parts = t->config->accumulate;
  if (state_bytes(t)) memcpy(t->state_before, t->weights->data[ELBO_PARAM_STATE], state_bytes(t));
  double enable = 0;
  for (int64_t part = 0; part < parts; part++) TRY(run_part(t, p, part, &enable, finite));
  double rate = learning_rate_at(t->config, p->config.learning_rate, t->step);
  t->values[p->first_value + p->def->n_metrics + 1].at[0] = rate;
  if (!*finite || !(enable > 0.5)) return ELBO_OK;
  double norm = t->values[p->first_value + p->def->n_metrics + 2].at[0];
  weight_averages averages = {.n = t->n_averages};
  for (int i = 0; i < t->n_averages; i++) {
    averages.at[i] = t->averages[i]->data[ELBO_PARAM_TRAINED];
    averages.decay[i] = ema_decay_at(t->config, i, groups_updates(&p->groups));
  }
  groups_apply(&p->groups, t->config, t->step, 1.0 / (double)parts, norm, t->weights->data[ELBO_PARAM_TRAINED], t->gradient, &averages);
  elbo_store_touch(t->weights);
  average_states(t, &averages);
  return ELBO_OK;
}

elbo_status trainer_step(trainer *t) {
  if (!t->source) return fail(t->ctx, ELBO_ERROR_STATE, "this trainer has no data");
  for (int64_t i = 0; i < t->n_numbers; i++) t->numbers[i] = 0;
  bool all_finite = true;
  for (int i = 0; i < t->n_phases; i++) {
    bool finite = true;
    TRY(run_phase(t, &t->phases[i], &finite));
    all_finite &= finite;
  }
  if (all_finite && t->task->after_step) {
    t->task->after_step(t->task->user, t->step, t->weights, t->n_averages, t->averages);
    elbo_store_touch(t->weights);
    for (int i = 0; i < t->n_averages; i++) elbo_store_touch(t->averages[i]);
  }
  t->last_was_finite = all_finite;
  if (all_finite) t->skipped_in_a_row = 0;
  t->step++;
  return ELBO_OK;
}

// --- questions ---

int64_t trainer_steps_done(const trainer *t) { return t->step; }
elbo_store *trainer_weights(trainer *t) { return t->weights; }
elbo_store *trainer_averages(trainer *t) { return t->n_averages ? t->averages[0] : t->weights; }
double trainer_last_loss(const trainer *t) { return t->values[0].at[0]; }
elbo_plan *trainer_plan(trainer *t, int phase) { return phase >= 0 && phase < t->n_phases ? t->phases[phase].plan : NULL; }

void trainer_get_cost(const trainer *t, elbo_train_cost *out) {
  const elbo_store *w = t->weights;
  *out = (elbo_train_cost){0};
  int64_t floats = 0;
  for (int kind = 0; kind < 3; kind++) floats += w->count[kind];
  for (int i = 0; i < w->n; i++)
    if (w->entries[i].kind == ELBO_PARAM_TRAINED && !train_is_frozen(t->config, w->entries[i].name)) out->params += w->entries[i].count;
  out->weight_bytes = floats * (int64_t)sizeof(float) * (1 + t->n_averages);
  out->optimizer_bytes = (w->count[ELBO_PARAM_TRAINED] * (t->micro ? 2 : 1) + w->count[ELBO_PARAM_STATE]) * (int64_t)sizeof(float);
  out->recomputed = t->recomputed, out->recomputed_bytes = t->recomputed_bytes * t->config->accumulate;
  out->recomputed_flops = t->recomputed_flops * t->config->accumulate;
  for (int i = 0; i < t->n_phases; i++) {
    elbo_plan_info info;
    elbo_plan_get_info(t->phases[i].plan, &info);
    out->flops_per_step += info.flops * t->config->accumulate;
    out->moved_bytes += info.moved_bytes * t->config->accumulate;
    out->arena_bytes += info.arena_bytes;
    out->library_bytes += info.packed_bytes;
    out->optimizer_bytes += groups_bytes(&t->phases[i].groups);
  }
  if (t->source && t->source->bytes) out->loader_bytes = t->source->bytes(t->source->user);
  out->planned_bytes = out->arena_bytes + out->weight_bytes + out->optimizer_bytes + out->library_bytes + out->loader_bytes;
}
