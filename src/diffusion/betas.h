// The betas of discrete processes.
#ifndef DIFFUSION_BETAS_H
#define DIFFUSION_BETAS_H

#include "diffusion/process.h"

#define BETA_SCHEDULE_NAMES "linear|scaled_linear|cosine|sigmoid|laplace|exp|table"

// out (config->steps), checked to lie in (0,1); with zero_snr rescaled, the last being 1 then. `where` stands in messages.
elbo_status betas_fill(elbo_ctx *ctx, const process_config *config, const char *where, double *out);

#endif
