#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/number.h"
#include "core/safetensors.h"
#include "train/run.h"

enum { FORMAT = 1, JSON_LIMIT = 1 << 24, PATH_SIZE = 4096 };

// --- names and places ---

// "step-N" -> N; -1: something else.
static int64_t step_of_name(const char *name) {
  if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9') return -1;
  char *end;
  errno = 0;
  long long step = strtoll(name + 5, &end, 10);
  return *end || errno ? -1 : step;
}

static elbo_status checkpoints_directory(elbo_ctx *ctx, const char *run, char *path, size_t size) {
  return path_join(ctx, path, size, run, "checkpoints");
}

elbo_status checkpoint_path(elbo_ctx *ctx, const char *run, int64_t step, char *path, size_t size) {
  char name[64];
  snprintf(name, sizeof name, "checkpoints/step-%lld", (long long)step);
  return path_join(ctx, path, size, run, name);
}

static int by_step(const void *a, const void *b) {
  const int64_t *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

elbo_status checkpoint_list(elbo_ctx *ctx, const char *run, int64_t **steps, int64_t *n) {
  *steps = NULL, *n = 0;
  char path[PATH_SIZE];
  TRY(checkpoints_directory(ctx, run, path, sizeof path));
  DIR *d = opendir(path);
  if (!d) return errno == ENOENT ? ELBO_OK : fail_errno(ctx, path, "cannot list");
  int64_t capacity = 0;
  elbo_status status = ELBO_OK;
  for (struct dirent *e; status == ELBO_OK && (e = readdir(d));) {
    int64_t step = step_of_name(e->d_name);
    if (step < 0) continue;
    status = array_grow(ctx, steps, &capacity, *n + 1, sizeof **steps);
    if (status == ELBO_OK) (*steps)[(*n)++] = step;
  }
  closedir(d);
  if (status != ELBO_OK) {
    free(*steps);
    *steps = NULL, *n = 0;
    return status;
  }
  if (*n) qsort(*steps, (size_t)*n, sizeof **steps, by_step);
  return ELBO_OK;
}

elbo_status checkpoint_clean(elbo_ctx *ctx, const char *run) {
  char directory[PATH_SIZE], path[PATH_SIZE];
  TRY(checkpoints_directory(ctx, run, directory, sizeof directory));
  DIR *d = opendir(directory);
  if (!d) return errno == ENOENT ? ELBO_OK : fail_errno(ctx, directory, "cannot list");
  elbo_status status = ELBO_OK;
  for (struct dirent *e; status == ELBO_OK && (e = readdir(d));) {
    if (strncmp(e->d_name, "tmp-", 4) != 0) continue;
    status = path_join(ctx, path, sizeof path, directory, e->d_name);
    if (status == ELBO_OK) status = directory_remove(ctx, path);
  }
  closedir(d);
  return status;
}

static elbo_status sync_checkpoints(elbo_ctx *ctx, const char *run) {
  char path[PATH_SIZE];
  TRY(checkpoints_directory(ctx, run, path, sizeof path));
  DIR *d = opendir(path);
  if (!d || fsync(dirfd(d)) != 0) {
    elbo_status status = fail_errno(ctx, path, "cannot sync");
    if (d) closedir(d);
    return status;
  }
  closedir(d);
  return ELBO_OK;
}

// A deletion that is killed half-way must not leave a checkpoint that looks whole: it is renamed first.
static elbo_status remove_checkpoint(elbo_ctx *ctx, const char *run, int64_t step) {
  char path[PATH_SIZE], aside[PATH_SIZE], name[64];
  TRY(checkpoint_path(ctx, run, step, path, sizeof path));
  snprintf(name, sizeof name, "checkpoints/tmp-old-step-%lld", (long long)step);
  TRY(path_join(ctx, aside, sizeof aside, run, name));
  TRY(directory_remove(ctx, aside));
  if (rename(path, aside) != 0) return errno == ENOENT ? ELBO_OK : fail_errno(ctx, path, "cannot set aside");
  return directory_remove(ctx, aside);
}

elbo_status checkpoint_retain(elbo_ctx *ctx, const char *run, int64_t keep, int64_t best_step) {
  if (keep <= 0) return ELBO_OK;
  int64_t *steps, n;
  TRY(checkpoint_list(ctx, run, &steps, &n));
  elbo_status status = ELBO_OK;
  for (int64_t i = 0; status == ELBO_OK && i + keep < n; i++)
    if (steps[i] != best_step) status = remove_checkpoint(ctx, run, steps[i]);
  free(steps);
  return status;
}

// --- writing ---

// The list of tensors in state.safetensors; views into the trainer's own memory.
typedef struct tensor_list {
  elbo_ctx *ctx;
  arena *names;
  tensor_view *at;
  int64_t n, capacity;
} tensor_list;

static elbo_status add_tensor(tensor_list *list, const char *name, elbo_dtype dtype, int rank, const int64_t *dim, const void *data) {
  if (!name) return fail_memory(list->ctx, 64, "a checkpoint's tensor names");
  TRY(array_grow(list->ctx, &list->at, &list->capacity, list->n + 1, sizeof *list->at));
  tensor_view *v = &list->at[list->n++];
  *v = (tensor_view){.name = name, .dtype = dtype, .rank = rank, .data = data, .bytes = elbo_dtype_size(dtype)};
  for (int i = 0; i < rank; i++) {
    v->dim[i] = dim[i];
    v->bytes *= (size_t)dim[i];
  }
  return ELBO_OK;
}

static elbo_status add_store(tensor_list *list, const char *prefix, const elbo_store *store, bool frozen) {
  for (int i = 0; i < store->n; i++) {
    const store_entry *e = &store->entries[i];
    if (e->kind == ELBO_PARAM_FROZEN && !frozen) continue;
    TRY(add_tensor(list, arena_printf(list->names, "%s/%s", prefix, e->name), ELBO_F32, e->shape.rank, e->shape.dim, store_data(store, i)));
  }
  return ELBO_OK;
}

static elbo_status add_moments(tensor_list *list, const trainer *t, const train_phase *phase, optimizer *o) {
  for (int m = 0; m < optimizer_moments(o); m++)
    for (int i = 0; i < t->weights->n; i++) {
      const store_entry *e = &t->weights->entries[i];
      int64_t packed = e->kind == ELBO_PARAM_TRAINED ? optimizer_packed_offset(o, e->offset) : -1;
      if (packed < 0) continue;
      const char *name = arena_printf(list->names, "optimizer/%s/%s/%s", phase->name, optimizer_moment_name(o, m), e->name);
      TRY(add_tensor(list, name, ELBO_F32, e->shape.rank, e->shape.dim, optimizer_moment(o, m) + packed));
    }
  return ELBO_OK;
}

// What begins the names of average i's tensors: "ema" for the first, "ema-0.9999" for others.
enum { AVERAGE_NAME = 48 };
static void average_name(int i, double decay, char name[AVERAGE_NAME]) {
  char number[NUMBER_TEXT];
  snprintf(name, AVERAGE_NAME, i ? "ema-%s" : "ema", number_text(decay, number));
}

static json_t *averages_json(const trainer *t) {
  json_t *list = json_array();
  for (int i = 0; i < t->n_averages; i++) json_array_append_new(list, json_real(t->config->ema.at[i]));
  return list;
}

// Every tensor of the state. Used for writing, and, as a list of places to fill, for reading.
static elbo_status list_state(tensor_list *list, trainer *t, run_log *log) {
  TRY(add_store(list, "raw", t->weights, true));
  for (int i = 0; i < t->n_averages; i++) {
    char prefix[AVERAGE_NAME];
    average_name(i, t->config->ema.at[i], prefix);
    TRY(add_store(list, prefix, t->averages[i], false));
  }
  for (int i = 0; i < t->n_phases; i++)
    for (int k = 0; k < t->phases[i].groups.n; k++) TRY(add_moments(list, t, t->phases[i].def, t->phases[i].groups.at[k].optimizer));
  TRY(add_tensor(list, "log/sums", ELBO_F64, 1, &t->n_numbers, log->sum));
  TRY(add_tensor(list, "log/steps", ELBO_I64, 0, NULL, &log->steps));
  return add_tensor(list, "log/last_loss", ELBO_F64, 0, NULL, &log->last_loss);
}

static json_t *state_json(const trainer *t, const run_log *log, const run_record *record) {
  json_t *phases = json_array();
  for (int i = 0; i < t->n_phases; i++)
    json_array_append_new(
        phases, json_pack("{s:s, s:I}", "name", t->phases[i].def->name, "updates", (json_int_t)groups_updates(&t->phases[i].groups)));
  json_t *best = json_null();
  if (record->best_step >= 0)
    best = json_pack("{s:I, s:o}", "step", (json_int_t)record->best_step, "score", json_number(record->best_score));
  const char *frozen = *record->frozen_sha256 ? record->frozen_sha256 : NULL;
  return json_pack("{s:i, s:s, s:I, s:I, s:I, s:s, s:s*, s:s, s:o, s:I, s:o, s:o, s:o, s:o}", "format", FORMAT, "elbo", elbo_version(),
                   "step", (json_int_t)t->step, "samples", (json_int_t)(t->step * t->config->batch_size), "seed",
                   (json_int_t)t->config->seed, "recipe_sha256", record->recipe_sha256, "frozen_sha256", frozen, "weights",
                   t->n_averages ? "ema" : "raw", "ema", averages_json(t), "skipped", (json_int_t)t->skipped, "best", best, "phases",
                   phases, "interval_loss", json_number(log->last_loss), "flops", json_number(record->flops));
}

// Which kernel runs every operation: what bit-exact resumption depends on beside the numbers.
static json_t *kernels_json(const trainer *t) {
  json_t *phases = json_object();
  for (int i = 0; i < t->n_phases; i++) {
    json_t *steps = json_array();
    elbo_plan_info info;
    elbo_plan_get_info(t->phases[i].plan, &info);
    for (int k = 0; k < info.steps; k++) {
      elbo_step_info step;
      char text[512];
      if (elbo_plan_get_step(t->phases[i].plan, k, &step) != ELBO_OK) break;
      snprintf(text, sizeof text, "%s%s%s: %s", step.op, step.name && step.name[0] ? " " : "", step.name ? step.name : "", step.kernel);
      json_array_append_new(steps, json_string(text));
    }
    json_object_set_new(phases, t->phases[i].def->name, steps);
  }
  return json_pack("{s:s, s:s, s:i, s:I, s:o}", "elbo", elbo_version(), "isa", elbo_ctx_isa(t->ctx), "threads", elbo_ctx_threads(t->ctx),
                   "l2_bytes", (json_int_t)t->ctx->l2_bytes, "phases", phases);
}

static elbo_status write_json(elbo_ctx *ctx, const char *directory, const char *name, json_t *json) {
  if (!json) return fail(ctx, ELBO_ERROR_MEMORY, "out of memory for %s", name);
  char path[PATH_SIZE];
  elbo_status status = path_join(ctx, path, sizeof path, directory, name);
  if (status == ELBO_OK) status = json_write(ctx, path, json);
  json_decref(json);
  return status;
}

static elbo_status write_tensors(elbo_ctx *ctx, const char *directory, trainer *t, run_log *log) {
  char path[PATH_SIZE];
  TRY(path_join(ctx, path, sizeof path, directory, "training/state.safetensors"));
  tensor_list list = {.ctx = ctx, .names = arena_create(1 << 14)};
  elbo_status status = list.names ? list_state(&list, t, log) : fail_memory(ctx, 1 << 14, "a checkpoint's tensor names");
  if (status == ELBO_OK) status = safetensors_write(ctx, path, list.n, list.at, 0, NULL);
  free(list.at);
  arena_destroy(&list.names);
  return status;
}

static elbo_status write_contents(elbo_ctx *ctx, const char *directory, trainer *t, run_log *log, const run_record *record) {
  char training[PATH_SIZE];
  TRY(directory_make(ctx, directory));
  if (t->task->save) TRY(t->task->save(t->task->user, trainer_averages(t), directory));
  TRY(path_join(ctx, training, sizeof training, directory, "training"));
  TRY(directory_make(ctx, training));
  TRY(write_tensors(ctx, directory, t, log));
  TRY(write_json(ctx, training, "state.json", state_json(t, log, record)));
  TRY(write_json(ctx, training, "kernels.json", kernels_json(t)));
  TRY(write_json(ctx, training, "log.json",
                 json_pack("{s:o, s:I, s:s, s:I}", "seconds", json_number(log->seconds), "metrics_bytes", (json_int_t)log->metrics_length,
                           "events", log->events_name, "events_bytes", (json_int_t)event_file_length(log->events))));
  return directory_sync(ctx, directory);
}

elbo_status checkpoint_write(elbo_ctx *ctx, const char *run, trainer *t, run_log *log, const run_record *record) {
  char temporary[PATH_SIZE], path[PATH_SIZE], name[64];
  snprintf(name, sizeof name, "checkpoints/tmp-step-%lld", (long long)t->step);
  TRY(path_join(ctx, temporary, sizeof temporary, run, name));
  TRY(checkpoint_path(ctx, run, t->step, path, sizeof path));
  TRY(run_log_sync(log)); // the lengths that the checkpoint names must be on the disk before it is
  TRY(directory_remove(ctx, temporary));
  elbo_status status = write_contents(ctx, temporary, t, log, record);
  if (status == ELBO_OK) status = remove_checkpoint(ctx, run, t->step); // one that a resumed run did not start from
  if (status == ELBO_OK && rename(temporary, path) != 0) status = fail_errno(ctx, path, "cannot rename the finished checkpoint");
  if (status == ELBO_OK) status = sync_checkpoints(ctx, run);
  if (status == ELBO_OK) return ELBO_OK;
  char reason[1024];
  snprintf(reason, sizeof reason, "%s", elbo_ctx_message(ctx));
  if (directory_remove(ctx, temporary) != ELBO_OK) log_warning(ctx, "%s: left behind: %s", temporary, elbo_ctx_message(ctx));
  int64_t *steps, n;
  if (checkpoint_list(ctx, run, &steps, &n) != ELBO_OK) n = 0;
  int64_t last = n ? steps[n - 1] : -1;
  free(steps);
  if (last < 0) return fail(ctx, status, "the checkpoint of step %lld could not be written: %s", (long long)t->step, reason);
  return fail(ctx, status, "the checkpoint of step %lld could not be written, the one of step %lld is kept: %s", (long long)t->step,
              (long long)last, reason);
}

// --- reading ---

static elbo_status read_member(elbo_ctx *ctx, const char *directory, const char *name, json_t **out) {
  char path[PATH_SIZE];
  TRY(path_join(ctx, path, sizeof path, directory, name));
  TRY(json_read(ctx, path, JSON_LIMIT, out));
  if (json_is_object(*out)) return ELBO_OK;
  json_decref(*out);
  *out = NULL;
  return fail(ctx, ELBO_ERROR_FORMAT, "%s: expected a JSON object", path);
}

static elbo_status get_integer(elbo_ctx *ctx, const char *directory, const json_t *object, const char *key, int64_t low, int64_t *out) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_integer(value) || json_integer_value(value) < low)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s/training: '%s' is not a whole number of at least %lld", directory, key, (long long)low);
  *out = json_integer_value(value);
  return ELBO_OK;
}

