#pragma GCC diagnostic ignored "-Wshadow"
#include "diffusion/sampler.h"
static const config_field sampler_fields[] = {CONFIG_INT(sampler_config, steps, 0, 1e6, "0", "", ""), CONFIG_ENUM(sampler_config, sampler, "ddpm", SAMPLER_NAMES, ""),};
const config_table sampler_table = CONFIG_TABLE("solver", sampler_config, sampler_fields, "");
elbo_status scheduler_from_sampler(elbo_ctx *ctx, arena *a, const process_config *process, int prediction, double sigma_data, const sampler_config *sampler, const char *where, scheduler_config *out) { (void)ctx,(void)a,(void)process,(void)prediction,(void)sigma_data,(void)sampler,(void)where; out->class_=0; return ELBO_OK; }
elbo_status scheduler_of_process(elbo_ctx *ctx, arena *a, const process_config *process, int prediction, double sigma_data, scheduler_config *out) {(void)a,(void)process,(void)prediction,(void)sigma_data,(void)out; return fail(ctx, ELBO_ERROR_UNSUPPORTED, "stub"); }
elbo_status scheduler_read(elbo_ctx *ctx, arena *a, const char *path, scheduler_config *out) {(void)a,(void)path,(void)out; return fail(ctx, ELBO_ERROR_UNSUPPORTED, "stub"); }
elbo_status scheduler_write(elbo_ctx *ctx, const scheduler_config *config, const char *path) {(void)config,(void)path; return fail(ctx, ELBO_ERROR_UNSUPPORTED, "stub"); }
const char *scheduler_class_name(int class_) {(void)class_; return NULL;}
void scheduler_process(const scheduler_config *config, process_config *out) {(void)config,(void)out;}
elbo_status sampler_run(elbo_ctx *ctx, const sampler_request *request, double *x, int64_t *calls) {(void)ctx,(void)request,(void)x,(void)calls; return ELBO_OK;}
