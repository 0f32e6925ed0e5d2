#include "models/vae_gan_graph.h"

#include <math.h>

typedef struct gan_terms {
  const vae_gan_spec *spec;
  elbo_graph *g;
  int64_t batch;
  elbo_tensor *x, *weight, *total; // (B,H,W,C), (B), scalar
  elbo_tensor *beta, *adversarial; // scalars
  vae_latents z;
  elbo_tensor *reconstruction, *sample; // (B,H,W,C) decoded from the code of x, from a draw of the prior; NULL: not wanted
  elbo_tensor *prior;                   // (B,D) a draw; NULL: not wanted
} gan_terms;

static elbo_tensor *mean_of(const gan_terms *t, elbo_tensor *v) {
  return elbo_div(elbo_sum(elbo_mul(v, t->weight), ELBO_ALL_AXES, 0), t->total);
}

// (B) or (B,h,w,1) -> scalar
static elbo_tensor *batch_mean(const gan_terms *t, elbo_tensor *each) {
  if (!each) return NULL;
  return mean_of(t, elbo_tensor_rank(each) == 4 ? elbo_mean(each, 7u << 1, 0) : each);
}

static elbo_tensor *picture_of(const gan_terms *t, elbo_tensor *output) {
  likelihood l = vae_likelihood(&t->spec->vae, true);
  elbo_scope_push(t->g, "decoder");
  elbo_tensor *mean = likelihood_mean(&l, output);
  elbo_scope_pop(t->g);
  return mean;
}

// leaf: z enters the decoder and the likelihood as a leaf; what comes back to it is t->z.z, and t->z.drawn is where that goes on.
static void pass(gan_terms *t, bool leaf) {
  const vae_gan_objective *o = &t->spec->objective;
  latent_request request = {.spec = &t->spec->vae, .graph = t->g, .batch = t->batch, .samples = 1, .mode = LATENT_POSTERIOR};
  request.training = true, request.leaf = leaf;
  t->z = vae_latent_pass(&request);
  t->reconstruction = picture_of(t, t->z.output);
  if (o->adversary == ADVERSARY_CODE) {
    t->prior = elbo_random_normal(t->g, "prior", 2, (int64_t[]){t->batch, t->spec->vae.model.latent.dim});
  } else if (o->fakes != FAKES_RECONSTRUCTIONS) {
    request.mode = LATENT_PRIOR, request.leaf = false;
    t->sample = picture_of(t, vae_latent_pass(&request).output);
  }
}

// -log p(x|z) of each example, (B); NULL: there is none
static elbo_tensor *reconstruction_loss(const gan_terms *t, const discriminator *d) {
  const vae_gan_objective *o = &t->spec->objective;
  if (o->reconstruction == RECONSTRUCTION_NONE) return NULL;
  if (o->reconstruction == RECONSTRUCTION_PIXELS) {
    likelihood l = vae_likelihood(&t->spec->vae, true);
    elbo_scope_push(t->g, "decoder");
    elbo_tensor *log_x = likelihood_log_prob(&l, t->z.output, t->x, t->weight);
    elbo_scope_pop(t->g);
    return elbo_neg(log_x);
  }
  // a Gaussian of unit width around the features of the reconstruction [Larsen16 eq. 7, 8], without its constant
  int layer = (int)(o->layer ? o->layer : discriminator_layer_count(&t->spec->discriminator)) - 1;
  elbo_tensor *seen = discriminator_apply(d, t->x).feature[layer], *made = discriminator_apply(d, t->reconstruction).feature[layer];
  return elbo_scale(elbo_sum_per_example(elbo_square(elbo_sub(seen, made))), 0.5, 0);
}

// What the adversary is shown as not real: at most two, 0 after an error.
static int fakes_of(const gan_terms *t, elbo_tensor **fake) {
  const vae_gan_objective *o = &t->spec->objective;
  int n = 0;
  if (o->adversary == ADVERSARY_CODE) {
    fake[n++] = t->z.drawn;
  } else {
    if (o->fakes != FAKES_SAMPLES) fake[n++] = t->reconstruction;
    if (t->sample) fake[n++] = t->sample;
  }
  return n;
}

// The mean over the kinds of fakes. [Larsen16 algorithm 1] has their sum, with which an adversary that cannot tell would call two thirds of
// everything made, and be even at other losses than log 2.
static elbo_tensor *deceiving_loss(const gan_terms *t, const discriminator *d) {
  elbo_tensor *fake[2], *sum = NULL;
  int n = fakes_of(t, fake);
  for (int i = 0; i < n; i++) {
    elbo_tensor *each = batch_mean(t, gan_generator_loss(t->spec->objective.loss, discriminator_apply(d, fake[i]).logits));
    sum = sum ? elbo_add(sum, each) : each;
  }
  return n > 1 ? elbo_scale(sum, 1.0 / n, 0) : sum;
}