static elbo_status parse_record(elbo_ctx *ctx, const char *directory, const json_t *state, const json_t *log, run_record *record,
                                int64_t *step) {
  int64_t format;
  TRY(get_integer(ctx, directory, state, "format", 1, &format));
  if (format > FORMAT)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: checkpoint format %lld, this build knows %d", directory, (long long)format, FORMAT);
  TRY(get_integer(ctx, directory, state, "step", 0, step));
  const char *hash = json_string_value(json_object_get(state, "recipe_sha256"));
  snprintf(record->recipe_sha256, sizeof record->recipe_sha256, "%s", hash ? hash : "");
  const char *frozen = json_string_value(json_object_get(state, "frozen_sha256"));
  snprintf(record->frozen_sha256, sizeof record->frozen_sha256, "%s", frozen ? frozen : "");
  const json_t *best = json_object_get(state, "best");
  record->best_step = -1, record->best_score = NAN;
  if (json_is_object(best)) {
    TRY(get_integer(ctx, directory, best, "step", 0, &record->best_step));
    record->best_score = json_number_value(json_object_get(best, "score"));
  }
  const json_t *loss = json_object_get(state, "interval_loss");
  record->last_loss = json_is_number(loss) ? json_number_value(loss) : NAN;
  record->flops = json_number_value(json_object_get(state, "flops"));
  record->seconds = json_number_value(json_object_get(log, "seconds"));
  TRY(get_integer(ctx, directory, log, "metrics_bytes", 0, &record->metrics_length));
  TRY(get_integer(ctx, directory, log, "events_bytes", 0, &record->events_length));
  const char *events = json_string_value(json_object_get(log, "events"));
  if (events && strncmp(events, "events.out.tfevents.", 20) == 0 && !strchr(events, '/'))
    snprintf(record->events_name, sizeof record->events_name, "%s", events);
  return ELBO_OK;
}

