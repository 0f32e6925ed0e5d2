// The run directory: resume to the bit after stops and kills, retention, refusals, full disks.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tiny_task.h"

#include "train/run_directory.h"

static const char recipe[] = "model:\n  latent:\n    dim: 20\ntrain:\n  steps: 40\n  learning_rate: 1e-3\n";

typedef struct job {
  train_config config;
  const char *out;
  bool resume;
  int64_t stop_at; // the callback says stop after so many steps; -1: never
  int kill_in_save;
  bool fail_save, two_phases;
  const char *recipe;
  elbo_train_result result;
  char message[1024];
  int64_t progress_calls;
  char text[512];
} job;

static int on_progress(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  job *j = user;
  assert_string_equal(what, "train");
  assert_int_equal(total, j->config.steps);
  j->progress_calls++;
  snprintf(j->text, sizeof j->text, "%s", text);
  return done != j->stop_at;
}

static job new_job(const char *out) { return (job){.config = tiny_config(), .out = out, .stop_at = -1, .recipe = recipe}; }

static elbo_status run_job_in(elbo_ctx *ctx, job *j) {
  tiny task;
  tiny_create(&task, ctx, &j->config);
  if (j->two_phases) tiny_second_phase(&task, task.data.batch, true);
  task.kill_in_save = j->kill_in_save, task.fail_save = j->fail_save;
  run_options o = {.out = j->out, .resume = j->resume, .recipe_text = j->recipe, .train = &j->config, .source = task.source};
  o.progress = on_progress, o.progress_user = j;
  elbo_status status = run_training(ctx, &o, &task.task, &j->result);
  snprintf(j->message, sizeof j->message, "%s", status == ELBO_OK ? "" : elbo_ctx_message(ctx));
  if (status == ELBO_OK && !j->result.already_finished) assert_true(task.watched_loss == j->result.loss);
  tiny_destroy(&task);
  return status;
}

static elbo_status run_job(job *j) {
  elbo_ctx *ctx = test_ctx(1);
  elbo_status status = run_job_in(ctx, j);
  elbo_ctx_destroy(&ctx);
  return status;
}

static void assert_runs(job *j) {
  elbo_status status = run_job(j);
  if (status != ELBO_OK) fail_msg("%s: %s", j->out, j->message);
}

static void assert_fails(job *j, elbo_status expected, const char *part) {
  elbo_status status = run_job(j);
  if (status != expected || !strstr(j->message, part))
    fail_msg("%s: %s '%s', expected %s naming '%s'", j->out, elbo_status_name(status), j->message, elbo_status_name(expected), part);
}

// --- two runs compared ---

static char *slurp(const char *run, const char *name, size_t *size) {
  char path[4096], *data;
  snprintf(path, sizeof path, "%s/%s", run, name);
  elbo_ctx *ctx = test_ctx(1);
  elbo_status status = file_read(ctx, path, 1 << 26, &data, size);
  if (status != ELBO_OK) fail_msg("%s", elbo_ctx_message(ctx));
  elbo_ctx_destroy(&ctx);
  return data;
}

// metrics.jsonl without what depends on the clock, which comes last in every line.
static char *timeless_metrics(const char *run) {
  size_t size, kept = 0;
  char *text = slurp(run, "metrics.jsonl", &size);
  bool skipping = false;
  for (size_t i = 0; i < size; i++) {
    if (strncmp(text + i, ", \"seconds\"", 11) == 0) skipping = true;
    if (text[i] == '\n') skipping = false;
    if (!skipping) text[kept++] = text[i];
  }
  text[kept] = '\0';
  return text;
}

static void assert_same_file(const char *a, const char *b, const char *name) {
  size_t size_a, size_b;
  char *x = slurp(a, name, &size_a), *y = slurp(b, name, &size_b);
  if (size_a != size_b || memcmp(x, y, size_a) != 0) fail_msg("%s differs between %s and %s:\n%.600s\n%.600s", name, a, b, x, y);
  free(x), free(y);
}

static void assert_same_run(const char *a, const char *b) {
  static const char *const names[] = {"recipe.yaml", "checkpoints/step-40/model.safetensors",
                                      "checkpoints/step-40/training/state.safetensors", "checkpoints/step-40/training/state.json",
                                      "checkpoints/step-40/training/kernels.json"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) assert_same_file(a, b, names[i]);
  char *x = timeless_metrics(a), *y = timeless_metrics(b);
  if (strcmp(x, y) != 0) fail_msg("metrics.jsonl of %s and %s differ:\n%s\n---\n%s", a, b, x, y);
  assert_true(strlen(x) > 1000);
  free(x), free(y);
}