static void add_metric(vae_gan_graph *out, const char *name, const char *unit, elbo_tensor *value, bool quiet) {
  out->metric[out->n_metrics++] = (train_metric){name, unit, value, quiet};
}

// --- the adversary's losses, and who trains ---

typedef struct verdicts {
  elbo_tensor *real, *fake;                    // scalars: losses; of both kinds of fakes their mean
  elbo_tensor *real_right, *fake_right;        // shares that are told right
  elbo_tensor *real_logit, *real_x, *fakes[2]; // (B), what it is of; what was shown as not real
  int n_fakes;
} verdicts;

static elbo_tensor *above(const gan_terms *t, elbo_tensor *logits) {
  elbo_tensor *at = elbo_constant(t->g, gan_threshold(t->spec->objective.loss));
  return batch_mean(t, elbo_less(at, logits));
}

static verdicts judge(const gan_terms *t, const discriminator *d) {
  const vae_gan_objective *o = &t->spec->objective;
  verdicts v = {.real_x = o->adversary == ADVERSARY_CODE ? t->prior : t->x};
  discriminator_output real = discriminator_apply(d, v.real_x);
  v.real_logit = real.logit;
  v.real = batch_mean(t, gan_real_loss(o->loss, real.logits));
  v.real_right = above(t, real.logits);
  elbo_tensor *wrong = NULL;
  v.n_fakes = fakes_of(t, v.fakes);
  for (int i = 0; i < v.n_fakes; i++) {
    v.fakes[i] = elbo_stop_gradient(v.fakes[i]);
    discriminator_output fake = discriminator_apply(d, v.fakes[i]);
    elbo_tensor *loss = elbo_scale(batch_mean(t, gan_fake_loss(o->loss, fake.logits)), 1.0 / v.n_fakes, 0);
    elbo_tensor *taken = elbo_scale(above(t, fake.logits), 1.0 / v.n_fakes, 0);
    v.fake = v.fake ? elbo_add(v.fake, loss) : loss;
    wrong = wrong ? elbo_add(wrong, taken) : taken;
  }
  v.fake_right = elbo_scale(wrong, -1, 1);
  return v;
}

// 1 where the adversary (or the decoder) is to train: both losses above equilibrium - margin, or both below equilibrium + margin; where
// neither would, both do.
static elbo_tensor *switch_of(const gan_terms *t, const verdicts *v, bool decoder) {
  const vae_gan_objective *o = &t->spec->objective;
  elbo_tensor *started = elbo_less(elbo_constant(t->g, 0), t->adversarial);
  if (o->control == CONTROL_NONE) return decoder ? NULL : started;
  elbo_tensor *low = elbo_constant(t->g, o->equilibrium - o->margin), *high = elbo_constant(t->g, o->equilibrium + o->margin);
  elbo_tensor *adversary_off = elbo_maximum(elbo_less(v->real, low), elbo_less(v->fake, low));
  elbo_tensor *decoder_off = elbo_maximum(elbo_less(high, v->real), elbo_less(high, v->fake));
  elbo_tensor *both_off = elbo_mul(adversary_off, decoder_off);
  elbo_tensor *on = elbo_maximum(elbo_scale(decoder ? decoder_off : adversary_off, -1, 1), both_off);
  // before the adversary is there the decoder learns from the reconstruction
  return decoder ? elbo_maximum(on, elbo_scale(started, -1, 1)) : elbo_mul(on, started);
}

// --- the graphs ---

static elbo_tensor *penalty(const gan_terms *t, const verdicts *v, const discriminator *d) {
  const vae_gan_objective *o = &t->spec->objective;
  if (o->loss != GAN_WASSERSTEIN || o->gradient_penalty <= 0) return NULL;
  // at a random point between a real example and each made one [Gulrajani17 algorithm 1]
  elbo_tensor *sum = NULL;
  int64_t dim[4] = {t->batch, 1, 1, 1};
  for (int i = 0; i < v->n_fakes; i++) {
    static const char *const draw[] = {"between", "between.1"};
    elbo_tensor *fake = v->fakes[i], *u = elbo_random_uniform(t->g, draw[i], elbo_tensor_rank(fake), dim);
    elbo_tensor *between = elbo_add(fake, elbo_mul(u, elbo_sub(v->real_x, fake)));
    elbo_tensor *each = batch_mean(t, gradient_from_one(discriminator_apply(d, between).logit, between));
    sum = sum ? elbo_add(sum, each) : each;
  }
  return elbo_scale(sum, o->gradient_penalty / v->n_fakes, 0);
}

