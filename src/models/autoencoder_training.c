#include "models/autoencoder_training.h"

#include "ops/op.h"

static const unsigned of_example = 7u << 1; // height, width and channels

// -1..1 of pictures, which the loader gives in 0..1
static elbo_tensor *input_pictures(const autoencoder_spec *s, elbo_graph *g, int64_t batch) {
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){batch, s->shape.height, s->shape.width, s->shape.channels});
  return s->bits ? elbo_scale(x, 2, -1) : x;
}

static elbo_tensor *drawn(elbo_tensor *mean, elbo_tensor *logvar) {
  int64_t dim[4];
  if (!mean || !logvar) return NULL;
  for (int i = 0; i < 4; i++) dim[i] = elbo_tensor_dim(mean, i);
  elbo_tensor *epsilon = elbo_random_normal(elbo_tensor_graph(mean), "code", 4, dim);
  return elbo_add(mean, elbo_mul(elbo_exp(elbo_scale(logvar, 0.5, 0)), epsilon));
}

// KL(N(mean, e^logvar) || N(0, 1)) of each number
static elbo_tensor *kl_of(elbo_tensor *mean, elbo_tensor *logvar) {
  elbo_tensor *spread = elbo_sub(elbo_exp(logvar), elbo_scale(logvar, 1, 1));
  return elbo_scale(elbo_add(elbo_square(mean), spread), 0.5, 0);
}

// The decoder is built last, and its last convolution last of it.
static elbo_tensor *last_weight(const elbo_graph *g) {
  for (int64_t i = g->n_nodes - 1; i >= 0; i--) {
    const node *n = g->nodes[i];
    if (n->op == &op_parameter && n->out[0]->shape.rank == 4) return n->out[0];
  }
  return NULL;
}

autoencoder_pass autoencoder_forward(const autoencoder_spec *s, elbo_graph *g, int64_t batch, bool draw) {
  const codec_config *c = &s->network;
  autoencoder_pass p = {.x = input_pictures(s, g, batch)};
  codec_code code = codec_encode(c, p.x);
  p.mean = p.z = code.mean, p.logvar = code.logvar;
  if (c->network == CODEC_KL) {
    p.kl = kl_of(p.mean, p.logvar);
    if (draw) p.z = drawn(p.mean, p.logvar);
    p.y = kl_decoder(&c->kl, p.z);
  } else if (c->network == CODEC_VQ) {
    p.table = vq_codebook(&c->vq, g);
    p.quantized = quantize_vectors(p.mean, p.table);
    p.z = p.quantized.codes;
    p.y = vq_decoder(&c->vq, p.z);
  } else {
    p.y = tiny_decoder(&c->tiny, p.z);
  }
  p.last = last_weight(g);
  elbo_tensor *off = elbo_sub(p.x, p.y);
  p.error = elbo_mean(s->objective.reconstruction == ERROR_L1 ? elbo_abs(off) : elbo_square(off), of_example, 0);
  return p.error ? p : (autoencoder_pass){0};
}

elbo_tensor *autoencoder_mean(const autoencoder_terms *t, elbo_tensor *each) {
  if (!each) return NULL;
  const int rank = elbo_tensor_rank(each);
  if (rank > 1) each = elbo_mean(each, ((1u << rank) - 1) & ~1u, 0);
  return elbo_div(elbo_sum(elbo_mul(each, t->weight), ELBO_ALL_AXES, 0), t->total);
}

void autoencoder_metric(autoencoder_terms *t, const char *name, const char *unit, elbo_tensor *value, bool quiet) {
  t->out->metric[t->out->n_metrics++] = (train_metric){name, unit, value, quiet};
}

static elbo_tensor *kl_term(autoencoder_terms *t) {
  const autoencoder_spec *s = t->spec;
  const double numbers = (double)(s->shape.height * s->shape.width * s->shape.channels);
  elbo_tensor *kl = autoencoder_mean(t, elbo_sum_per_example(t->pass.kl));
  autoencoder_metric(t, "kl", "nats", kl, false);
  elbo_tensor *weight = elbo_reshape(t->weight, 4, (int64_t[]){t->batch, 1, 1, 1});
  elbo_tensor *channels = elbo_sum(elbo_mul(t->pass.kl, weight), 7u, 0);
  autoencoder_metric(t, "kl_channel", "nats", elbo_div(channels, t->total), true);
  return elbo_scale(kl, s->objective.kl / numbers, 0);
}

