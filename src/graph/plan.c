// Compiling: clean -> fuse -> choose kernels -> plan memory.
#include "graph/plan.h"

#include <stdlib.h>
#include <string.h>

#include "graph/fit.h"
#include "graph/fuse.h"
#include "graph/rewrite.h"
#include "ops/op.h"

void elbo_plan_defaults(elbo_plan_config *config) {
  *config = (elbo_plan_config){
      .size = sizeof *config, .backend = ELBO_BACKEND_CPU, .fuse = 1, .updates = 1, .keep_transformed = KEEP_TRANSFORMED};
}

static elbo_status load_config(elbo_ctx *ctx, const elbo_plan_config *given, elbo_plan_config *config) {
  elbo_plan_defaults(config);
  if (!given) return ELBO_OK;
  if (given->size == 0 || given->size > sizeof *config)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "elbo_plan_config.size is %zu: call elbo_plan_defaults first", given->size);
  memcpy(config, given, given->size);
  config->size = sizeof *config;
  return ELBO_OK;
}

static int64_t node_flops(const node *n) {
  if (n->op->flags & (OP_VIEW | OP_LEAF)) return 0;
  return n->op->flops ? n->op->flops(n) : shape_count(&n->out[0]->shape);
}

// Four times their size is what weights take as Winograd's kernels read them, and half of the last cache what they can have of it. Making a
// byte of that takes as long as 23 FLOPs of a call (batches 1 and 16 of a network of 36 million weights, two threads of Zen 4).
static void choose_kept(const elbo_graph *g, const elbo_plan_config *config, compile_env *env) {
  int64_t weights = 0, kernels = 0, flops = 0;
  if (!config->weights_constant) return;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const shape *s = &g->nodes[i]->out[0]->shape;
    flops += node_flops(g->nodes[i]);
    if (g->nodes[i]->op != &op_parameter) continue;
    weights += shape_count(s) * 4;
    if (s->rank == 4 && s->dim[2] * s->dim[3] > 1) kernels += shape_count(s) * 4;
  }
  env->weights_constant = true;
  env->weights_cached = 4 * weights <= env->ctx->last_cache_bytes / 2;
  if (config->memory_limit > 0) return; // what is kept is memory too
  env->keep_bytes = env->ctx->keep_transformed < 0 ? config->keep_transformed : env->ctx->keep_transformed;
  int64_t most = 4 * kernels < env->keep_bytes ? 4 * kernels : env->keep_bytes;
  env->making_shows = 23 * most >= flops / 20;
}

// Cleans and fuses into p->graph; `tensors` become the plan's.
static elbo_status lower(elbo_plan *p, compile_env *env, const elbo_graph *graph, const elbo_plan_config *config, int n,
                         elbo_tensor **tensors) {
  elbo_graph *once = NULL;
  TRY(graph_clean(p->ctx, graph, n, tensors, config->updates, &once));
  elbo_status again = graph_clean(p->ctx, once, n, tensors, config->updates, &p->graph); // what the first pass made needless
  elbo_graph_destroy(&once);
  TRY(again);
  choose_kept(p->graph, config, env);
  if (config->fuse && p->backend->fuses) {
    elbo_graph *cleaned = p->graph;
    p->graph = NULL;
    TRY(fuse_graph(env, p->backend, cleaned, n, tensors, config->updates, &p->graph));
  }
  return ELBO_OK;
}

// The name of the node, or of the parameter that it uses (through views), and the shape of its result.
static const char *step_label(const elbo_graph *g, const node *n) {
  const char *name = n->name;
  char text[SHAPE_TEXT];
  for (int i = 0; i < n->n_in && !name[0]; i++) {
    const elbo_tensor *t = n->in[i] ? graph_base(n->in[i]) : NULL;
    if (t && t->producer->op == &op_parameter) name = t->producer->name;
  }
  return arena_printf(g->arena, "%s%s%s", name, name[0] ? " " : "", shape_text(&n->out[0]->shape, text));
}

