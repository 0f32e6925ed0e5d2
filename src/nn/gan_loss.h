// What an adversary is trained by and what it is to be deceived by, element by element of its logits (positive: "real").
#ifndef NN_GAN_LOSS_H
#define NN_GAN_LOSS_H

#include <elbo/ops.h>

typedef enum gan_kind {
  GAN_NON_SATURATING, // [Goodfellow14 sec. 3]
  GAN_MINIMAX,        // [Goodfellow14 eq. 1]: the same adversary; what deceives it lowers log(1 - D)
  GAN_HINGE,          // [Lim17], [Miyato18 eq. 16, 17]
  GAN_LEAST_SQUARES,  // [Mao17 eq. 9]: 0 is "false", 1 is "real"
  GAN_WASSERSTEIN     // [Arjovsky17], with the penalty of [Gulrajani17 eq. 3]
} gan_kind;
#define GAN_KIND_NAMES "non_saturating|minimax|hinge|least_squares|wgan_gp"

// The adversary's loss on what is real and on what is not, and the loss of those who made it; nats where there are logarithms. Same shape
// as the logits.
elbo_tensor *gan_real_loss(gan_kind kind, elbo_tensor *logit);
elbo_tensor *gan_fake_loss(gan_kind kind, elbo_tensor *logit);
elbo_tensor *gan_generator_loss(gan_kind kind, elbo_tensor *logit);
// The logit between the two verdicts: 0, of least squares 1/2.
double gan_threshold(gan_kind kind);

// |d value / dx|^2 of each example: value (B), a function of its own row of x (B,...) alone -> (B), differentiable once more. R1 is half of
// its mean over what is real [Mescheder18 eq. 9].
elbo_tensor *gradient_square(elbo_tensor *value, elbo_tensor *x);
// (|d value / dx| - 1)^2 [Gulrajani17 eq. 3]
elbo_tensor *gradient_from_one(elbo_tensor *value, elbo_tensor *x);

#endif
