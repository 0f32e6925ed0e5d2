// What a run tells: interval averages to metrics.jsonl and TensorBoard, the progress line, the time that training took.
#ifndef TRAIN_RUN_LOG_H
#define TRAIN_RUN_LOG_H

#include "core/config.h"
#include "train/event_file.h"
#include "train/trainer.h"

typedef struct run_log {
  elbo_ctx *ctx;
  const trainer *t;
  int metrics; // file descriptor, -1: no files are written
  char metrics_path[4096];
  char events_path[4096];
  const char *events_name; // in events_path
  int64_t metrics_length;
  event_file *events;
  double *sum;        // (t->n_numbers) over the open interval; last_only ones: the last
  int64_t steps;      // in the open interval that count
  double *mean;       // (t->n_numbers)
  const char **names; // by value, for task->watch
  int *counts;
  const double **values;
  text_buffer line;
  double seconds;          // of training, all sessions of the run
  double interval_seconds; // of the open interval, this session's share
  int64_t interval_samples;
  double step_seconds; // smoothed
  double last_loss;    // mean of the last closed interval
} run_log;

// directory NULL: no files. metrics.jsonl is cut to metrics_length, the event file events_name (NULL: a new one) to events_length.
elbo_status run_log_open(run_log *log, elbo_ctx *ctx, const trainer *t, const char *directory, int64_t metrics_length,
                         const char *events_name, int64_t events_length);
void run_log_close(run_log *log);

// The trainer's last step, which took `seconds`.
void run_log_add(run_log *log, double seconds);
// "5120 samples/s  loss 103.2  kl 21.0": means of the open interval.
void run_log_progress_text(const run_log *log, char *text, size_t size);
// Ends the interval: a line, an event, task->watch. Nothing when no step has counted since the last.
elbo_status run_log_flush(run_log *log);
elbo_status run_log_validation(run_log *log, double score);
// Sends the pictures that DIRECTORY holds for this step (step-N.png, step-N-NAME.png) to TensorBoard.
elbo_status run_log_pictures(run_log *log, const char *directory);
elbo_status run_log_sync(run_log *log);

#endif
