#include "models/diffusion_model.h"
elbo_status diffusion_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out) {(void)data,(void)config,(void)out; return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "stub"); }
