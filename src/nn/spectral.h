// The largest singular value of a weight, by the power iteration that follows it from step to step [Miyato18 algorithm 1].
#ifndef NN_SPECTRAL_H
#define NN_SPECTRAL_H

#include <stdbool.h>

#include <elbo/ops.h>

// weight (O,...) as a matrix (O,N); its singular vector on the O side is state parameter `name` of the present scope. trained: the
// iteration takes a step, and the vector moves with it. A scalar, differentiable by the weight, the singular vectors as they stand.
elbo_tensor *spectral_value(elbo_tensor *weight, const char *name, bool trained);

#endif
