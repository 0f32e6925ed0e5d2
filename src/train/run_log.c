#include "train/run_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/file.h"

enum { PICTURE_LIMIT = 64 << 20 };

static elbo_status open_metrics(run_log *log, const char *directory, int64_t length) {
  TRY(path_join(log->ctx, log->metrics_path, sizeof log->metrics_path, directory, "metrics.jsonl"));
  log->metrics = open(log->metrics_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (log->metrics < 0) return fail_errno(log->ctx, log->metrics_path, "cannot open");
  off_t end = lseek(log->metrics, 0, SEEK_END);
  if (end < length) {
    log_warning(log->ctx, "%s: %lld bytes, the checkpoint knows of %lld: lines are missing", log->metrics_path, (long long)end,
                (long long)length);
    length = end;
  }
  if (ftruncate(log->metrics, length) != 0 || lseek(log->metrics, length, SEEK_SET) != length)
    return fail_errno(log->ctx, log->metrics_path, "cannot cut to length");
  log->metrics_length = length;
  return ELBO_OK;
}

static elbo_status open_events(run_log *log, const char *directory, const char *name, int64_t length) {
  char fresh[64];
  if (!name) {
    snprintf(fresh, sizeof fresh, "events.out.tfevents.%010lld.elbo", (long long)time(NULL));
    name = fresh, length = 0;
  }
  TRY(path_join(log->ctx, log->events_path, sizeof log->events_path, directory, name));
  const char *slash = strrchr(log->events_path, '/');
  log->events_name = slash ? slash + 1 : log->events_path;
  return event_file_open(log->ctx, log->events_path, length, &log->events);
}

elbo_status run_log_open(run_log *log, elbo_ctx *ctx, const trainer *t, const char *directory, int64_t metrics_length,
                         const char *events_name, int64_t events_length) {
  memset(log, 0, sizeof *log);
  log->ctx = ctx, log->t = t, log->metrics = -1, log->last_loss = NAN;
  TRY(array_new(ctx, (size_t)t->n_numbers, sizeof(double), "metric sums", (void **)&log->sum));
  TRY(array_new(ctx, (size_t)t->n_numbers, sizeof(double), "metric means", (void **)&log->mean));
  TRY(array_new(ctx, (size_t)t->n_values, sizeof(char *), "metric names", (void **)&log->names));
  TRY(array_new(ctx, (size_t)t->n_values, sizeof(int), "metric sizes", (void **)&log->counts));
  TRY(array_new(ctx, (size_t)t->n_values, sizeof(double *), "metric values", (void **)&log->values));
  for (int i = 0; i < t->n_values; i++) {
    log->names[i] = t->values[i].name;
    log->counts[i] = t->values[i].count;
    log->values[i] = log->mean + (t->values[i].at - t->numbers);
  }
  if (!directory) return ELBO_OK;
  TRY(open_metrics(log, directory, metrics_length));
  return open_events(log, directory, events_name, events_length);
}

void run_log_close(run_log *log) {
  if (log->ctx && log->metrics >= 0) close(log->metrics);
  event_file_close(&log->events);
  free(log->sum);
  free(log->mean);
  free(log->names);
  free(log->counts);
  free(log->values);
  free(text_take(&log->line));
  memset(log, 0, sizeof *log);
  log->metrics = -1;
}

void run_log_add(run_log *log, double seconds) {
  const trainer *t = log->t;
  log->seconds += seconds;
  log->interval_seconds += seconds;
  log->interval_samples += t->config->batch_size;
  log->step_seconds = log->step_seconds > 0 ? 0.95 * log->step_seconds + 0.05 * seconds : seconds;
  if (!t->last_was_finite) return;
  log->steps++;
  for (int i = 0; i < t->n_values; i++) {
    const step_value *v = &t->values[i];
    double *sum = log->sum + (v->at - t->numbers);
    for (int d = 0; d < v->count; d++) sum[d] = v->last_only ? v->at[d] : sum[d] + v->at[d];
  }
}

void run_log_progress_text(const run_log *log, char *text, size_t size) {
  const trainer *t = log->t;
  size_t used = 0;
  text[0] = '\0';
  double rate = log->step_seconds > 0 ? (double)t->config->batch_size / log->step_seconds : 0;
  if (rate > 0) used = (size_t)snprintf(text, size, rate >= 100 ? "%.0f samples/s" : "%.3g samples/s", rate);
  for (int i = 0; i < t->n_values && used < size; i++) {
    const step_value *v = &t->values[i];
    if (v->quiet || v->count != 1) continue;
    double at = log->steps ? log->sum[v->at - t->numbers] / (double)log->steps : *log->values[i];
    used += (size_t)snprintf(text + used, size - used, "  %s %.5g", v->name, at);
  }
}

// --- lines ---

static void add_number(text_buffer *line, double value) {
  if (isfinite(value))
    text_add(line, "%.9g", value);
  else
    text_add(line, "null"); // JSON has no name for these
}

static elbo_status write_line(run_log *log) {
  text_add(&log->line, "}\n");
  if (log->line.failed) return fail(log->ctx, ELBO_ERROR_MEMORY, "%s: out of memory for a line", log->metrics_path);
  const char *at = log->line.at;
  size_t left = log->line.length;
  while (left) {
    ssize_t n = write(log->metrics, at, left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(log->ctx, log->metrics_path, "cannot write");
    at += n, left -= (size_t)n, log->metrics_length += n;
  }
  return ELBO_OK;
}

static void begin_line(run_log *log) {
  log->line.length = 0;
  text_add(&log->line, "{\"step\": %lld, \"samples\": %lld", (long long)log->t->step,
           (long long)(log->t->step * log->t->config->batch_size));
}

static elbo_status write_interval(run_log *log) {
  const trainer *t = log->t;
  begin_line(log);
  for (int i = 0; i < t->n_values; i++) {
    const step_value *v = &t->values[i];
    text_add(&log->line, ", \"%s\": %s", v->name, v->count == 1 ? "" : "[");
    for (int d = 0; d < v->count; d++) {
      if (d) text_add(&log->line, ", ");
      add_number(&log->line, log->values[i][d]);
    }
    if (v->count != 1) text_add(&log->line, "]");
  }
  if (t->skipped) text_add(&log->line, ", \"skipped\": %lld", (long long)t->skipped);
  // What depends on the clock comes last, under names of its own: a resumed run repeats everything before it.
  text_add(&log->line, ", \"seconds\": %.3f", log->seconds);
  if (log->interval_seconds > 0) text_add(&log->line, ", \"samples_per_s\": %.5g", (double)log->interval_samples / log->interval_seconds);
  TRY(write_line(log));
  event_file_begin(log->events, t->step);
  for (int i = 0; i < t->n_values; i++) {
    char tag[128];
    snprintf(tag, sizeof tag, "train/%s", t->values[i].name);
    if (t->values[i].count == 1) event_file_add_scalar(log->events, tag, *log->values[i]);
  }
  if (log->interval_seconds > 0)
    event_file_add_scalar(log->events, "train/samples_per_s", (double)log->interval_samples / log->interval_seconds);
  return event_file_end(log->ctx, log->events);
}

elbo_status run_log_flush(run_log *log) {
  const trainer *t = log->t;
  if (!log->steps) return ELBO_OK;
  for (int i = 0; i < t->n_values; i++) {
    const step_value *v = &t->values[i];
    for (int d = 0; d < v->count; d++) {
      int64_t at = v->at - t->numbers + d;
      log->mean[at] = v->last_only ? log->sum[at] : log->sum[at] / (double)log->steps;
    }
  }
  log->last_loss = log->mean[0];
  if (log->metrics >= 0) TRY(write_interval(log));
  memset(log->sum, 0, (size_t)t->n_numbers * sizeof(double));
  log->steps = 0, log->interval_seconds = 0, log->interval_samples = 0;
  if (t->task->watch) t->task->watch(t->task->user, log->ctx, t->step, t->n_values, log->names, log->counts, log->values);
  return ELBO_OK;
}

elbo_status run_log_validation(run_log *log, double score) {
  if (log->metrics < 0) return ELBO_OK;
  begin_line(log);
  text_add(&log->line, ", \"valid\": ");
  add_number(&log->line, score);
  text_add(&log->line, ", \"weights\": \"%s\", \"seconds\": %.3f", log->t->n_averages ? "ema" : "raw", log->seconds);
  TRY(write_line(log));
  event_file_begin(log->events, log->t->step);
  event_file_add_scalar(log->events, "valid/score", score);
  return event_file_end(log->ctx, log->events);
}

// "step-500.png" -> "samples"; "step-500-reconstructions.png" -> "reconstructions"; false: not a picture of this step.
static bool picture_tag(const char *name, int64_t step, char *tag, size_t size) {
  size_t length = strlen(name);
  if (strncmp(name, "step-", 5) != 0 || length < 10 || strcmp(name + length - 4, ".png") != 0) return false;
  char *end;
  errno = 0;
  if (strtoll(name + 5, &end, 10) != step || errno || end == name + 5) return false;
  if (*end == '.') return snprintf(tag, size, "samples") > 0;
  if (*end != '-') return false;
  snprintf(tag, size, "%.*s", (int)(name + length - 4 - (end + 1)), end + 1);
  return true;
}

elbo_status run_log_pictures(run_log *log, const char *directory) {
  if (!log->events) return ELBO_OK;
  DIR *d = opendir(directory);
  if (!d) return ELBO_OK; // no pictures were made
  elbo_status status = ELBO_OK;
  for (struct dirent *e; status == ELBO_OK && (e = readdir(d));) {
    char tag[256], path[4096], *png;
    size_t size;
    if (!picture_tag(e->d_name, log->t->step, tag, sizeof tag)) continue;
    status = path_join(log->ctx, path, sizeof path, directory, e->d_name);
    if (status == ELBO_OK) status = file_read(log->ctx, path, PICTURE_LIMIT, &png, &size);
    if (status != ELBO_OK) break;
    event_file_begin(log->events, log->t->step);
    event_file_add_png(log->events, tag, png, size);
    free(png);
    status = event_file_end(log->ctx, log->events);
  }
  closedir(d);
  return status;
}

elbo_status run_log_sync(run_log *log) {
  if (log->metrics < 0) return ELBO_OK;
  if (fsync(log->metrics) != 0) return fail_errno(log->ctx, log->metrics_path, "cannot sync");
  return event_file_sync(log->ctx, log->events);
}
