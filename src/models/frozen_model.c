#include "models/frozen_model.h"

#include <string.h>

#include "core/sha256.h"
#include "data/dataset.h"
#include "train/train_config.h"

const char *frozen_model_named(const elbo_recipe *recipe) {
  const frozen_key *key = &recipe->preset->frozen;
  const char *text = key->name ? *(const char *const *)(const void *)((const char *)recipe->config + key->offset) : NULL;
  return text ? text : "";
}

const elbo_recipe *frozen_model_stage(const elbo_recipe *recipe) {
  const char *name = frozen_model_named(recipe);
  return *name ? recipe_earlier_stage(recipe, name) : NULL;
}

// A model of a stage that has not been trained.
static elbo_status open_untrained(elbo_ctx *ctx, const elbo_recipe *stage, elbo_dataset *data, elbo_model **out) {
  if (!stage->preset->untrained)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "stage %s: nothing is built on a model of preset %s", stage->stage_name, stage->preset->name);
  preset_request request = {.file = stage->name,
                            .stage = stage->stage,
                            .config = stage->config,
                            .data = data,
                            .micro_batch = train_micro_batch(&stage->stage->train)};
  if (!data) TRY(dataset_open_config(ctx, &stage->stage->data, &request.data));
  elbo_dataset_get_info(request.data, &request.info);
  elbo_status status = stage->preset->untrained(ctx, &request, out);
  if (!data) elbo_dataset_destroy(&request.data);
  return status;
}

elbo_status frozen_model_open(elbo_ctx *ctx, const elbo_recipe *recipe, const char *path, elbo_dataset *data, elbo_model **out) {
  const char *name = frozen_model_named(recipe);
  const elbo_recipe *stage = frozen_model_stage(recipe);
  *out = NULL;
  if (!*name) return ELBO_OK;
  elbo_status status = stage && !path ? open_untrained(ctx, stage, data, out) : elbo_model_load(ctx, path ? path : name, NULL, out);
  if (status == ELBO_OK && !(*out)->store)
    status = fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: a model without weights (%s)", name, (*out)->kind->preset);
  if (status == ELBO_OK) return ELBO_OK;
  elbo_model_destroy(out);
  return fail_within(ctx, status, "%s: %s", recipe->name, recipe->preset->frozen.name);
}

elbo_status frozen_model_hash(const elbo_model *m, char out[65]) {
  sha256 hash;
  elbo_param_info p;
  sha256_begin(&hash);
  for (int i = 0; i < elbo_store_count(m->store); i++) {
    TRY(elbo_store_get(m->store, i, &p));
    sha256_add(&hash, p.name, strlen(p.name) + 1);
    sha256_add(&hash, p.dim, (size_t)p.rank * sizeof *p.dim);
    sha256_add(&hash, p.data, (size_t)p.count * sizeof(float));
  }
  sha256_end_hex(&hash, out);
  return ELBO_OK;
}