elbo_status checkpoint_read_record(elbo_ctx *ctx, const char *directory, run_record *record, int64_t *step) {
  memset(record, 0, sizeof *record);
  json_t *state = NULL, *log = NULL;
  elbo_status status = read_member(ctx, directory, "training/state.json", &state);
  if (status == ELBO_OK) status = read_member(ctx, directory, "training/log.json", &log);
  if (status == ELBO_OK) status = parse_record(ctx, directory, state, log, record, step);
  json_decref(state);
  json_decref(log);
  return status;
}

// Copies tensor `want->name` of the file to where want->data points.
static elbo_status read_tensor(elbo_ctx *ctx, const char *path, const safetensors *file, const tensor_view *want) {
  const tensor_view *have = safetensors_find(file, want->name);
  if (!have) return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s' is missing", path, want->name);
  bool same = have->dtype == want->dtype && have->rank == want->rank && have->bytes == want->bytes;
  for (int i = 0; same && i < want->rank; i++) same = have->dim[i] == want->dim[i];
  if (!same) return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s' has another shape or type than this run's", path, want->name);
  if (want->bytes) memcpy((void *)(uintptr_t)want->data, have->data, want->bytes);
  return ELBO_OK;
}

static elbo_status read_listed(elbo_ctx *ctx, const char *directory, const tensor_list *list) {
  char path[PATH_SIZE];
  TRY(path_join(ctx, path, sizeof path, directory, "training/state.safetensors"));
  safetensors *file;
  TRY(safetensors_open(ctx, path, &file));
  elbo_status status = ELBO_OK;
  for (int64_t i = 0; status == ELBO_OK && i < list->n; i++) status = read_tensor(ctx, path, file, &list->at[i]);
  safetensors_close(&file);
  return status;
}

