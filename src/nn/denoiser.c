#include "nn/denoiser.h"

#include "backend/node.h"
#include "ops/op.h"

// That `t` is float32 (B,...,width) of that rank, or NULL when width is 0
static bool check_input(const denoiser_inputs *in, const elbo_tensor *t, const char *name, int rank, int64_t width, bool optional) {
  char text[SHAPE_TEXT];
  if (!t && (optional || width == 0)) return true;
  if (!t)
    return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "%s: missing; expected float32 (B,%s%lld)", name, rank == 3 ? "N," : "",
                      (long long)width) != NULL;
  if (width == 0) return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "%s: given, but this network has no use for it", name) != NULL;
  if (t->dtype == ELBO_F32 && t->shape.rank == rank && t->shape.dim[0] == in->sample->shape.dim[0] && t->shape.dim[rank - 1] == width)
    return true;
  return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "%s: is %s %s; expected float32 (%lld,%s%lld)", name, elbo_dtype_name(t->dtype),
                    shape_text(&t->shape, text), (long long)in->sample->shape.dim[0], rank == 3 ? "N," : "", (long long)width) != NULL;
}

static bool check_sample(const denoiser_needs *needs, const denoiser_inputs *in) {
  const elbo_tensor *x = in->sample, *t = in->timestep;
  char text[SHAPE_TEXT];
  if (!x || !t) return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "%s: missing", x ? "timestep" : "sample") != NULL;
  if (x->dtype != ELBO_F32 || x->shape.rank != 4 || x->shape.dim[3] != needs->in_channels)
    return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "sample: is %s %s; expected float32 (B,H,W,%lld)", elbo_dtype_name(x->dtype),
                      shape_text(&x->shape, text), (long long)needs->in_channels) != NULL;
  bool shared = needs->shared_time && t->shape.rank == 1 && t->shape.dim[0] == 1;
  if (t->dtype != ELBO_F32 || t->shape.rank != 1 || (t->shape.dim[0] != x->shape.dim[0] && !shared))
    return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "timestep: is %s %s; expected float32 (%lld)", elbo_dtype_name(t->dtype),
                      shape_text(&t->shape, text), (long long)x->shape.dim[0]) != NULL;
  return true;
}

static bool check_labels(const denoiser_needs *needs, const denoiser_inputs *in) {
  const elbo_tensor *c = in->class_labels;
  char text[SHAPE_TEXT];
  if (needs->class_labels == CLASS_INPUT_VECTOR) return check_input(in, c, "class_labels", 2, needs->class_dim, false);
  if (needs->class_labels == CLASS_INPUT_NONE) return check_input(in, c, "class_labels", 1, 0, false);
  elbo_dtype dtype = needs->class_labels == CLASS_INPUT_INDEX ? ELBO_I32 : ELBO_F32;
  if (!c) return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "class_labels: missing; expected %s (B)", elbo_dtype_name(dtype)) != NULL;
  if (c->dtype == dtype && c->shape.rank == 1 && c->shape.dim[0] == in->sample->shape.dim[0]) return true;
  return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "class_labels: is %s %s; expected %s (%lld)", elbo_dtype_name(c->dtype),
                    shape_text(&c->shape, text), elbo_dtype_name(dtype), (long long)in->sample->shape.dim[0]) != NULL;
}

// Two inputs of free widths that fill one projection between them
static bool check_added(const denoiser_needs *needs, const denoiser_inputs *in) {
  const elbo_tensor *text = in->text_embeds, *ids = in->time_ids;
  if (needs->added_dim == 0) return check_input(in, text, "text_embeds", 2, 0, false) && check_input(in, ids, "time_ids", 2, 0, false);
  int64_t p = elbo_tensor_dim(text, -1), k = elbo_tensor_dim(ids, -1);
  if (!check_input(in, text, "text_embeds", 2, text ? p : needs->added_dim, false)) return false;
  if (!check_input(in, ids, "time_ids", 2, ids ? k : needs->added_dim / needs->time_id_dim, false)) return false;
  if (p + k * needs->time_id_dim == needs->added_dim) return true;
  return graph_fail(in->graph, ELBO_ERROR_ARGUMENT, "text_embeds of %lld and %lld time_ids of %lld each: expected %lld numbers in all",
                    (long long)p, (long long)k, (long long)needs->time_id_dim, (long long)needs->added_dim) != NULL;
}

bool denoiser_inputs_check(const denoiser_needs *needs, const denoiser_inputs *in) {
  return check_sample(needs, in) && check_labels(needs, in) &&
         check_input(in, in->context, "encoder_hidden_states", 3, needs->context_dim, false) && check_added(needs, in) &&
         check_input(in, in->timestep_cond, "timestep_cond", 2, needs->timestep_cond_dim, true);
}

denoiser_inputs denoiser_declare(elbo_graph *g, const denoiser_needs *needs, const denoiser_call *call) {
  int64_t b = call->batch;
  denoiser_inputs in = {.graph = g, .training = call->training};
  in.sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){b, call->height, call->width, needs->in_channels});
  in.timestep = elbo_input(g, "timestep", ELBO_F32, 1, &b);
  if (needs->class_labels == CLASS_INPUT_INDEX) in.class_labels = elbo_input(g, "class_labels", ELBO_I32, 1, &b);
  if (needs->class_labels == CLASS_INPUT_NUMBER) in.class_labels = elbo_input(g, "class_labels", ELBO_F32, 1, &b);
  if (needs->class_labels == CLASS_INPUT_VECTOR)
    in.class_labels = elbo_input(g, "class_labels", ELBO_F32, 2, (int64_t[]){b, needs->class_dim});
  if (needs->context_dim)
    in.context = elbo_input(g, "encoder_hidden_states", ELBO_F32, 3, (int64_t[]){b, call->tokens, needs->context_dim});
  if (needs->added_dim) {
    int64_t rest = needs->added_dim - call->time_ids * needs->time_id_dim;
    in.text_embeds = elbo_input(g, "text_embeds", ELBO_F32, 2, (int64_t[]){b, rest});
    in.time_ids = elbo_input(g, "time_ids", ELBO_F32, 2, (int64_t[]){b, call->time_ids});
  }
  if (needs->timestep_cond_dim && call->timestep_cond)
    in.timestep_cond = elbo_input(g, "timestep_cond", ELBO_F32, 2, (int64_t[]){b, needs->timestep_cond_dim});
  return in;
}

int64_t graph_parameter_count(const elbo_graph *g) {
  int64_t count = 0;
  for (int64_t i = 0; i < g->n_nodes; i++)
    if (g->nodes[i]->op == &op_parameter) count += shape_count(&g->nodes[i]->out[0]->shape);
  return count;
}