static elbo_status compile_steps(elbo_plan *p, compile_env *env) {
  elbo_graph *g = p->graph;
  int64_t n_steps = 0, n_params = 0;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    n_steps += !(g->nodes[i]->op->flags & (OP_LEAF | OP_VIEW));
    n_params += g->nodes[i]->op == &op_parameter;
  }
  TRY(array_new(p->ctx, (size_t)n_steps + 1, sizeof *p->steps, "a plan", (void **)&p->steps));
  TRY(array_new(p->ctx, (size_t)n_steps + 1, sizeof *p->inplace, "a plan", (void **)&p->inplace));
  TRY(array_new(p->ctx, (size_t)n_params + 1, sizeof *p->params, "a plan", (void **)&p->params));
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *n = g->nodes[i];
    if (n->op == &op_parameter) p->params[p->n_params++].leaf = n;
    if (n->op->flags & (OP_LEAF | OP_VIEW)) continue;
    plan_step *s = &p->steps[p->n_steps];
    p->inplace[p->n_steps++] = -1; // counted first: destroy then sees it
    s->node = n;
    elbo_status status = p->backend->compile(env, n, &s->kernel);
    if (status != ELBO_OK) return fail_within(p->ctx, status, "compiling %s%s%s", n->op->name, n->name[0] ? " " : "", n->name);
    p->kept_bytes += (int64_t)(s->kernel.persist_bytes + 63) / 64 * 64;
    p->packed_bytes += (int64_t)s->kernel.persist_bytes;
    s->in = arena_alloc(g->arena, sizeof *s->in * (size_t)(n->n_in + 1));
    s->out = arena_alloc(g->arena, sizeof *s->out * (size_t)(n->n_out + 1));
    s->version = arena_alloc(g->arena, sizeof *s->version * (size_t)(n->n_in + 1));
    s->label = step_label(g, n);
    if (!s->in || !s->out || !s->version || !s->label) return fail_memory(p->ctx, sizeof *s->in * (size_t)n->n_in, "a plan");
  }
  return ELBO_OK;
}

static void fill_constant(const elbo_plan *p, const node *n) {
  const constant_attr *a = n->attr;
  void *to = p->memory_of[plan_buffer(p, n->out[0])];
  int64_t count = shape_count(&a->shape);
  if (p->backend->element_size(ELBO_F32) == sizeof(float))
    p->backend->copy_in(to, a->values, sizeof(float) * (size_t)count);
  else
    for (int64_t i = 0; i < count; i++) ((double *)to)[i] = (double)a->values[i];
}

static elbo_status allocate(elbo_plan *p) {
  elbo_status status = p->backend->alloc(p->ctx, (size_t)(p->arena_bytes ? p->arena_bytes : 64), &p->arena);
  if (status != ELBO_OK)
    return fail_within(p->ctx, status, "the plan of graph %s needs %lld bytes", p->graph->name, (long long)p->arena_bytes);
  TRY(array_new(p->ctx, (size_t)p->n_buffers + 1, sizeof *p->memory_of, "a plan", (void **)&p->memory_of));
  for (int64_t i = 0; i < p->n_buffers; i++)
    if (p->buffers[i].in_arena) p->memory_of[i] = (char *)p->arena + p->buffers[i].offset;
  for (int i = 0; i < p->n_params; i++) p->params[i].buffer = plan_buffer(p, p->params[i].leaf->out[0]);
  for (int64_t i = 0; i < p->graph->n_nodes; i++)
    if (p->graph->nodes[i]->op == &op_constant) fill_constant(p, p->graph->nodes[i]);
  p->pointers_stale = true;
  return ELBO_OK;
}

void plan_forget(elbo_plan *p) {
  for (int i = 0; i < p->n_steps; i++)
    if (p->steps[i].kernel.destroy) p->steps[i].kernel.destroy(&p->steps[i].kernel);
  free(p->steps);
  free(p->inplace);
  free(p->params);
  free(p->buffers);
  free(p->buffer_of);
  elbo_plan gone;
  elbo_graph *graph = p->graph;
  plan_move_out(p, &gone);
  p->graph = graph;
}

void plan_move_out(elbo_plan *p, elbo_plan *to) {
  *to = *p;
  p->graph = NULL;
  p->steps = NULL;
  p->inplace = NULL;
  p->params = NULL;
  p->buffers = NULL;
  p->buffer_of = NULL;
  p->n_steps = p->n_params = 0;
  p->n_buffers = p->cap_buffers = p->packed_bytes = p->kept_bytes = 0;
}

elbo_status plan_place(elbo_plan *p, compile_env *env, const elbo_plan_config *config, elbo_tensor *const *tensors) {
  for (int i = 0; i < p->n_outputs; i++) {
    p->outputs[i].tensor = tensors[i];
    p->outputs[i].external = config->external_outputs && config->external_outputs[i];
  }
  TRY(compile_steps(p, env));
  TRY(array_new(p->ctx, (size_t)p->graph->n_tensors + 1, sizeof *p->buffer_of, "a plan", (void **)&p->buffer_of));
  TRY(plan_assign_buffers(p));
  return plan_memory(p->ctx, p->n_buffers, p->buffers, &p->arena_bytes);
}