static elbo_status read_phases(elbo_ctx *ctx, const char *directory, const json_t *state, trainer *t) {
  const json_t *phases = json_object_get(state, "phases");
  if (!json_is_array(phases) || (int)json_array_size(phases) != t->n_phases)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: expected %d training phases", directory, t->n_phases);
  for (int i = 0; i < t->n_phases; i++) {
    const json_t *phase = json_array_get(phases, (size_t)i);
    const char *name = json_string_value(json_object_get(phase, "name"));
    if (!name || strcmp(name, t->phases[i].def->name) != 0)
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: training phase %d is not '%s'", directory, i, t->phases[i].def->name);
    int64_t updates;
    TRY(get_integer(ctx, directory, phase, "updates", 0, &updates));
    groups_set_updates(&t->phases[i].groups, updates);
  }
  return ELBO_OK;
}

static elbo_status compare_kernels(elbo_ctx *ctx, const char *directory, const trainer *t) {
  json_t *then = NULL, *now = kernels_json(t);
  if (!now) return fail(ctx, ELBO_ERROR_MEMORY, "out of memory for the kernel table");
  elbo_status status = read_member(ctx, directory, "training/kernels.json", &then);
  if (status == ELBO_OK && !json_equal(then, now)) {
    const char *isa = json_string_value(json_object_get(then, "isa"));
    log_warning(ctx, "%s was computed by other kernels (then %s with %lld threads, now %s with %d): the run continues, but not bit for bit",
                directory, isa ? isa : "?", (long long)json_integer_value(json_object_get(then, "threads")), elbo_ctx_isa(ctx),
                elbo_ctx_threads(ctx));
  }
  json_decref(then);
  json_decref(now);
  return status;
}