// The run that nobody disturbed.
static const char *reference(bool two_phases) {
  static char path[2][4096];
  char *p = path[two_phases];
  if (*p) return p;
  snprintf(p, sizeof path[0], "%s", test_path(two_phases ? "reference2" : "reference"));
  job j = new_job(p);
  j.two_phases = two_phases;
  if (two_phases) j.config.accumulate = 2;
  assert_runs(&j);
  assert_int_equal(j.result.steps, 40);
  assert_int_equal(j.result.samples, 640);
  assert_int_equal(j.result.resumed_from, 0);
  assert_int_equal(j.progress_calls, 40);
  assert_non_null(strstr(j.text, "samples/s  loss "));
  assert_true(j.result.flops > 0 && j.result.seconds > 0 && isfinite(j.result.loss));
  return p;
}

static void stopped_runs_continue_to_the_bit(void **state) {
  (void)state;
  static const int64_t stops[] = {1, 5, 6, 7, 8, 23, 35, 39};
  for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
    char name[64];
    snprintf(name, sizeof name, "stop-%d", (int)i);
    job j = new_job(test_path(name));
    char out[4096];
    snprintf(out, sizeof out, "%s", j.out);
    j.out = out, j.stop_at = stops[i];
    assert_fails(&j, ELBO_ERROR_STOPPED, "checkpoint was written");
    assert_int_equal(j.result.steps, stops[i]);
    j.stop_at = -1, j.resume = true;
    assert_runs(&j);
    assert_int_equal(j.result.resumed_from, stops[i]);
    assert_same_run(reference(false), out);
  }
}

static void several_phases_and_stops_continue_to_the_bit(void **state) {
  (void)state;
  char out[4096];
  snprintf(out, sizeof out, "%s", test_path("phases"));
  job j = new_job(out);
  j.two_phases = true, j.config.accumulate = 2, j.resume = true; // resume of nothing is a start
  for (int64_t stop = 4; stop < 40; stop += 9) {
    j.stop_at = stop;
    assert_fails(&j, ELBO_ERROR_STOPPED, "");
  }
  j.stop_at = -1;
  assert_runs(&j);
  assert_same_run(reference(true), out);
}

// Moments of several optimisers in one phase, of different rules, come back.
static void groups_continue_to_the_bit(void **state) {
  (void)state;
  static const char *const names[] = {"net.b"};
  static group_config group = {OPTIMIZER_RMSPROP + 1, 0.01, 0.5, 0.9, -1, 0};
  char whole[4096], parts[4096];
  snprintf(whole, sizeof whole, "%s", test_path("groups"));
  snprintf(parts, sizeof parts, "%s", test_path("groups-stopped"));
  job j = new_job(whole);
  j.config.groups = (config_map){1, names, &group};
  assert_runs(&j);
  job k = new_job(parts);
  k.config.groups = j.config.groups, k.stop_at = 17, k.resume = true;
  assert_fails(&k, ELBO_ERROR_STOPPED, "");
  k.stop_at = -1;
  assert_runs(&k);
  assert_same_run(whole, parts);
}

// Several averages: all of them come back, the first is what it is alone, and another list is refused.
static void averages_continue_to_the_bit(void **state) {
  (void)state;
  static const double decays[] = {0.9, 0.95, 0.5}, others[] = {0.9, 0.95, 0.6};
  char whole[4096], parts[4096];
  snprintf(whole, sizeof whole, "%s", test_path("averages"));
  snprintf(parts, sizeof parts, "%s", test_path("averages-stopped"));
  job j = new_job(whole);
  j.config.ema = (config_floats){3, decays};
  assert_runs(&j);
  job k = new_job(parts);
  k.config.ema = j.config.ema, k.stop_at = 17;
  assert_fails(&k, ELBO_ERROR_STOPPED, "");
  k.stop_at = -1, k.resume = true;
  k.config.ema.at = others;
  assert_fails(&k, ELBO_ERROR_STATE, "train.ema: the checkpoint");
  assert_non_null(strstr(k.message, "0.9, 0.95, 0.5, this recipe has 0.9, 0.95, 0.6"));
  k.config.ema = (config_floats){1, decays};
  assert_fails(&k, ELBO_ERROR_STATE, "this recipe has 0.9");
  k.config.ema.count = 0;
  assert_fails(&k, ELBO_ERROR_STATE, "this recipe has none");
  k.config.ema = j.config.ema;
  assert_runs(&k);
  assert_same_run(whole, parts);
  assert_same_file(whole, reference(false), "checkpoints/step-40/model.safetensors");
}