static elbo_tensor *table_term(autoencoder_terms *t) {
  const autoencoder_objective *o = &t->spec->objective;
  elbo_tensor *pull = quantization_loss(t->pass.mean, &t->pass.quantized, o->commitment, o->legacy, t->weight);
  autoencoder_metric(t, "quantization", "", pull, true);
  const int64_t codes = t->spec->network.vq.num_vq_embeddings, one = 1;
  elbo_tensor *shares = code_shares(&t->pass.quantized, codes, elbo_reshape(t->weight, 3, (int64_t[]){t->batch, 1, 1}));
  autoencoder_metric(t, "code_usage", "", elbo_mean(elbo_less(elbo_constant(t->g, 0), shares), ELBO_ALL_AXES, 0), false);
  autoencoder_metric(t, "perplexity", "codes", code_perplexity(shares), false);
  if (o->restart_steps > 0 && t->pass.quantized.index) {
    elbo_parameter(t->g, CODE_AGE, 1, &codes, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
    elbo_tensor *restarts = elbo_parameter(t->g, CODE_RESTARTS, 1, &one, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
    autoencoder_metric(t, "restarted", "codes", elbo_sum(restarts, ELBO_ALL_AXES, 0), true);
    int64_t dim[4];
    for (int i = 0; i < 3; i++) dim[i] = elbo_tensor_dim(t->pass.mean, i);
    dim[3] = 1;
    elbo_tensor *index = elbo_reshape(elbo_cast(t->pass.quantized.index, ELBO_F32), 4, dim);
    t->out->observed = elbo_stop_gradient(elbo_concat(2, (elbo_tensor *[]){t->pass.mean, index}, 3));
  }
  return pull;
}

static elbo_tensor *perceptual_term(autoencoder_terms *t) {
  elbo_tensor *x = elbo_scale(t->pass.x, 0.5, 0.5), *y = elbo_scale(t->pass.y, 0.5, 0.5);
  elbo_tensor *distance = autoencoder_mean(t, perceptual_distance(t->features, x, y));
  autoencoder_metric(t, "perceptual", "", distance, false);
  return elbo_scale(distance, t->spec->objective.perceptual_weight, 0);
}

static void build(autoencoder_terms *t) {
  const autoencoder_spec *s = t->spec;
  t->pass = autoencoder_forward(s, t->g, t->batch, true);
  elbo_tensor *error = autoencoder_mean(t, t->pass.error), *loss = error;
  autoencoder_metric(t, "reconstruction", s->objective.reconstruction == ERROR_L1 ? "l1" : "l2", error, false);
  if (t->features) loss = elbo_add(loss, perceptual_term(t));
  if (s->objective.adversarial > 0) loss = autoencoder_deceive(t, loss);
  if (s->network.network == CODEC_KL) loss = elbo_add(loss, kl_term(t));
  if (s->network.network == CODEC_VQ) loss = elbo_add(loss, table_term(t));
  t->out->loss = loss;
}

elbo_status autoencoder_training_build(elbo_ctx *ctx, const autoencoder_spec *spec, const perceptual *features, int64_t batch,
                                       autoencoder_training *out) {
  *out = (autoencoder_training){0};
  TRY(elbo_graph_create(ctx, "autoencoder", &out->graph));
  autoencoder_terms t = {.spec = spec, .features = features, .g = out->graph, .batch = batch, .out = out};
  t.weight = elbo_input(t.g, "weight", ELBO_F32, 1, &batch);
  t.total = elbo_sum(t.weight, ELBO_ALL_AXES, 0);
  build(&t);
  elbo_status status = elbo_graph_check(t.g);
  if (status == ELBO_OK && !out->loss) status = fail(ctx, ELBO_ERROR_INTERNAL, "the training graph of an autoencoder has no loss");
  if (status != ELBO_OK) elbo_graph_destroy(&out->graph);
  return status;
}