static elbo_status choose_precision(elbo_plan *p, const elbo_plan_config *config, compile_env *env) {
  int precision = p->ctx->precision < 0 ? config->precision : p->ctx->precision;
  if (p->backend != &backend_cpu || precision == ELBO_PRECISION_FLOAT32) return ELBO_OK;
  env->bf16 = true;
  if (precision == ELBO_PRECISION_BFLOAT16_EMULATED) return ELBO_OK;
  env->bf16_unit = env->isa == ISA_V4 ? cpu_bf16() : BF16_NONE;
  if (env->bf16_unit != BF16_NONE) return ELBO_OK;
  const char *has = isa_name(env->isa), *which = env->isa == isa_best() ? "this processor has" : "asked for were the kernels of";
  return fail(p->ctx, ELBO_ERROR_UNSUPPORTED,
              "engine.precision: bfloat16 needs a processor with AVX512_BF16; %s %s without it. bfloat16-emulated rounds on any, "
              "float32 does not round",
              which, has);
}

static elbo_status build(elbo_plan *p, elbo_graph *graph, int n_outputs, elbo_tensor *const *outputs, const elbo_plan_config *config) {
  TRY(array_new(p->ctx, (size_t)n_outputs + 1, sizeof *p->outputs, "a plan", (void **)&p->outputs));
  p->n_outputs = n_outputs;
  elbo_tensor **tensors = NULL;
  TRY(array_new(p->ctx, (size_t)n_outputs + 1, sizeof *tensors, "a plan", (void **)&tensors));
  memcpy(tensors, outputs, sizeof *tensors * (size_t)n_outputs);
  compile_env env = {.ctx = p->ctx,
                     .isa = p->ctx->isa,
                     .pool = &p->ctx->pool,
                     .no_winograd = p->ctx->winograd == WINOGRAD_AS_ASKED ? config->no_winograd : p->ctx->winograd == WINOGRAD_OFF,
                     .kernel = config->kernel};
  elbo_status status = choose_precision(p, config, &env);
  if (status == ELBO_OK) status = lower(p, &env, graph, config, n_outputs, tensors);
  if (status == ELBO_OK) status = plan_place(p, &env, config, tensors);
  if (status == ELBO_OK && config->memory_limit > 0) status = plan_fit(p, &env, config, tensors);
  free(tensors);
  return status == ELBO_OK ? allocate(p) : status;
}

elbo_status elbo_plan_create(elbo_ctx *ctx, elbo_graph *graph, int n_outputs, elbo_tensor *const *outputs, const elbo_plan_config *given,
                             elbo_plan **out) {
  *out = NULL;
  elbo_plan_config config;
  TRY(load_config(ctx, given, &config));
  TRY(elbo_graph_check(graph));
  for (int i = 0; i < n_outputs; i++)
    if (!outputs[i] || outputs[i]->graph != graph)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "elbo_plan_create: output %d is not a tensor of graph %s", i, graph->name);
  elbo_plan *p = calloc(1, sizeof *p);
  if (!p) return fail_memory(ctx, sizeof *p, "a plan");
  p->ctx = ctx;
  p->poison = config.poison;
  p->backend = config.backend == ELBO_BACKEND_REFERENCE ? &backend_reference : &backend_cpu;
  elbo_status status = build(p, graph, n_outputs, outputs, &config);
  if (status != ELBO_OK) {
    elbo_plan_destroy(&p);
    return status;
  }
  *out = p;
  return ELBO_OK;
}

void elbo_plan_destroy(elbo_plan **plan) {
  elbo_plan *p = plan ? *plan : NULL;
  if (!p) return;
  plan_forget(p);
  if (p->arena) p->backend->free(p->arena);
  elbo_graph_destroy(&p->graph);
  free(p->memory_of);
  free(p->outputs);
  free(p);
  *plan = NULL;
}

// --- what is in it ---

static const node *find_input(const elbo_plan *p, const char *name) {
  for (int64_t i = 0; i < p->graph->n_nodes; i++)
    if (p->graph->nodes[i]->op == &op_input && strcmp(p->graph->nodes[i]->name, name) == 0) return p->graph->nodes[i];
  return NULL;
}

void *elbo_plan_input(elbo_plan *plan, const char *name) {
  const node *n = find_input(plan, name);
  return n ? plan->memory_of[plan_buffer(plan, n->out[0])] : NULL;
}

size_t elbo_plan_input_bytes(const elbo_plan *plan, const char *name) {
  const node *n = find_input(plan, name);
  return n ? plan_tensor_bytes(plan, n->out[0]) : 0;
}