// --- kills ---

static const char *self;

// Starts this program on `out` (main below); it resumes, and dies by its own hand in save number `kill_in_save`.
static pid_t start_child(const char *out, int kill_in_save) {
  char number[16];
  snprintf(number, sizeof number, "%d", kill_in_save);
  pid_t pid = fork();
  if (pid == 0) {
    execl(self, self, "--train", out, number, (char *)NULL);
    _exit(99);
  }
  return pid;
}

static int child_main(const char *out, const char *number) {
  job j = new_job(out);
  j.resume = true, j.kill_in_save = atoi(number);
  j.config.checkpoint_every = 2, j.config.preview_every = 10;
  elbo_status status = run_job(&j);
  if (status != ELBO_OK) fprintf(stderr, "%s\n", j.message);
  return status == ELBO_OK ? 0 : 1;
}

static int wait_for(pid_t pid) {
  int status = -1;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

static void killed_runs_continue_to_the_bit(void **state) {
  (void)state;
  char out[4096], undisturbed[4096];
  snprintf(undisturbed, sizeof undisturbed, "%s", test_path("undisturbed"));
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  assert_int_equal(wait_for(start_child(undisturbed, 0)), 0);
  clock_gettime(CLOCK_MONOTONIC, &b);
  int64_t whole = (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
  test_random r = {test_seed(), 0};
  int kills = 0;
  for (int round = 0; round < 8; round++) {
    char name[32];
    snprintf(name, sizeof name, "killed-%d", round);
    snprintf(out, sizeof out, "%s", test_path(name));
    for (int k = 0; k < 4; k++) {
      // by its own hand in the middle of a save, or at a random instant
      bool own = k % 2 == round % 2;
      pid_t pid = start_child(out, own ? 1 + (int)test_below(&r, 0, 2) : 0);
      if (!own) {
        usleep((useconds_t)test_below(&r, 500, whole / 2));
        kill(pid, SIGKILL);
      }
      int status = wait_for(pid);
      if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        kills++;
      } else if (status != 0) {
        fail_msg("round %d, kill %d, seed %llu: the resumed run failed", round, k, (unsigned long long)test_seed());
      }
    }
    int status = wait_for(start_child(out, 0));
    if (status != 0) fail_msg("round %d, seed %llu: the last run failed (%d)", round, (unsigned long long)test_seed(), status);
    assert_same_run(undisturbed, out);
  }
  print_message("%d kills survived\n", kills);
  assert_true(kills >= 6);
}

static void a_kill_before_the_first_checkpoint_starts_anew(void **state) {
  (void)state;
  char out[4096], path[4200];
  snprintf(out, sizeof out, "%s", test_path("early"));
  // What a killed process can leave: lines, events and half a checkpoint.
  elbo_ctx *ctx = test_ctx(1);
  snprintf(path, sizeof path, "%s/checkpoints/tmp-step-7/training", out);
  assert_ok(ctx, directory_make(ctx, path));
  snprintf(path, sizeof path, "%s/checkpoints/tmp-step-7/training/state.json", out);
  test_write_file(path, "{\"st", 4);
  snprintf(path, sizeof path, "%s/metrics.jsonl", out);
  test_write_file(path, "{\"step\": 5", 10);
  snprintf(path, sizeof path, "%s/recipe.yaml", out);
  test_write_file(path, recipe, strlen(recipe));
  elbo_ctx_destroy(&ctx);
  job j = new_job(out);
  j.resume = true;
  assert_runs(&j);
  assert_int_equal(j.result.resumed_from, 0);
  assert_same_run(reference(false), out);
  snprintf(path, sizeof path, "%s/checkpoints/tmp-step-7", out);
  assert_false(directory_exists(path));
}

// --- the rest of its life ---

static void a_finished_run_says_so(void **state) {
  (void)state;
  job j = new_job(reference(false));
  j.resume = true;
  size_t size, again;
  char *before = slurp(j.out, "metrics.jsonl", &size);
  assert_runs(&j);
  assert_int_equal(j.result.already_finished, 1);
  assert_int_equal(j.result.steps, 40);
  assert_true(j.result.flops > 0 && isfinite(j.result.loss));
  assert_int_equal(j.progress_calls, 0);
  char *after = slurp(j.out, "metrics.jsonl", &again);
  assert_true(size == again && memcmp(before, after, size) == 0);
  free(before), free(after);
}

static void the_newest_and_the_best_are_kept(void **state) {
  (void)state;
  // Scores are (7 step) mod 11: 7: 5, 14: 10, 21: 4, 28: 9, 35: 3, 40: 5 (and a thousandth of a weight).
  elbo_ctx *ctx = test_ctx(1);
  char out[4000], path[4096];
  snprintf(out, sizeof out, "%s", test_path("kept"));
  job j = new_job(out);
  j.config.keep = 1, j.config.checkpoint_every = 5; // 5: 2, 10: 4, 15: 6, 20: 8, 25: 10, 30: 1, 35: 3, 40: 5
  j.config.preview_every = 20;
  assert_runs(&j);
  int64_t *steps, n, found;
  assert_ok(ctx, checkpoint_list(ctx, out, &steps, &n));
  assert_int_equal(n, 2);
  assert_int_equal(steps[0], 30);
  assert_int_equal(steps[1], 40);
  free(steps);
  assert_true(run_is_run(out));
  assert_false(run_is_run(test_directory()));
  assert_ok(ctx, run_find_checkpoint(ctx, out, -1, path, sizeof path, &found));
  assert_int_equal(found, 40);
  assert_ok(ctx, run_find_checkpoint(ctx, out, -2, path, sizeof path, &found));
  assert_int_equal(found, 30);
  assert_non_null(strstr(path, "checkpoints/step-30"));
  assert_status(ctx, run_find_checkpoint(ctx, out, 10, path, sizeof path, NULL), ELBO_ERROR_ARGUMENT, "30, 40");
  assert_status(ctx, run_find_checkpoint(ctx, test_directory(), -1, path, sizeof path, NULL), ELBO_ERROR_STATE, "no checkpoint");
  snprintf(path, sizeof path, "%s/samples/step-20.png", out);
  assert_true(file_exists(path));
  elbo_ctx_destroy(&ctx);
}

static void weights_come_back(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char path[4096];
  train_config c = tiny_config();
  static const double decays[] = {0.9, 0.95, 0.5};
  c.ema = (config_floats){3, decays};
  tiny task;
  tiny_create(&task, ctx, &c);
  trainer *t;
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  for (int i = 0; i < 40; i++) assert_ok(ctx, trainer_step(t));
  elbo_store *s;
  assert_ok(ctx, elbo_store_create(ctx, 1, &task.graph, 77, &s));
  assert_ok(ctx, run_find_checkpoint(ctx, test_path("averages"), 40, path, sizeof path, NULL));
  for (int k = -1; k < 3; k++) {
    assert_ok(ctx, run_read_weights(ctx, path, k < 0 ? -1 : decays[k], s));
    elbo_store *from = k < 0 ? trainer_weights(t) : t->averages[k];
    for (int i = 0; i < s->n; i++) assert_memory_equal(store_data(s, i), store_data(from, i), (size_t)s->entries[i].count * 4);
  }
  double listed[MOST_AVERAGES];
  int n;
  assert_ok(ctx, run_list_averages(ctx, path, listed, &n));
  assert_int_equal(n, 3);
  assert_memory_equal(listed, decays, sizeof decays);
  assert_status(ctx, run_read_weights(ctx, path, 0.99, s), ELBO_ERROR_ARGUMENT, "no average of decay 0.99");
  assert_non_null(strstr(elbo_ctx_message(ctx), "0.9, 0.95, 0.5"));
  assert_ok(ctx, run_list_averages(ctx, test_directory(), listed, &n));
  assert_int_equal(n, -1);
  assert_status(ctx, run_read_weights(ctx, test_directory(), -1, s), ELBO_ERROR_ARGUMENT, "one set of weights");
  elbo_store_destroy(&s);
  trainer_destroy(&t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

static void a_run_can_be_prolonged(void **state) {
  (void)state;
  char out[4096];
  snprintf(out, sizeof out, "%s", test_path("longer"));
  job j = new_job(out);
  j.config.steps = 21;
  assert_runs(&j);
  j.resume = true, j.config.steps = 28;
  j.recipe = "model:\n  latent:\n    dim: 20\ntrain:\n  steps: 28\n  learning_rate: 0.001\n";
  assert_runs(&j);
  assert_int_equal(j.result.resumed_from, 21);
  assert_int_equal(j.result.steps, 28);
}

static void a_directory_is_for_one_run(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  job j = new_job(reference(false));
  assert_fails(&j, ELBO_ERROR_STATE, "already"); // without resume
  j.resume = true;
  j.recipe = "model:\n  latent:\n    dim: 32\ntrain:\n  steps: 40\n  learning_rate: 1e-3\n";
  assert_fails(&j, ELBO_ERROR_STATE, "model.latent.dim is 20 there and 32 here");
  j.recipe = "model:\n  latent:\n    dim: 20\n    extra: 1\ntrain:\n  steps: 40\n  learning_rate: 1e-3\n";
  assert_fails(&j, ELBO_ERROR_STATE, "model.latent.extra is absent there and 1 here");

  // Keys that a run knows nothing of, and that say nothing, are no difference; it may have been there before them.
  static const struct {
    const char *here;
    bool differs;
  } unknown[] = {{"model: {dim: 20, extra: ''}", false},
                 {"model: {dim: 20, extra: []}", false},
                 {"model: {dim: 20, extra: [1]}", true},
                 {"model: {dim: 20, extra: none}", false},
                 {"{model: {dim: 20}, sample: {steps: 7}}", false}}; // how samples are drawn is no part of training
  for (int i = 0; i < 5; i++) {
    char text[256];
    bool differs;
    assert_ok(ctx, recipe_difference(ctx, "model: {dim: 20}", unknown[i].here, text, sizeof text, &differs));
    assert_int_equal(differs, unknown[i].differs);
  }

  // A directory that holds something else stays as it is.
  char other[4096], file[4200];
  snprintf(other, sizeof other, "%s", test_path("thesis"));
  assert_ok(ctx, directory_make(ctx, other));
  snprintf(file, sizeof file, "%s/chapter1.txt", other);
  test_write_file(file, "x", 1);
  job k = new_job(other);
  assert_fails(&k, ELBO_ERROR_STATE, "chapter1.txt");
  k.resume = true;
  assert_fails(&k, ELBO_ERROR_STATE, "chapter1.txt");
  snprintf(file, sizeof file, "%s/.lock", other);
  assert_false(file_exists(file));

  // Two processes.
  char busy[4096];
  snprintf(busy, sizeof busy, "%s", test_path("busy"));
  assert_ok(ctx, directory_make(ctx, busy));
  directory_lock *lock;
  assert_ok(ctx, lock_take(ctx, busy, &lock));
  job b = new_job(busy);
  assert_fails(&b, ELBO_ERROR_STATE, "busy");
  lock_release(&lock);
  assert_runs(&b);

  // A file in its place.
  char plain[4096];
  snprintf(plain, sizeof plain, "%s", test_path("plain"));
  test_write_file(plain, "x", 1);
  job p = new_job(plain);
  assert_fails(&p, ELBO_ERROR_IO, "plain");
  elbo_ctx_destroy(&ctx);
}

static void a_checkpoint_of_another_model_is_refused(void **state) {
  (void)state;
  char out[4096];
  snprintf(out, sizeof out, "%s", test_path("other-model"));
  job j = new_job(out);
  j.stop_at = 8;
  assert_fails(&j, ELBO_ERROR_STOPPED, "");
  j.resume = true, j.stop_at = -1, j.two_phases = true;
  assert_fails(&j, ELBO_ERROR_FORMAT, "critic.w");
}

static void damaged_checkpoints_are_named(void **state) {
  (void)state;
  char out[4096], path[4200];
  snprintf(out, sizeof out, "%s", test_path("damaged"));
  job j = new_job(out);
  j.stop_at = 8;
  assert_fails(&j, ELBO_ERROR_STOPPED, "");
  j.resume = true, j.stop_at = -1;
  size_t size;
  char *whole = slurp(out, "checkpoints/step-8/training/state.safetensors", &size);
  snprintf(path, sizeof path, "%s/checkpoints/step-8/training/state.safetensors", out);
  test_write_file(path, whole, size / 2);
  assert_fails(&j, ELBO_ERROR_FORMAT, "step-8/training/state.safetensors");
  test_write_file(path, whole, size);
  free(whole);
  snprintf(path, sizeof path, "%s/checkpoints/step-8/training/state.json", out);
  static const char *const bad[] = {"", "[]", "{\"format\": 99}", "{\"format\": 1, \"step\": -4}", "{\"format\": 1, \"step\": 9}"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    test_write_file(path, bad[i], strlen(bad[i]));
    elbo_status status = run_job(&j);
    assert_true(status == ELBO_ERROR_FORMAT || status == ELBO_ERROR_UNSUPPORTED);
    assert_non_null(strstr(j.message, "step-8"));
  }
}

static void a_failed_save_keeps_the_last_good_checkpoint(void **state) {
  (void)state;
  char out[4096], path[4200];
  snprintf(out, sizeof out, "%s", test_path("full"));
  job j = new_job(out);
  j.stop_at = 9;
  assert_fails(&j, ELBO_ERROR_STOPPED, "");
  j.resume = true, j.stop_at = -1, j.fail_save = true;
  assert_fails(&j, ELBO_ERROR_IO, "step 14 could not be written, the one of step 9 is kept");
  snprintf(path, sizeof path, "%s/checkpoints/tmp-step-14", out);
  assert_false(directory_exists(path));

  // A file-size limit stands in for a full disk: metrics.jsonl and the weights hit it.
  struct rlimit before, small = {700, 700};
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  small.rlim_max = before.rlim_max;
  signal(SIGXFSZ, SIG_IGN);
  j.fail_save = false;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  elbo_status status = run_job(&j);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(status, ELBO_ERROR_IO);
  assert_non_null(strstr(j.message, "full"));
  assert_runs(&j);
  assert_same_run(reference(false), out);
}

static void a_nan_keeps_the_last_good_checkpoint(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char out[4096], path[4096];
  snprintf(out, sizeof out, "%s", test_path("nan"));
  job j = new_job(out);
  tiny task;
  tiny_create(&task, ctx, &j.config);
  task.infinite_at = 17;
  run_options o = {.out = out, .recipe_text = recipe, .train = &j.config, .source = task.source};
  assert_status(ctx, run_training(ctx, &o, &task.task, &j.result), ELBO_ERROR_NUMERIC, "step 18");
  tiny_destroy(&task);
  int64_t found;
  assert_ok(ctx, run_find_checkpoint(ctx, out, -1, path, sizeof path, &found));
  assert_int_equal(found, 14);
  elbo_ctx_destroy(&ctx);
}

static void it_runs_without_a_directory(void **state) {
  (void)state;
  job j = new_job(NULL);
  assert_runs(&j);
  assert_int_equal(j.result.steps, 40);
  assert_true(isfinite(j.result.loss));
}

// The comparison that the tests above rest on sees a single changed number.
static void a_changed_byte_is_caught(void **state) {
  (void)state;
  char *a = timeless_metrics(reference(false)), *b = timeless_metrics(reference(true));
  assert_true(strcmp(a, b) != 0);
  assert_null(strstr(a, "samples_per_s"));
  assert_non_null(strstr(a, "{\"step\": 5, \"samples\": 80, \"loss\": "));
  assert_non_null(strstr(a, "\"per_output\": ["));
  assert_non_null(strstr(a, "\"valid\": "));
  free(a), free(b);
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "--train") == 0) return child_main(argv[2], argv[3]);
  self = argv[0];
  // It is processes that are killed here, not the machine: what fsync costs on a disk would only make the test slow.
  if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(stopped_runs_continue_to_the_bit),
      cmocka_unit_test(several_phases_and_stops_continue_to_the_bit),
      cmocka_unit_test(groups_continue_to_the_bit),
      cmocka_unit_test(averages_continue_to_the_bit),
      cmocka_unit_test(killed_runs_continue_to_the_bit),
      cmocka_unit_test(a_kill_before_the_first_checkpoint_starts_anew),
      cmocka_unit_test(a_finished_run_says_so),
      cmocka_unit_test(the_newest_and_the_best_are_kept),
      cmocka_unit_test(weights_come_back),
      cmocka_unit_test(a_run_can_be_prolonged),
      cmocka_unit_test(a_directory_is_for_one_run),
      cmocka_unit_test(a_checkpoint_of_another_model_is_refused),
      cmocka_unit_test(damaged_checkpoints_are_named),
      cmocka_unit_test(a_failed_save_keeps_the_last_good_checkpoint),
      cmocka_unit_test(a_nan_keeps_the_last_good_checkpoint),
      cmocka_unit_test(it_runs_without_a_directory),
      cmocka_unit_test(a_changed_byte_is_caught),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
