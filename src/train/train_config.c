#include "train/train_config.h"

#include <math.h>
#include <string.h>

static const config_field group_fields[] = {
    CONFIG_ENUM(group_config, optimizer, "same", "same|sgd|adam|adamw|rmsprop", "update rule; same: train.optimizer"),
    CONFIG_FLOAT(group_config, learning_rate, -1, 100, "-1", "", "peak learning rate, 0: frozen; -1: train.learning_rate"),
    CONFIG_FLOAT(group_config, beta1, -1, 0.9999999, "-1", "", "-1: train.beta1"),
    CONFIG_FLOAT(group_config, beta2, -1, 0.9999999, "-1", "", "-1: train.beta2"),
    CONFIG_FLOAT(group_config, epsilon, -1, 1, "-1", "", "-1: train.epsilon"),
    CONFIG_FLOAT(group_config, weight_decay, -1, 10, "-1", "", "-1: train.weight_decay"),
};
static const config_table group_table = CONFIG_TABLE("group", group_config, group_fields, "an optimiser of its own");

static const config_field train_fields[] = {
    CONFIG_INT(train_config, steps, 1, 1e12, "3000", "steps", "optimiser updates"),
    CONFIG_INT(train_config, batch_size, 1, 1e7, "128", "examples", "examples of one update"),
    CONFIG_INT(train_config, accumulate, 1, 1e6, "1", "parts",
               "a batch is computed in so many parts whose gradients are summed: the same update in less memory; must divide batch_size"),
    CONFIG_ENUM(train_config, optimizer, "adamw", "sgd|adam|adamw|rmsprop", "update rule"),
    CONFIG_FLOAT(train_config, learning_rate, 0, 100, "1e-3", "", "peak learning rate"),
    CONFIG_FLOAT(train_config, beta1, 0, 0.9999999, "0.9", "", "decay of the first moment (Adam, AdamW); momentum (SGD, RMSProp)"),
    CONFIG_FLOAT(train_config, beta2, 0, 0.9999999, "0.999", "", "decay of the second moment (Adam, AdamW, RMSProp)"),
    CONFIG_FLOAT(train_config, epsilon, 0, 1, "1e-8", "", "added to the root of the second moment"),
    CONFIG_FLOAT(train_config, weight_decay, 0, 10, "0", "", "times the learning rate off the weights (AdamW); into the gradient (others)"),
    CONFIG_FLOAT(train_config, clip_norm, 0, 1e30, "0", "", "largest global norm of the gradient; 0: off"),
    CONFIG_ENUM(train_config, schedule, "constant", "constant|linear|cosine|step", "learning rate after the warm-up"),
    CONFIG_INT(train_config, warmup_steps, 0, 1e12, "0", "steps", "the learning rate rises linearly over so many"),
    CONFIG_INT(train_config, step_size, 1, 1e12, "1000", "steps", "schedule step: times gamma every so many"),
    CONFIG_FLOAT(train_config, gamma, 0, 1, "0.5", "", "schedule step: factor"),
    CONFIG_FLOAT(train_config, min_learning_rate, 0, 100, "0", "", "where linear and cosine end, and floor of step"),
    CONFIG_FLOATS_AS(
        train_config, ema, 0, 0.9999999, "0.999", "", CONFIG_SINGLE,
        "decay of the exponential moving average of the weights; 0: none is kept; of a list, one average is kept for each, and "
        "the first is the one that is used"),
    CONFIG_BOOL(train_config, ema_warmup, "true", "the decay is min(ema, (1 + n)/(10 + n)) after n updates"),
    CONFIG_INT(train_config, checkpoint_every, 0, 1e12, "500", "steps", "a checkpoint is written; 0: only at the end"),
    CONFIG_INT(train_config, keep, 0, 1e6, "3", "checkpoints", "newest ones that are kept, beside the best; 0: all"),
    CONFIG_INT(train_config, log_every, 1, 1e12, "50", "steps", "averaged into one line of metrics.jsonl"),
    CONFIG_INT(train_config, preview_every, 0, 1e12, "0", "steps", "pictures are written to samples/; 0: never"),
    CONFIG_INT(train_config, validate_every, 0, 1e12, "0", "steps", "the held-out part is scored; 0: at checkpoints only"),
    CONFIG_INT(train_config, seed, 0, 9e15, "0", "", "of initial weights, order of the data and every random draw"),
    CONFIG_STRING(
        train_config, init, "\"\"",
        "a model or run directory, or the name of an earlier stage, whose weights training starts from, all of them; empty: drawn "
        "from the seed"),
    CONFIG_STRINGS(train_config, freeze, "[]", "parameters whose names begin so stay as they are, as in [encoder, decoder.fc]"),
    CONFIG_BYTES(train_config, memory_limit, "0",
                 "for all that --dry-run counts of a step: activations are computed again to keep it; 0: none"),
    CONFIG_BOOL(train_config, stop_on_nan, "true", "a loss or gradient that is not finite ends the run; false: that update is skipped"),
    CONFIG_MAP(
        train_config, groups, &group_table,
        "an optimiser of its own for the parameters whose names begin so, as in {encoder: {learning_rate: 1e-4}, decoder.fc: {...}}; the "
        "longest beginning counts"),
};
const config_table train_table = CONFIG_TABLE("train", train_config, train_fields, "how it is trained");

