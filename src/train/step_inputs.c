// What goes into a step: batches by field name, the seed, and scalars from the task's schedule.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"
#include "train/trainer.h"

elbo_status phase_inputs_create(trainer *t, phase_state *p) {
  const elbo_graph *g = p->def->graph;
  int n = 0;
  for (int64_t i = 0; i < g->n_nodes; i++) n += g->nodes[i]->op == &op_input;
  void *memory;
  TRY(array_new(t->ctx, (size_t)n + 1, sizeof(phase_input), "a phase's inputs", &memory));
  p->inputs = memory;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *leaf = g->nodes[i];
    if (leaf->op != &op_input || !elbo_plan_input(p->plan, leaf->name)) continue;
    phase_input *input = &p->inputs[p->n_inputs++];
    input->name = arena_string(t->arena, leaf->name);
    if (!input->name) return fail_memory(t->ctx, strlen(leaf->name), "a phase's inputs");
    input->dtype = leaf->out[0]->dtype;
    input->shape = leaf->out[0]->shape;
    input->memory = elbo_plan_input(p->plan, leaf->name);
    input->bytes = elbo_plan_input_bytes(p->plan, leaf->name);
  }
  return ELBO_OK;
}

static const batch_field *find_field(const data_batch *batch, const char *name) {
  for (int i = 0; i < batch->n_fields; i++)
    if (strcmp(batch->field[i].name, name) == 0) return &batch->field[i];
  return NULL;
}

static elbo_status fill_from_field(trainer *t, const phase_state *p, const phase_input *input, const batch_field *field) {
  shape s = shape_of(field->rank, field->dim);
  size_t bytes = (size_t)shape_count(&s) * elbo_dtype_size(field->dtype);
  if (bytes != input->bytes || field->dtype != input->dtype) {
    char have[SHAPE_TEXT], want[SHAPE_TEXT];
    return fail(t->ctx, ELBO_ERROR_ARGUMENT, "phase %s: input '%s' is %s %s, the batch has %s %s", p->def->name, input->name,
                elbo_dtype_name(input->dtype), shape_text(&input->shape, want), elbo_dtype_name(field->dtype), shape_text(&s, have));
  }
  memcpy(input->memory, field->data, bytes);
  return ELBO_OK;
}

static elbo_status unknown_input(trainer *t, const phase_state *p, const phase_input *input, const data_batch *batch) {
  char fields[256] = "";
  for (int i = 0; i < batch->n_fields; i++) {
    size_t used = strlen(fields);
    snprintf(fields + used, sizeof fields - used, "%s%s", i ? ", " : "", batch->field[i].name);
  }
  return fail(t->ctx, ELBO_ERROR_ARGUMENT, "phase %s: nothing fills input '%s': the data give %s, and the objective does not know it",
              p->def->name, input->name, fields);
}

train_rows rows_of_batch(trainer *t, const data_batch *batch) {
  const batch_field *index = find_field(batch, "sample_index"), *weight = find_field(batch, "weight");
  return (train_rows){.step = t->step,
                      .steps = t->config->steps,
                      .n = batch->n_fields && batch->field[0].rank ? batch->field[0].dim[0] : 0,
                      .sample_index = index && index->dtype == ELBO_I64 ? index->data : NULL,
                      .weight = weight && weight->dtype == ELBO_F32 ? weight->data : NULL,
                      .weights = t->weights};
}

static bool fill_from_task(trainer *t, const phase_input *input, const data_batch *batch) {
  train_rows rows = rows_of_batch(t, batch);
  if (!t->task->fill || input->dtype != ELBO_F32 || input->shape.rank < 1 || rows.n < 1 || input->shape.dim[0] != rows.n) return false;
  return t->task->fill(t->task->user, &rows, input->name, shape_count(&input->shape) / rows.n, input->memory);
}

