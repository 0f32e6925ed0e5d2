// A run from start or checkpoint to its end.
#include "train/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/file.h"
#include "train/run_directory.h"

typedef struct run {
  elbo_ctx *ctx;
  const run_options *options;
  const train_task *task;
  const train_config *config;
  run_directory directory;
  bool has_directory;
  trainer *t;
  run_log log;
  run_record record;
  int64_t saved_step; // of the last checkpoint; -1: none
  int64_t resumed_from;
  int64_t prepare_flops; // of what the task made before the first step, in whichever session
} run;

static double flops_so_far(const run *r) {
  elbo_train_cost cost;
  trainer_get_cost(r->t, &cost);
  return (double)r->prepare_flops + (double)cost.flops_per_step * (double)r->t->step;
}

static elbo_status save(run *r, bool scored, double score) {
  if (!r->has_directory || r->saved_step == r->t->step) return ELBO_OK;
  if (scored && isfinite(score) && (r->record.best_step < 0 || score < r->record.best_score))
    r->record.best_step = r->t->step, r->record.best_score = score;
  r->record.flops = flops_so_far(r);
  TRY(checkpoint_write(r->ctx, r->options->out, r->t, &r->log, &r->record));
  r->saved_step = r->t->step;
  return checkpoint_retain(r->ctx, r->options->out, r->config->keep, r->record.best_step);
}

static bool falls_due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

static elbo_status preview(run *r) {
  if (!r->task->preview || !r->has_directory) return ELBO_OK;
  char samples[4096];
  TRY(path_join(r->ctx, samples, sizeof samples, r->options->out, "samples"));
  TRY(directory_make(r->ctx, samples));
  TRY(r->task->preview(r->task->user, trainer_averages(r->t), r->t->step, samples));
  return run_log_pictures(&r->log, samples);
}

// What is due after a step, in this order: the interval's line, the held-out score, pictures, the checkpoint.
static elbo_status after_step(run *r) {
  const train_config *c = r->config;
  int64_t step = r->t->step;
  bool last = step >= c->steps, checkpoint = last || falls_due(step, c->checkpoint_every);
  if (last || falls_due(step, c->log_every)) TRY(run_log_flush(&r->log));
  bool scored = r->task->validate && (checkpoint || falls_due(step, c->validate_every));
  double score = NAN;
  if (scored) {
    TRY(r->task->validate(r->task->user, trainer_averages(r->t), step, &score));
    TRY(run_log_validation(&r->log, score));
  }
  if (falls_due(step, c->preview_every)) TRY(preview(r));
  return checkpoint ? save(r, scored, score) : ELBO_OK;
}

static elbo_status train(run *r) {
  const run_options *o = r->options;
  char text[512];
  while (r->t->step < r->config->steps) {
    double begin = seconds_now();
    TRY(trainer_step(r->t));
    run_log_add(&r->log, seconds_now() - begin);
    TRY(after_step(r));
    bool stop = o->stop_after && r->log.seconds >= *o->stop_after;
    if (o->progress) {
      run_log_progress_text(&r->log, text, sizeof text);
      stop |= !o->progress(o->progress_user, "train", r->t->step, r->config->steps, text);
    }
    if (!stop) continue;
    if (r->t->step >= r->config->steps) break;
    TRY(save(r, false, NAN));
    return fail(r->ctx, ELBO_ERROR_STOPPED, "stopped after step %lld of %lld%s", (long long)r->t->step, (long long)r->config->steps,
                r->has_directory ? "; a checkpoint was written" : "");
  }
  return ELBO_OK;
}

// A model that was built on another is of no use on a third.
static elbo_status check_frozen(const run *r) {
  const char *now = r->options->frozen_sha256 ? r->options->frozen_sha256 : "";
  if (strcmp(r->record.frozen_sha256, now) == 0) return ELBO_OK;
  return fail(
      r->ctx, ELBO_ERROR_STATE,
      "%s: %s: another model than the one that this run was made from until step %lld (sha256 %.12s there, %.12s here); restore it, "
      "or train into another directory",
      r->directory.path, r->options->frozen_key ? r->options->frozen_key : "the recipe", (long long)r->directory.step,
      *r->record.frozen_sha256 ? r->record.frozen_sha256 : "none", *now ? now : "none");
}