// The decays that state.json lists; *n is -1 where it lists none (of checkpoints that had one average at most).
static elbo_status parse_averages(elbo_ctx *ctx, const char *directory, const json_t *state, double decay[MOST_AVERAGES], int *n) {
  const json_t *list = json_object_get(state, "ema");
  *n = -1;
  if (!list) return ELBO_OK;
  size_t count = json_array_size(list);
  bool good = json_is_array(list) && count <= MOST_AVERAGES;
  for (size_t i = 0; good && i < count; i++) {
    good = json_is_number(json_array_get(list, i));
    decay[i] = json_number_value(json_array_get(list, i));
  }
  if (!good) return fail(ctx, ELBO_ERROR_FORMAT, "%s/training: 'ema' is not a list of at most %d numbers", directory, MOST_AVERAGES);
  *n = (int)count;
  return ELBO_OK;
}

static void averages_text(const double *decay, int n, char *text, size_t size) {
  char number[NUMBER_TEXT];
  snprintf(text, size, n ? "" : "none");
  for (int i = 0; i < n; i++) {
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", i ? ", " : "", number_text(decay[i], number));
  }
}

// An average that was not kept from the start cannot be continued.
static elbo_status compare_averages(elbo_ctx *ctx, const char *directory, const trainer *t) {
  double there[MOST_AVERAGES];
  char a[256], b[256];
  int n;
  json_t *state = NULL;
  TRY(read_member(ctx, directory, "training/state.json", &state));
  elbo_status status = parse_averages(ctx, directory, state, there, &n);
  json_decref(state);
  TRY(status);
  bool same = n < 0 || n == t->n_averages;
  for (int i = 0; same && i < n; i++) same = there[i] == t->config->ema.at[i];
  if (same) return ELBO_OK;
  averages_text(there, n, a, sizeof a);
  averages_text(t->config->ema.at, t->n_averages, b, sizeof b);
  return fail(ctx, ELBO_ERROR_STATE, "train.ema: the checkpoint %s has averages of decay %s, this recipe has %s", directory, a, b);
}

