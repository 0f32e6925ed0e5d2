// What stands between a decoder's numbers and a picture: p(x | z). Every log-probability is per example, in nats, summed over height,
// width and channels; x is in 0..1. Densities (Gaussian, Laplace, continuous Bernoulli) are with respect to x in 0..1; the discretised
// ones give probabilities of the 256 levels x = i/255 and need 8-bit pictures.
#ifndef NN_LIKELIHOOD_H
#define NN_LIKELIHOOD_H

#include <stdbool.h>

#include <elbo/ops.h>

typedef enum likelihood_kind {
  LIKELIHOOD_BERNOULLI,
  LIKELIHOOD_CONTINUOUS_BERNOULLI, // [LoaizaGanem19]
  LIKELIHOOD_GAUSSIAN,
  LIKELIHOOD_LAPLACE,
  LIKELIHOOD_DISCRETIZED_LOGISTIC, // [Kingma16]
  LIKELIHOOD_LOGISTIC_MIXTURE,     // [Salimans17], channels coupled linearly
  LIKELIHOOD_CATEGORICAL           // 256 levels
} likelihood_kind;
#define LIKELIHOOD_NAMES "bernoulli|continuous_bernoulli|gaussian|laplace|discretized_logistic|logistic_mixture|categorical256"

// Where the width of Gaussian, Laplace and discretised logistic comes from.
typedef enum variance_kind {
  WIDTH_AUTO,    // gaussian: fixed; laplace: learned; discretized_logistic: pixel
  WIDTH_FIXED,   // `sigma`
  WIDTH_LEARNED, // one number, a parameter
  WIDTH_PIXEL,   // a decoder output per number of x
  WIDTH_OPTIMAL  // gaussian: the batch's mean squared error while training [Rybkin21], a frozen width afterwards
} variance_kind;
#define WIDTH_NAMES "auto|fixed|learned|pixel|optimal"

typedef struct likelihood {
  int kind, variance;
  double sigma; // fixed, or where learning begins; in units of x
  int mixtures;
  int64_t channels; // of x
  bool training;    // optimal: measure and update the running sigma
} likelihood;

// Makes WIDTH_AUTO definite.
int likelihood_variance(int kind, int variance);
// Whether the pair makes sense ("bernoulli" has no variance).
bool likelihood_valid(int kind, int variance);
// Numbers per pixel that the decoder gives.
int64_t likelihood_width(const likelihood *l);
bool likelihood_discrete(const likelihood *l); // a probability of 256 levels

// Whether it has a location in the units of x, which likelihood_centred can move.
bool likelihood_has_location(const likelihood *l);
// p with its locations moved by x - 1/2, (R,H,W,channels), and widths of its own about `width` (in units of x; a mixture's components
// spread around it): where p is 0 the likelihood lies at x. A mixture's coupling then acts on how far a channel is from x.
elbo_tensor *likelihood_centred(const likelihood *l, elbo_tensor *p, elbo_tensor *x, double width);

// p: (R,H,W,width); x: (R,H,W,channels) -> (R). weight (R) or NULL: rows that count (padding has 0), for the optimal variance. Parameters
// are made in the present scope ("log_sigma").
elbo_tensor *likelihood_log_prob(const likelihood *l, elbo_tensor *p, elbo_tensor *x, elbo_tensor *weight);
// Expected x, in 0..1, (R,H,W,channels). Of the discretised logistics their location, kept in 0..1.
elbo_tensor *likelihood_mean(const likelihood *l, elbo_tensor *p);
// A draw, the random stream from `name`; a row is an example
elbo_tensor *likelihood_draw(const likelihood *l, elbo_tensor *p, const char *name);

// Shared with the latent code: row-wise sums of Gaussian log-densities
// z, mean, log_std: (R,D) or broadcastable -> (R,D), elementwise
elbo_tensor *gaussian_log_density(elbo_tensor *z, elbo_tensor *mean, elbo_tensor *log_std);

#endif