static elbo_status restore(run *r) {
  const run_directory *d = &r->directory;
  TRY(checkpoint_read(r->ctx, d->checkpoint, r->t, &r->log));
  if (!r->options->source.seek) return fail(r->ctx, ELBO_ERROR_UNSUPPORTED, "these data cannot be resumed");
  TRY(r->options->source.seek(r->options->source.user, r->t->step * r->config->batch_size));
  r->saved_step = r->resumed_from = r->t->step;
  log_info(r->ctx, "%s: goes on after step %lld", d->path, (long long)r->t->step);
  return ELBO_OK;
}

static elbo_status start(run *r) {
  const run_options *o = r->options;
  bool resumed = r->has_directory && !r->directory.fresh;
  if (!resumed && o->source.begin) TRY(o->source.begin(o->source.user));
  TRY(trainer_create(r->ctx, r->config, r->task, &o->source, o->weights, &r->t));
  const run_record *rec = &r->record;
  TRY(run_log_open(&r->log, r->ctx, r->t, r->has_directory ? o->out : NULL, resumed ? rec->metrics_length : 0,
                   resumed && rec->events_name[0] ? rec->events_name : NULL, resumed ? rec->events_length : 0));
  if (resumed) return restore(r);
  snprintf(r->record.frozen_sha256, sizeof r->record.frozen_sha256, "%s", o->frozen_sha256 ? o->frozen_sha256 : "");
  return o->initialize ? trainer_start_from(r->t, o->initialize, o->initialize_user) : ELBO_OK;
}

static void fill_result(const run *r, elbo_train_result *out) {
  if (!r->t) return;
  out->steps = r->t->step;
  out->samples = r->t->step * r->config->batch_size;
  out->seconds = r->log.seconds;
  out->flops = flops_so_far(r);
  const run_log *log = &r->log;
  out->loss = isnan(log->last_loss) && log->steps ? log->sum[0] / (double)log->steps : log->last_loss; // stopped within the first interval
  out->resumed_from = (int)r->resumed_from;
}

static elbo_status run_all(run *r, elbo_train_result *out) {
  const run_options *o = r->options;
  TRY(train_config_check(r->ctx, r->config));
  if (o->out) {
    TRY(run_directory_open(r->ctx, o->out, o->resume, o->recipe_text ? o->recipe_text : "{}\n", &r->directory));
    r->has_directory = true;
    r->record = r->directory.record;
    if (!r->directory.fresh && r->directory.step >= r->config->steps) {
      const run_record *rec = &r->record;
      *out = (elbo_train_result){.steps = r->directory.step,
                                 .samples = r->directory.step * r->config->batch_size,
                                 .seconds = rec->seconds,
                                 .flops = rec->flops,
                                 .loss = rec->last_loss,
                                 .already_finished = 1,
                                 .resumed_from = (int)r->directory.step};
      log_info(r->ctx, "%s: finished already, at step %lld", o->out, (long long)r->directory.step);
      return ELBO_OK;
    }
  }
  if (r->has_directory && !r->directory.fresh) TRY(check_frozen(r));
  const double begin = seconds_now();
  if (r->task->prepare) TRY(r->task->prepare(r->task->user, o->out, o->progress, o->progress_user));
  const double prepared = seconds_now() - begin;
  if (r->task->prepare_flops) TRY(r->task->prepare_flops(r->task->user, &r->prepare_flops));
  TRY(start(r));
  if (r->task->prepare) r->log.seconds += prepared; // part of what training takes
  return train(r);
}

elbo_status run_training(elbo_ctx *ctx, const run_options *options, const train_task *task, elbo_train_result *out) {
  *out = (elbo_train_result){.loss = NAN};
  run r = {.ctx = ctx, .options = options, .task = task, .config = options->train, .saved_step = -1};
  elbo_status status = run_all(&r, out);
  if (!out->already_finished) fill_result(&r, out);
  run_log_close(&r.log);
  trainer_destroy(&r.t);
  if (r.has_directory) run_directory_close(&r.directory);
  return status;
}