static elbo_status read_counters(elbo_ctx *ctx, const char *directory, trainer *t, run_log *log) {
  json_t *state = NULL, *times = NULL;
  int64_t step = 0, skipped = 0;
  elbo_status status = read_member(ctx, directory, "training/state.json", &state);
  if (status == ELBO_OK) status = read_member(ctx, directory, "training/log.json", &times);
  if (status == ELBO_OK) status = get_integer(ctx, directory, state, "step", 0, &step);
  if (status == ELBO_OK) status = get_integer(ctx, directory, state, "skipped", 0, &skipped);
  if (status == ELBO_OK) status = read_phases(ctx, directory, state, t);
  if (status == ELBO_OK) {
    t->step = step, t->skipped = skipped;
    double seconds = json_number_value(json_object_get(times, "seconds"));
    log->seconds = seconds > 0 ? seconds : 0;
  }
  json_decref(state);
  json_decref(times);
  return status;
}

elbo_status checkpoint_read(elbo_ctx *ctx, const char *directory, trainer *t, run_log *log) {
  TRY(compare_averages(ctx, directory, t));
  tensor_list list = {.ctx = ctx, .names = arena_create(1 << 14)};
  elbo_status status = list.names ? list_state(&list, t, log) : fail_memory(ctx, 1 << 14, "a checkpoint's tensor names");
  if (status == ELBO_OK) status = read_listed(ctx, directory, &list);
  free(list.at);
  arena_destroy(&list.names);
  TRY(status);
  elbo_store_touch(t->weights);
  for (int i = 0; i < t->n_averages; i++) {
    size_t frozen = (size_t)t->weights->count[ELBO_PARAM_FROZEN] * sizeof(float);
    if (frozen) memcpy(t->averages[i]->data[ELBO_PARAM_FROZEN], t->weights->data[ELBO_PARAM_FROZEN], frozen);
    elbo_store_touch(t->averages[i]);
  }
  TRY(read_counters(ctx, directory, t, log));
  return compare_kernels(ctx, directory, t);
}