// An average is asked for by its decay.
static elbo_status check_averages(elbo_ctx *ctx, const config_floats *ema) {
  if (ema->count > MOST_AVERAGES)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "train.ema: a list of %lld; expected at most %d", (long long)ema->count, MOST_AVERAGES);
  for (int64_t i = 0; i < ema->count; i++) {
    if (ema->at[i] == 0 && ema->count > 1)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "train.ema[%lld]: 0 beside others; 0 alone keeps no average", (long long)i);
    for (int64_t k = 0; k < i; k++)
      if (ema->at[k] == ema->at[i])
        return fail(ctx, ELBO_ERROR_ARGUMENT, "train.ema[%lld]: %g stands there twice", (long long)i, ema->at[i]);
  }
  return ELBO_OK;
}

elbo_status train_config_check(elbo_ctx *ctx, const train_config *c) {
  TRY(check_averages(ctx, &c->ema));
  if (c->batch_size % c->accumulate)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "train.accumulate: %lld does not divide train.batch_size (%lld)", (long long)c->accumulate,
                (long long)c->batch_size);
  if (c->schedule != SCHEDULE_CONSTANT && c->min_learning_rate > c->learning_rate)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "train.min_learning_rate: %g is above train.learning_rate (%g)", c->min_learning_rate,
                c->learning_rate);
  int64_t samples;
  if (!checked_mul(c->steps, c->batch_size, &samples))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "train.steps: %lld times train.batch_size (%lld) is more examples than can be counted",
                (long long)c->steps, (long long)c->batch_size);
  return ELBO_OK;
}

int64_t train_micro_batch(const train_config *c) { return c->batch_size / c->accumulate; }

optimizer_config train_optimizer(const train_config *c) {
  return (optimizer_config){c->optimizer, c->learning_rate, c->beta1, c->beta2, c->epsilon, c->weight_decay, c->clip_norm};
}

// "encoder" of "encoder.fc.weight", not of "encoders"
static bool begins(const char *parameter, const char *with, size_t n) {
  return strncmp(parameter, with, n) == 0 && (parameter[n] == 0 || parameter[n] == '.');
}

bool train_is_frozen(const train_config *c, const char *parameter) {
  for (int64_t i = 0; i < c->freeze.count; i++)
    if (begins(parameter, c->freeze.at[i], strlen(c->freeze.at[i]))) return true;
  return false;
}

int train_group_of(const train_config *c, const char *parameter) {
  int best = -1;
  size_t longest = 0;
  for (int64_t i = 0; i < c->groups.count; i++) {
    size_t n = strlen(c->groups.name[i]);
    if (begins(parameter, c->groups.name[i], n) && (best < 0 || n > longest)) best = (int)i, longest = n;
  }
  return best;
}

optimizer_config train_group_optimizer(const train_config *c, int i, const optimizer_config *phase) {
  const group_config *g = (const group_config *)c->groups.at + i;
  optimizer_config own = *phase;
  if (g->optimizer) own.kind = g->optimizer - 1;
  if (g->learning_rate >= 0) own.learning_rate = g->learning_rate;
  if (g->beta1 >= 0) own.beta1 = g->beta1;
  if (g->beta2 >= 0) own.beta2 = g->beta2;
  if (g->epsilon >= 0) own.epsilon = g->epsilon;
  if (g->weight_decay >= 0) own.weight_decay = g->weight_decay;
  return own;
}

// warm-up: peak (step + 1) / warmup. After it, with t in [0, 1) the part of the remaining steps that is done:
//   linear  floor + (peak - floor) (1 - t)       cosine  floor + (peak - floor) (1 + cos pi t) / 2   [Loshchilov17 eq. 5]
//   step    max(floor, peak gamma^floor(done / step_size))
double learning_rate_at(const train_config *c, double peak, int64_t step) {
  if (step < c->warmup_steps) return peak * (double)(step + 1) / (double)c->warmup_steps;
  double done = (double)(step - c->warmup_steps), left = (double)(c->steps - c->warmup_steps);
  double t = left > 0 && done < left ? done / left : 1.0;
  double low = c->min_learning_rate < peak ? c->min_learning_rate : peak; // a group with a small peak of its own never rises
  switch (c->schedule) {
  case SCHEDULE_LINEAR: return low + (peak - low) * (1.0 - t);
  case SCHEDULE_COSINE: return low + (peak - low) * 0.5 * (1.0 + cos(3.14159265358979323846 * t));
  case SCHEDULE_STEP: {
    double rate = peak * pow(c->gamma, floor(done / (double)c->step_size));
    return rate > low ? rate : low;
  }
  default: return peak;
  }
}

int train_averages(const train_config *c) { return c->ema.count == 1 && c->ema.at[0] == 0 ? 0 : (int)c->ema.count; }

double ema_decay_at(const train_config *c, int i, int64_t n) {
  double rising = (1.0 + (double)n) / (10.0 + (double)n);
  return c->ema_warmup && rising < c->ema.at[i] ? rising : c->ema.at[i];
}