static elbo_status resolve(trainer *t, const phase_state *p, phase_input *input, const data_batch *batch) {
  float value;
  if (find_field(batch, input->name))
    input->source = INPUT_FROM_BATCH;
  else if (strcmp(input->name, "seed") == 0 && input->bytes == sizeof(int64_t))
    input->source = INPUT_FROM_SEED;
  else if (input->dtype == ELBO_F32 && shape_count(&input->shape) == 1 && t->task->schedule &&
           t->task->schedule(t->task->user, t->step, t->config->steps, input->name, &value))
    input->source = INPUT_FROM_SCHEDULE;
  else if (fill_from_task(t, input, batch))
    input->source = INPUT_FROM_TASK;
  else
    return unknown_input(t, p, input, batch);
  return ELBO_OK;
}

elbo_status phase_inputs_fill(trainer *t, phase_state *p, const data_batch *batch) {
  for (int i = 0; i < p->n_inputs; i++) {
    phase_input *input = &p->inputs[i];
    if (input->source == INPUT_UNRESOLVED) TRY(resolve(t, p, input, batch));
    switch (input->source) {
    case INPUT_FROM_BATCH: {
      const batch_field *field = find_field(batch, input->name);
      if (!field) return unknown_input(t, p, input, batch);
      TRY(fill_from_field(t, p, input, field));
      break;
    }
    case INPUT_FROM_TASK:
      if (!fill_from_task(t, input, batch)) return unknown_input(t, p, input, batch);
      break;
    case INPUT_FROM_SEED: memcpy(input->memory, &t->config->seed, sizeof(int64_t)); break;
    default:
      if (!t->task->schedule(t->task->user, t->step, t->config->steps, input->name, input->memory))
        return unknown_input(t, p, input, batch);
      break;
    }
  }
  return ELBO_OK;
}

// --- batches ---

static elbo_status next_batch(trainer *t, const data_batch **out) {
  TRY(t->source->next(t->source->user, out));
  if (!*out) return fail(t->ctx, ELBO_ERROR_STATE, "the data ended before step %lld", (long long)t->step + 1);
  return ELBO_OK;
}

// Copies `batch` into `to`, whose fields are allocated the first time.
static elbo_status stage(trainer *t, data_batch *to, const data_batch *batch) {
  for (int i = 0; i < batch->n_fields; i++) {
    const batch_field *from = &batch->field[i];
    shape s = shape_of(from->rank, from->dim);
    size_t bytes = (size_t)shape_count(&s) * elbo_dtype_size(from->dtype);
    if (i >= to->n_fields) {
      to->field[i] = *from;
      to->field[i].data = NULL;
      to->n_fields = i + 1;
      TRY(aligned_new(t->ctx, bytes, "a staged batch", &to->field[i].data));
    }
    shape have = shape_of(to->field[i].rank, to->field[i].dim);
    if (!shape_equal(&s, &have) || to->field[i].dtype != from->dtype || strcmp(to->field[i].name, from->name) != 0)
      return fail(t->ctx, ELBO_ERROR_ARGUMENT, "batch field '%s' changed its shape or type between batches", from->name);
    memcpy(to->field[i].data, from->data, bytes);
  }
  to->count = batch->count;
  return ELBO_OK;
}

// The first phase draws from the source; later ones see the same examples again. With one micro-batch that is the one still lent to us.
elbo_status step_batch(trainer *t, int phase, int64_t part, const data_batch **out) {
  if (t->staged && phase > 0) {
    *out = &t->staged[part];
    return ELBO_OK;
  }
  if (phase == 0) TRY(next_batch(t, &t->lent));
  *out = t->lent;
  if (t->staged) {
    TRY(stage(t, &t->staged[part], t->lent));
    *out = &t->staged[part];
  }
  return ELBO_OK;
}

void step_batches_destroy(trainer *t) {
  if (!t->staged) return;
  for (int64_t a = 0; a < t->config->accumulate; a++)
    for (int i = 0; i < t->staged[a].n_fields; i++) aligned_free(t->staged[a].field[i].data);
  free(t->staged);
  t->staged = NULL;
}
