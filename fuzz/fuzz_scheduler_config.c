// scheduler_config.json: what loads must be written to a text that loads to the same text, and its steps can be laid out or are refused.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "diffusion/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_steps(elbo_ctx *ctx, const scheduler_config *config) {
  process_config betas;
  process *p = NULL;
  schedule plan;
  scheduler_process(config, &betas);
  if (betas.type == PROCESS_DISCRETE && betas.steps > 2000) return; // slow, and no different
  if (process_create(ctx, &betas, "scheduler", &p) != ELBO_OK) return;
  for (int steps = 1; steps <= 20; steps += 6) {
    if (schedule_make(ctx, config, p, steps, &plan) == ELBO_OK && plan.steps < 1) abort();
    schedule_free(&plan);
  }
  process_destroy(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  elbo_ctx *ctx;
  scheduler_config config, back;
  if (elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) return 0;
  arena *a = arena_create(1 << 14);
  if (a && scheduler_parse(ctx, a, "scheduler_config.json", (const char *)data, size, &config) == ELBO_OK) {
    text_buffer first = {0}, second = {0};
    if (scheduler_text(ctx, &config, &first) != ELBO_OK) abort();
    if (scheduler_parse(ctx, a, "written", first.at, first.length, &back) != ELBO_OK) abort();
    if (scheduler_text(ctx, &back, &second) != ELBO_OK || strcmp(first.at, second.at) != 0) abort();
    free(first.at);
    free(second.at);
    check_steps(ctx, &config);
  }
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
  return 0;
}
