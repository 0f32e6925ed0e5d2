// One call of a recipe's network on a batch of noise, with its initial weights: what `bench: {forward: true}` measures.
#ifndef MODELS_FORWARD_CALL_H
#define MODELS_FORWARD_CALL_H

#include <elbo/dataset.h>
#include <elbo/graph.h>
#include <elbo/recipe.h>
#include <elbo/train.h>

typedef struct forward_call forward_call;

// Fits the network to the data, which give its shapes alone; train.batch_size examples. data NULL: opened from the recipe's data.path;
// otherwise borrowed for this call. On failure *out is NULL.
elbo_status forward_call_create(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, forward_call **out);
void forward_call_destroy(forward_call **call);
elbo_status forward_call_run(forward_call *call);
elbo_plan *forward_call_plan(forward_call *call);
// Of one call; what only training has is 0.
void forward_call_get_cost(const forward_call *call, elbo_train_cost *out);

#endif