static void discriminator_graph(gan_terms *t, vae_gan_graph *out) {
  const vae_gan_objective *o = &t->spec->objective;
  picture_shape shape = vae_gan_adversary_shape(t->spec);
  discriminator d = discriminator_create(&t->spec->discriminator, t->g, &shape, true);
  pass(t, false);
  verdicts v = judge(t, &d);
  out->loss = elbo_add(v.real, v.fake);
  add_metric(out, "real", "", v.real, true);
  add_metric(out, "fake", "", v.fake, true);
  add_metric(out, "real_right", "", v.real_right, false);
  add_metric(out, "fake_right", "", v.fake_right, false);
  if (o->r1 > 0) {
    elbo_tensor *square = batch_mean(t, gradient_square(v.real_logit, v.real_x));
    add_metric(out, "r1", "", square, true);
    out->loss = elbo_add(out->loss, elbo_scale(square, 0.5 * o->r1, 0));
  }
  elbo_tensor *gp = penalty(t, &v, &d);
  if (gp) {
    add_metric(out, "gradient_penalty", "", gp, true);
    out->loss = elbo_add(out->loss, gp);
  }
  out->enable = switch_of(t, &v, false);
  if (out->enable) add_metric(out, "trains", "", elbo_scale(out->enable, 1, 0), true);
}

// KL + L_rec for the encoder and gamma L_rec + w L_adv for the decoder in one graph: the decoder reads z as a leaf, and what L_rec alone
// says of that leaf goes on to the encoder.
static elbo_tensor *encoder_share(const gan_terms *t, elbo_tensor *rec) {
  elbo_tensor *dz = NULL, *z = t->z.z;
  if (!rec || elbo_gradient(rec, 1, &z, &dz) != ELBO_OK || !dz) return NULL;
  elbo_tensor *along = elbo_sum(elbo_mul(elbo_stop_gradient(dz), t->z.drawn), ELBO_ALL_AXES, 0);
  return elbo_sub(along, elbo_stop_gradient(along)); // a gradient without a value
}

static void autoencoder_graph(gan_terms *t, gan_part part, vae_gan_graph *out) {
  const vae_gan_objective *o = &t->spec->objective;
  picture_shape shape = vae_gan_adversary_shape(t->spec);
  bool split = o->routing == ROUTING_SPLIT && o->adversary == ADVERSARY_PICTURES, both = part == GAN_AUTOENCODER;
  discriminator d = discriminator_create(&t->spec->discriminator, t->g, &shape, false);
  pass(t, split && both);
  elbo_tensor *kl = mean_of(t, t->z.kl), *rec = reconstruction_loss(t, &d), *adv = deceiving_loss(t, &d);
  if (rec) rec = mean_of(t, rec);
  elbo_tensor *kl_term = elbo_mul(t->beta, kl), *adv_term = elbo_mul(t->adversarial, adv), *loss = kl_term;
  if (split && part == GAN_ENCODER) {
    loss = elbo_add(loss, rec);
  } else {
    if (rec) loss = elbo_add(loss, elbo_scale(rec, o->gamma, 0));
    loss = elbo_add(loss, adv_term);
    if (split && both) loss = elbo_add(loss, encoder_share(t, rec));
  }
  out->loss = loss;
  if (part == GAN_DECODER) {
    verdicts v = judge(t, &d);
    out->enable = switch_of(t, &v, true);
    if (out->enable) add_metric(out, "trains", "", elbo_scale(out->enable, 1, 0), true);
    return;
  }
  add_metric(out, "kl", "nats", kl, false);
  if (rec) add_metric(out, o->reconstruction == RECONSTRUCTION_PIXELS ? "reconstruction" : "feature_loss", "nats", rec, false);
  add_metric(out, "adversarial", "", adv, false);
  add_metric(out, "beta", "", elbo_scale(t->beta, 1, 0), true);
  const latent_group *group = &t->z.group[0];
  elbo_tensor *weight = elbo_reshape(t->weight, 2, (int64_t[]){t->batch, 1});
  add_metric(out, "kl_dim", "nats", elbo_div(elbo_sum(elbo_mul(group->kl, weight), 1u, 0), t->total), true);
}

elbo_status vae_gan_graph_build(elbo_ctx *ctx, const vae_gan_spec *spec, gan_part part, int64_t batch, vae_gan_graph *out) {
  static const char *const names[] = {"autoencoder", "encoder", "decoder", "discriminator"};
  *out = (vae_gan_graph){0};
  TRY(elbo_graph_create(ctx, names[part], &out->graph));
  elbo_graph *g = out->graph;
  gan_terms t = {.spec = spec, .g = g, .batch = batch, .x = vae_input_x(&spec->vae, g, batch)};
  t.weight = elbo_input(g, "weight", ELBO_F32, 1, &batch);
  t.total = elbo_sum(t.weight, ELBO_ALL_AXES, 0);
  t.beta = elbo_input(g, "beta", ELBO_F32, 0, NULL);
  t.adversarial = elbo_input(g, "adversarial", ELBO_F32, 0, NULL);
  if (part == GAN_DISCRIMINATOR)
    discriminator_graph(&t, out);
  else
    autoencoder_graph(&t, part, out);
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK && !out->loss) status = fail(ctx, ELBO_ERROR_INTERNAL, "the training graph of the %s has no loss", names[part]);
  if (status != ELBO_OK) elbo_graph_destroy(&out->graph);
  return status;
}