// --- what models read ---

static bool has_state(elbo_ctx *ctx, const char *directory) {
  char path[PATH_SIZE];
  return path_join(ctx, path, sizeof path, directory, "training/state.json") == ELBO_OK && file_exists(path);
}

elbo_status run_list_averages(elbo_ctx *ctx, const char *checkpoint, double decay[MOST_AVERAGES], int *n) {
  *n = -1;
  if (!has_state(ctx, checkpoint)) return ELBO_OK;
  json_t *state = NULL;
  TRY(read_member(ctx, checkpoint, "training/state.json", &state));
  elbo_status status = parse_averages(ctx, checkpoint, state, decay, n);
  json_decref(state);
  return status;
}

// Which tensors of the state are meant: "raw", or an average by its decay.
static elbo_status weights_prefix(elbo_ctx *ctx, const char *checkpoint, double decay, char prefix[AVERAGE_NAME]) {
  double there[MOST_AVERAGES];
  char list[256], number[NUMBER_TEXT];
  int n;
  snprintf(prefix, AVERAGE_NAME, "raw");
  if (!has_state(ctx, checkpoint))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: has one set of weights; raw ones and several averages are in a run's checkpoints alone",
                checkpoint);
  if (decay < 0) return ELBO_OK;
  TRY(run_list_averages(ctx, checkpoint, there, &n));
  for (int i = 0; i < n; i++)
    if (there[i] == decay) {
      average_name(i, decay, prefix);
      return ELBO_OK;
    }
  averages_text(there, n < 0 ? 0 : n, list, sizeof list);
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: has no average of decay %s; raw weights and the averages of train.ema are there: %s",
              checkpoint, number_text(decay, number), list);
}

elbo_status run_read_weights(elbo_ctx *ctx, const char *checkpoint, double decay, elbo_store *weights) {
  char prefix[AVERAGE_NAME];
  TRY(weights_prefix(ctx, checkpoint, decay, prefix));
  tensor_list list = {.ctx = ctx, .names = arena_create(1 << 14)};
  elbo_status status = list.names ? add_store(&list, "raw", weights, true) : fail_memory(ctx, 1 << 14, "tensor names");
  if (status == ELBO_OK) status = read_listed(ctx, checkpoint, &list);
  if (status == ELBO_OK && decay >= 0) { // over what is not averaged: frozen parameters
    list.n = 0;
    status = add_store(&list, prefix, weights, false);
    if (status == ELBO_OK) status = read_listed(ctx, checkpoint, &list);
  }
  free(list.at);
  arena_destroy(&list.names);
  elbo_store_touch(weights);
  return status;
}
