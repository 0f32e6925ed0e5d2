// The likelihoods of 256 levels.
#ifndef NN_LIKELIHOOD_DISCRETE_H
#define NN_LIKELIHOOD_DISCRETE_H

#include "nn/likelihood.h"

// log P(level) of a logistic of location m and log-scale log_s (both in units of x in 0..1), elementwise, over the 256 levels x = i/255;
// the first and the last level take the tails
elbo_tensor *discretized_logistic_log_prob(elbo_tensor *x, elbo_tensor *m, elbo_tensor *log_s);
elbo_tensor *discretized_logistic_draw(elbo_graph *g, const char *name, const int64_t dim[4], elbo_tensor *m, elbo_tensor *log_s);

elbo_tensor *logistic_mixture_log_prob(const likelihood *l, elbo_tensor *p, elbo_tensor *x); // -> (R)
elbo_tensor *logistic_mixture_mean(const likelihood *l, elbo_tensor *p);
elbo_tensor *logistic_mixture_centred(const likelihood *l, elbo_tensor *p, elbo_tensor *x, double width); // as likelihood_centred
elbo_tensor *logistic_mixture_draw(const likelihood *l, elbo_tensor *p, const char *name);

elbo_tensor *categorical_log_prob(const likelihood *l, elbo_tensor *p, elbo_tensor *x); // -> (R)
elbo_tensor *categorical_mean(const likelihood *l, elbo_tensor *p);
elbo_tensor *categorical_draw(const likelihood *l, elbo_tensor *p, const char *name);

// One-hot draw of the last axis with the given probabilities (...,K); the uniform number is (...,1)
elbo_tensor *choose_one(elbo_tensor *probability, elbo_tensor *uniform);

#endif
