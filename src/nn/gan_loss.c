#include "nn/gan_loss.h"

elbo_tensor *gan_real_loss(gan_kind kind, elbo_tensor *logit) {
  switch (kind) {
  case GAN_NON_SATURATING:
  case GAN_MINIMAX: return elbo_softplus(elbo_neg(logit)); // -log sigmoid
  case GAN_HINGE: return elbo_relu(elbo_scale(logit, -1, 1));
  case GAN_LEAST_SQUARES: return elbo_scale(elbo_square(elbo_scale(logit, 1, -1)), 0.5, 0);
  case GAN_WASSERSTEIN: return elbo_neg(logit);
  }
  return NULL;
}

elbo_tensor *gan_fake_loss(gan_kind kind, elbo_tensor *logit) {
  switch (kind) {
  case GAN_NON_SATURATING:
  case GAN_MINIMAX: return elbo_softplus(logit); // -log(1 - sigmoid)
  case GAN_HINGE: return elbo_relu(elbo_scale(logit, 1, 1));
  case GAN_LEAST_SQUARES: return elbo_scale(elbo_square(logit), 0.5, 0);
  case GAN_WASSERSTEIN: return elbo_scale(logit, 1, 0);
  }
  return NULL;
}

elbo_tensor *gan_generator_loss(gan_kind kind, elbo_tensor *logit) {
  switch (kind) {
  case GAN_NON_SATURATING: return elbo_softplus(elbo_neg(logit));
  case GAN_MINIMAX: return elbo_neg(elbo_softplus(logit)); // log(1 - sigmoid)
  case GAN_HINGE:
  case GAN_WASSERSTEIN: return elbo_neg(logit);
  case GAN_LEAST_SQUARES: return elbo_scale(elbo_square(elbo_scale(logit, 1, -1)), 0.5, 0);
  }
  return NULL;
}

double gan_threshold(gan_kind kind) { return kind == GAN_LEAST_SQUARES ? 0.5 : 0; }

elbo_tensor *gradient_square(elbo_tensor *value, elbo_tensor *x) {
  elbo_tensor *slope = NULL;
  if (!value || !x || elbo_gradient(value, 1, &x, &slope) != ELBO_OK || !slope) return NULL;
  return elbo_sum_per_example(elbo_square(slope));
}

elbo_tensor *gradient_from_one(elbo_tensor *value, elbo_tensor *x) {
  // the root has no slope at 0, where a penalty may begin
  elbo_tensor *length = elbo_sqrt(elbo_scale(gradient_square(value, x), 1, 1e-12));
  return elbo_square(elbo_scale(length, 1, -1));
}