elbo_status elbo_plan_set(elbo_plan *plan, const char *name, const float *values, int64_t count) {
  const node *n = find_input(plan, name);
  if (!n) return fail(plan->ctx, ELBO_ERROR_ARGUMENT, "the plan of graph %s has no input %s", plan->graph->name, name);
  const elbo_tensor *t = n->out[0];
  if (t->dtype != ELBO_F32) return fail(plan->ctx, ELBO_ERROR_ARGUMENT, "input %s is %s, not float32", name, elbo_dtype_name(t->dtype));
  if (count != shape_count(&t->shape))
    return fail(plan->ctx, ELBO_ERROR_ARGUMENT, "input %s has %lld elements, %lld given", name, (long long)shape_count(&t->shape),
                (long long)count);
  void *to = plan->memory_of[plan_buffer(plan, t)];
  if (plan->backend->element_size(ELBO_F32) == sizeof(float))
    plan->backend->copy_in(to, values, sizeof(float) * (size_t)count);
  else
    for (int64_t i = 0; i < count; i++) ((double *)to)[i] = (double)values[i];
  return ELBO_OK;
}

const void *elbo_plan_output(const elbo_plan *plan, int i) {
  return i >= 0 && i < plan->n_outputs ? plan->memory_of[plan_buffer(plan, plan->outputs[i].tensor)] : NULL;
}

void elbo_plan_bind_output(elbo_plan *plan, int i, void *memory) {
  plan->outputs[i].bound = memory;
  if (!plan->outputs[i].external) return;
  plan->memory_of[plan_buffer(plan, plan->outputs[i].tensor)] = memory;
  plan->pointers_stale = true;
}

static int64_t step_bytes(const elbo_plan *p, const node *n) {
  int64_t bytes = 0;
  if (n->op == &op_slice) return 2 * (int64_t)plan_tensor_bytes(p, n->out[0]); // what it leaves out is not touched
  for (int i = 0; i < n->n_in; i++) bytes += n->in[i] ? (int64_t)plan_tensor_bytes(p, n->in[i]) : 0;
  for (int i = 0; i < n->n_out; i++) bytes += (int64_t)plan_tensor_bytes(p, n->out[i]);
  return bytes;
}

// Every tensor that is made is written once; every one that anything reads, through views as well, is read once.
static int64_t least_bytes(const elbo_plan *p) {
  const elbo_graph *g = p->graph;
  bool *read = calloc((size_t)g->n_tensors + 1, sizeof *read);
  int64_t bytes = 0;
  for (int i = 0; read && i < p->n_steps; i++) {
    const node *n = p->steps[i].node;
    for (int k = 0; k < n->n_in; k++) {
      const elbo_tensor *t = n->in[k] ? graph_base(n->in[k]) : NULL;
      if (!t || read[t->id]) continue;
      read[t->id] = true;
      bytes += (int64_t)plan_tensor_bytes(p, t);
    }
    for (int k = 0; k < n->n_out; k++) bytes += (int64_t)plan_tensor_bytes(p, n->out[k]);
  }
  free(read);
  return bytes;
}

void elbo_plan_get_info(const elbo_plan *plan, elbo_plan_info *out) {
  *out = (elbo_plan_info){.arena_bytes = plan->arena_bytes - plan->kept_bytes,
                          .packed_bytes = plan->packed_bytes,
                          .steps = plan->n_steps,
                          .recomputed = plan->recomputed};
  for (int64_t i = 0; i < plan->n_buffers; i++)
    if (plan->buffers[i].in_arena) out->unshared_bytes += plan->buffers[i].bytes;
  for (int i = 0; i < plan->n_steps; i++) {
    out->flops += node_flops(plan->steps[i].node);
    out->moved_bytes += step_bytes(plan, plan->steps[i].node);
  }
  out->least_bytes = least_bytes(plan);
}

elbo_status elbo_plan_get_step(const elbo_plan *plan, int i, elbo_step_info *out) {
  if (i < 0 || i >= plan->n_steps) return fail(plan->ctx, ELBO_ERROR_ARGUMENT, "step %d of a plan that has %d", i, plan->n_steps);
  const plan_step *s = &plan->steps[i];
  *out = (elbo_step_info){.op = s->node->op->name,
                          .name = s->label,
                          .kernel = s->kernel.name ? s->kernel.name : "",
                          .flops = node_flops(s->node),
                          .bytes = step_bytes(plan, s->node),
                          .seconds = s->seconds,
                          .runs = s->runs,
                          .began = s->began};
  return ELBO_OK;
}

void elbo_plan_profile(elbo_plan *plan, int on) {
  plan->profile = on;
  for (int i = 0; on && i < plan->n_steps; i++) plan->steps[i].seconds = 0, plan->steps[i].runs = 0;
}
