// What an adversary adds to the training of an autoencoder, and how the adversary itself is trained.
#include "models/autoencoder_training.h"

#define ADAPTIVE_EPSILON 1e-4 // [Esser21, with the constants of its published code]
#define ADAPTIVE_MOST 1e4

// 0..1, as adversaries look at pictures
static elbo_tensor *seen(elbo_tensor *x) { return elbo_scale(x, 0.5, 0.5); }

// A gradient without a value: whose derivative with respect to y is `slope`, which is taken as it stands
static elbo_tensor *along(elbo_tensor *y, elbo_tensor *slope) { return elbo_sum(elbo_mul(elbo_stop_gradient(slope), y), ELBO_ALL_AXES, 0); }

static elbo_tensor *norm_of(elbo_tensor *v) { return elbo_sqrt(elbo_sum(elbo_square(v), ELBO_ALL_AXES, 0)); }

// |d rec / dW| / (|d adv / dW| + epsilon), from what each says of y
static elbo_tensor *adaptive_weight(const autoencoder_pass *p, elbo_tensor *const slope[2]) {
  elbo_tensor *norm[2], *last = p->last;
  for (int i = 0; i < 2; i++) {
    elbo_tensor *gradient = NULL;
    if (elbo_gradient(along(p->y, slope[i]), 1, &last, &gradient) != ELBO_OK || !gradient) return NULL;
    norm[i] = norm_of(gradient);
  }
  return elbo_clamp(elbo_div(norm[0], elbo_scale(norm[1], 1, ADAPTIVE_EPSILON)), 0, ADAPTIVE_MOST);
}

// The slopes at y are needed for the weight, so the decoder is differentiated along their weighed sum: the adversary's network is gone
// through backwards once.
elbo_tensor *autoencoder_deceive(autoencoder_terms *t, elbo_tensor *rec) {
  const autoencoder_objective *o = &t->spec->objective;
  discriminator d = discriminator_create(&t->spec->discriminator, t->g, &t->spec->shape, false);
  elbo_tensor *y = t->pass.y, *slope[2] = {NULL, NULL};
  elbo_tensor *adv = autoencoder_mean(t, gan_generator_loss(o->loss, discriminator_apply(&d, seen(y)).logits));
  if (elbo_gradient(rec, 1, &y, &slope[0]) != ELBO_OK || elbo_gradient(adv, 1, &y, &slope[1]) != ELBO_OK) return NULL;
  elbo_tensor *weight = elbo_input(t->g, "adversarial", ELBO_F32, 0, NULL);
  autoencoder_metric(t, "adversarial", "", adv, false);
  if (o->adaptive) {
    elbo_tensor *ratio = elbo_stop_gradient(adaptive_weight(&t->pass, slope));
    autoencoder_metric(t, "adaptive_weight", "", ratio, true);
    weight = elbo_mul(weight, ratio);
  }
  elbo_tensor *both = along(y, elbo_add(slope[0], elbo_mul(weight, slope[1])));
  elbo_tensor *value = elbo_add(rec, elbo_mul(weight, adv));
  return elbo_add(elbo_stop_gradient(value), elbo_sub(both, elbo_stop_gradient(both)));
}

// --- the adversary's own step ---

// Share of the verdicts above the threshold
static elbo_tensor *called_real(const autoencoder_terms *t, elbo_tensor *logits) {
  return autoencoder_mean(t, elbo_less(elbo_constant(t->g, gan_threshold(t->spec->objective.loss)), logits));
}

static void judge(autoencoder_terms *t) {
  const autoencoder_objective *o = &t->spec->objective;
  discriminator d = discriminator_create(&t->spec->discriminator, t->g, &t->spec->shape, true);
  t->pass = autoencoder_forward(t->spec, t->g, t->batch, true);
  elbo_tensor *x = seen(t->pass.x);
  discriminator_output real = discriminator_apply(&d, x), fake = discriminator_apply(&d, elbo_stop_gradient(seen(t->pass.y)));
  elbo_tensor *of_real = autoencoder_mean(t, gan_real_loss(o->loss, real.logits)),
              *of_fake = autoencoder_mean(t, gan_fake_loss(o->loss, fake.logits));
  t->out->loss = elbo_add(of_real, of_fake);
  autoencoder_metric(t, "real", "", of_real, true);
  autoencoder_metric(t, "fake", "", of_fake, true);
  autoencoder_metric(t, "real_right", "", called_real(t, real.logits), false);
  autoencoder_metric(t, "fake_right", "", elbo_scale(called_real(t, fake.logits), -1, 1), false);
  if (o->r1 > 0) {
    elbo_tensor *square = autoencoder_mean(t, gradient_square(real.logit, x));
    autoencoder_metric(t, "r1", "", square, true);
    t->out->loss = elbo_add(t->out->loss, elbo_scale(square, 0.5 * o->r1, 0));
  }
  t->out->enable = elbo_less(elbo_constant(t->g, 0), elbo_input(t->g, "adversarial", ELBO_F32, 0, NULL));
}

elbo_status autoencoder_adversary_build(elbo_ctx *ctx, const autoencoder_spec *spec, int64_t batch, autoencoder_training *out) {
  *out = (autoencoder_training){0};
  TRY(elbo_graph_create(ctx, "discriminator", &out->graph));
  autoencoder_terms t = {.spec = spec, .g = out->graph, .batch = batch, .out = out};
  t.weight = elbo_input(t.g, "weight", ELBO_F32, 1, &batch);
  t.total = elbo_sum(t.weight, ELBO_ALL_AXES, 0);
  judge(&t);
  elbo_status status = elbo_graph_check(t.g);
  if (status == ELBO_OK && !out->loss) status = fail(ctx, ELBO_ERROR_INTERNAL, "the training graph of an adversary has no loss");
  if (status != ELBO_OK) elbo_graph_destroy(&out->graph);
  return status;
}
