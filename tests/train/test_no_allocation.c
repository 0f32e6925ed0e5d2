// A training step asks for no memory: what it needs was planned before the first one. Counted by standing in for malloc and its like, of
// every thread, between two calls of the progress function with no log, checkpoint or preview between them.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/train.h>

#include "support/test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define COUNTS 0
#elif defined(__has_feature)
#define COUNTS !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#else
#define COUNTS 1
#endif

#if COUNTS
static atomic_long asked;
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
  asked++;
  return __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
  asked++;
  return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size) {
  asked++;
  return __libc_realloc(p, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  asked++;
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **p, size_t alignment, size_t size) {
  asked++;
  *p = __libc_memalign(alignment, size);
  return *p ? 0 : 12;
}

enum { FROM = 12, TO = 28 };
typedef struct watcher {
  long at_from, at_to;
} watcher;

static int watch(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  watcher *w = user;
  (void)total, (void)text;
  if (strcmp(what, "train") != 0) return 1;
  if (done == FROM) w->at_from = asked;
  if (done == TO) w->at_to = asked;
  return 1;
}

static void a_step_asks_for_no_memory(void **state) {
  (void)state;
  static const char *const texts[] = {
      "model: {preset: ddpm, unet: {block_out_channels: [16, 32], norm_num_groups: 8, layers_per_block: 1,\n"
      "  down_block_types: [DownBlock2D, AttnDownBlock2D], up_block_types: [AttnUpBlock2D, UpBlock2D]}}\n"
      "data: {path: digits, limit: 64, size: 16}\n"
      "train: {steps: 30, batch_size: 4, learning_rate: 1e-3, ema: 0.9, clip_norm: 1, log_every: 100, seed: 3}\n",
      "model: {preset: vae-gan, latent: {dim: 4}, encoder: {type: conv, channels: [8, 8]}, decoder: {type: conv, channels: [8, 8]},\n"
      "  discriminator: {type: conv, channels: [8, 8]}}\n"
      "data: {path: digits, limit: 64, binarize: dynamic}\n"
      "train: {steps: 30, batch_size: 8, learning_rate: 1e-3, ema: 0, log_every: 100, accumulate: 2, seed: 3}\n"};
  elbo_ctx *ctx = test_ctx(2);
  for (int i = 0; i < 2; i++) {
    elbo_recipe *recipe;
    elbo_train_config config;
    elbo_train_result result;
    watcher w = {-1, -1};
    const char *path = test_path("counted.yaml");
    test_write_file(path, texts[i], strlen(texts[i]));
    assert_ok(ctx, elbo_recipe_load(ctx, path, 0, NULL, &recipe));
    elbo_train_defaults(&config);
    config.out = test_path(i ? "counted-gan" : "counted-ddpm"), config.progress = watch, config.progress_user = &w;
    assert_ok(ctx, elbo_train(ctx, recipe, &config, &result));
    assert_true(w.at_from > 0 && w.at_to > 0); // both were seen
    if (w.at_to != w.at_from) fail_msg("recipe %d: %ld requests for memory in %d steps", i, w.at_to - w.at_from, TO - FROM);
    elbo_recipe_destroy(&recipe);
  }
  elbo_ctx_destroy(&ctx);
}
#else
static void a_step_asks_for_no_memory(void **state) {
  (void)state;
  skip();
}
#endif

int main(void) {
#if !COUNTS
  puts("skipped: a sanitizer has malloc for itself");
  return 77;
#endif
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_step_asks_for_no_memory)};
  return cmocka_run_group_tests_name("no_allocation", tests, NULL, NULL);
}
