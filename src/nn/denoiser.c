#include "nn/denoiser.h"

#include "backend/node.h"

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
  if (t->dtype != ELBO_F32 || t->shape.rank != 1 || t->shape.dim[0] != x->shape.dim[0])
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

bool denoiser_inputs_check(const denoiser_needs *needs, const denoiser_inputs *in) {
  return check_sample(needs, in) && check_labels(needs, in) &&
         check_input(in, in->context, "encoder_hidden_states", 3, needs->context_dim, false) &&
         check_input(in, in->text_embeds, "text_embeds", 2, needs->text_embeds_dim, false) &&
         check_input(in, in->time_ids, "time_ids", 2, needs->time_ids, false) &&
         check_input(in, in->timestep_cond, "timestep_cond", 2, needs->timestep_cond_dim, true);
}
