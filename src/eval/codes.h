// What the codes of many examples say about a posterior: which numbers are used, how much the code tells, whether the codes together look
// like the prior.
#ifndef EVAL_CODES_H
#define EVAL_CODES_H

#include "core/error.h"
#include "core/threads.h"

// Numbers of the code whose posterior mean varies over the data: Cov_x(E[z]) > 0.01 [Burda16 sec. 5.1]. mean: (n,d). variance (d) may be
// NULL.
int64_t active_units(const float *mean, int64_t n, int64_t d, double *variance);

// Standard error of that count over the choice of examples, the numbers taken as independent: each is active with the probability that its
// variance, normal with the error of a sample variance, lies above the threshold. NaN below four examples.
double active_units_error(const float *mean, int64_t n, int64_t d);

// Index-code mutual information I(i;z) in nats of n examples under their own posteriors [Hoffman16]: the mean of
// log q(z_i|x_i) - log (1/n) sum_j q(z_i|x_j), at most log n. mean, std, code: (n,d), code a draw of each posterior. each: (n) terms.
elbo_status index_code_information(elbo_ctx *ctx, const float *mean, const float *std, const float *code, int64_t n, int64_t d,
                                   double *each);

// Two-sample test of [Gretton12] with the inverse multiquadratic kernel of scale 2d: unbiased squared maximum mean discrepancy of
// a and b (n,d) each, its standard error over the codes, and the share of random relabellings (a function of seed) whose value is at least
// as large.
elbo_status two_sample_test(elbo_ctx *ctx, const float *a, const float *b, int64_t n, int64_t d, int relabellings, uint64_t seed,
                            double *discrepancy, double *error, double *p_value);

#endif
