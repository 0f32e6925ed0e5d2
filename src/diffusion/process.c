// Processes: the reading of their config, and values at any time.
#include "diffusion/process.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "diffusion/betas.h"

static const config_field process_fields[] = {
    CONFIG_ENUM(
        process_config, type, "discrete", "discrete|linear|cosine|sigmoid|edm|flow|ve|learned",
        "a table of betas; log-SNR linear, (shifted) cosine or sigmoid in t; EDM's sigma; rectified flow; variance exploding; learned"),
    CONFIG_INT(process_config, steps, 1, 1e6, "1000", "steps", "T of a discrete process"),
    CONFIG_ENUM(process_config, betas, "linear", BETA_SCHEDULE_NAMES, "of a discrete process"),
    CONFIG_FLOAT(process_config, beta_start, -1e300, 1e300, "1e-4", "", "first beta of linear, scaled_linear and sigmoid"),
    CONFIG_FLOAT(process_config, beta_end, -1e300, 1e300, "0.02", "", "last beta of linear, scaled_linear and sigmoid"),
    CONFIG_FLOATS(process_config, table, -1e300, 1e300, "[]", "", "the betas of `table`, one a step"),
    CONFIG_BOOL(process_config, zero_snr, "false", "betas rescaled so that nothing of the data is left at the last step"),
    CONFIG_FLOAT(process_config, logsnr_min, -100, 100, "-15", "", "log-SNR at t = 1 of linear, cosine, sigmoid and learned"),
    CONFIG_FLOAT(process_config, logsnr_max, -100, 100, "15", "", "log-SNR at t = 0 of linear, cosine, sigmoid and learned"),
    CONFIG_FLOAT(process_config, shift, 1e-6, 1e6, "1", "", "of cosine and flow; 1: none"),
    CONFIG_FLOAT(process_config, sigma_min, 0, 1e9, "0.002", "", "of edm and ve"),
    CONFIG_FLOAT(process_config, sigma_max, 0, 1e9, "80", "", "of edm and ve"),
    CONFIG_FLOAT(process_config, rho, 0.01, 1000, "7", "", "of edm"),
};
const config_table process_table = CONFIG_TABLE("process", process_config, process_fields, "how data are turned into noise");

struct process {
  process_config config; // its table is not kept
  logsnr_fn fn;
  void *user;
  int64_t steps;
  double *alpha_bar; // (T)
  double *logsnr;    // (T); the last is -inf at zero SNR
};

// --- log-SNR -> the variance-preserving pair ---

// alpha^2 = sigmoid(l), sigma^2 = sigmoid(-l) [Kingma21 section 3.2]; d alpha / dl = alpha sigma^2 / 2, d sigma / dl = -sigma alpha^2 / 2.
static process_point preserving(double logsnr, double dlogsnr) {
  double alpha2 = 1 / (1 + exp(-logsnr)), sigma2 = 1 / (1 + exp(logsnr)), alpha = sqrt(alpha2), sigma = sqrt(sigma2);
  return (process_point){.alpha = alpha,
                         .sigma = sigma,
                         .logsnr = logsnr,
                         .dalpha = alpha * sigma2 / 2 * dlogsnr,
                         .dsigma = -sigma * alpha2 / 2 * dlogsnr,
                         .dlogsnr = dlogsnr};
}

// --- discrete ---

// Log-SNR is linear in t between the points, and goes on below the first as it begins. Where the last point has no signal left, it is
// alpha / sigma that is linear over the last interval: log-SNR cannot be.
static process_point discrete_at(const process *p, double t) {
  double T = (double)p->steps, position = t * T - 1; // index i, possibly fractional
  if (p->steps == 1) return preserving(p->logsnr[0], 0);
  int64_t i = position < 0 ? 0 : (int64_t)position;
  if (i > p->steps - 2) i = p->steps - 2;
  double part = position - (double)i;
  if (isinf(p->logsnr[i + 1])) {
    double first = exp(p->logsnr[i] / 2), ratio = first * (1 - part), slope = -first * T, sigma2 = 1 / (1 + ratio * ratio);
    double sigma = sqrt(sigma2);
    return (process_point){.alpha = ratio * sigma,
                           .sigma = sigma,
                           .logsnr = 2 * log(ratio),
                           .dalpha = sigma * sigma2 * slope,
                           .dsigma = -ratio * sigma * sigma2 * slope,
                           .dlogsnr = 2 * slope / ratio};
  }
  double slope = p->logsnr[i + 1] - p->logsnr[i];
  return preserving(p->logsnr[i] + part * slope, slope * T);
}

static double discrete_time(const process *p, double logsnr) {
  double T = (double)p->steps;
  if (p->steps == 1) return 1;
  int64_t low = 0, high = p->steps - 1; // logsnr[low] >= logsnr > logsnr[high], once found
  while (high - low > 1) {
    int64_t middle = (low + high) / 2;
    if (p->logsnr[middle] >= logsnr) {
      low = middle;
    } else {
      high = middle;
    }
  }
  double part =
      isinf(p->logsnr[high]) ? 1 - exp((logsnr - p->logsnr[low]) / 2) : (logsnr - p->logsnr[low]) / (p->logsnr[high] - p->logsnr[low]);
  return ((double)low + part + 1) / T;
}

// --- continuous ---

// [Hoogeboom23]: -2 log tan(angle) + 2 log shift, the angle running between those of the two ends.
static void cosine_angles(const process_config *c, double *first, double *last) {
  *first = atan(c->shift * exp(-c->logsnr_max / 2));
  *last = atan(c->shift * exp(-c->logsnr_min / 2));
}

static process_point cosine_at(const process_config *c, double t) {
  double first, last;
  cosine_angles(c, &first, &last);
  double angle = first + t * (last - first);
  return preserving(-2 * log(tan(angle)) + 2 * log(c->shift), -4 / sin(2 * angle) * (last - first));
}

// [Jabri22]: alpha_bar is a falling sigmoid over (-3, 3), here stretched so that it begins and ends at the two given log-SNRs. The share
// that is gone, and the share that is left, are each computed without cancellation.
enum { SIGMOID_REACH = 3 };
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static process_point sigmoid_at(const process_config *c, double t) {
  double a = sigmoid(-SIGMOID_REACH), b = sigmoid(SIGMOID_REACH), u = (2 * t - 1) * SIGMOID_REACH;
  double gone = (sigmoid(u) - a) / (b - a), left = (sigmoid(-u) - a) / (b - a);
  double dgone = sigmoid(u) * sigmoid(-u) * 2 * SIGMOID_REACH / (b - a);
  double range = sigmoid(c->logsnr_max) - sigmoid(c->logsnr_min);
  double alpha2 = sigmoid(c->logsnr_min) + range * left, sigma2 = sigmoid(-c->logsnr_max) + range * gone;
  return preserving(log(alpha2) - log(sigma2), -range * dgone * (1 / alpha2 + 1 / sigma2));
}

static process_point exploding(double sigma, double dsigma) {
  return (process_point){.alpha = 1, .sigma = sigma, .logsnr = -2 * log(sigma), .dsigma = dsigma, .dlogsnr = -2 * dsigma / sigma};
}

static process_point edm_at(const process_config *c, double t) {
  double low = pow(c->sigma_min, 1 / c->rho), high = pow(c->sigma_max, 1 / c->rho), root = low + t * (high - low);
  return exploding(pow(root, c->rho), c->rho * pow(root, c->rho - 1) * (high - low));
}

static process_point flow_at(const process_config *c, double t) {
  double s = c->shift, under = 1 + (s - 1) * t, sigma = s * t / under, alpha = (1 - t) / under, slope = s / (under * under);
  return (process_point){.alpha = alpha,
                         .sigma = sigma,
                         .logsnr = 2 * (log(alpha) - log(sigma)),
                         .dalpha = -slope,
                         .dsigma = slope,
                         .dlogsnr = -2 * slope * (1 / alpha + 1 / sigma)};
}

process_point process_at(const process *p, double t) {
  const process_config *c = &p->config;
  if (p->fn) {
    double logsnr, dlogsnr;
    p->fn(p->user, t, &logsnr, &dlogsnr);
    return preserving(logsnr, dlogsnr);
  }
  switch ((process_type)c->type) {
  case PROCESS_DISCRETE: return discrete_at(p, t);
  case PROCESS_COSINE: return cosine_at(c, t);
  case PROCESS_SIGMOID: return sigmoid_at(c, t);
  case PROCESS_EDM: return edm_at(c, t);
  case PROCESS_FLOW: return flow_at(c, t);
  case PROCESS_VE: {
    double rate = log(c->sigma_max / c->sigma_min), sigma = c->sigma_min * exp(rate * t);
    return exploding(sigma, sigma * rate);
  }
  case PROCESS_LINEAR:
  case PROCESS_LEARNED: break;
  }
  return preserving(c->logsnr_max + t * (c->logsnr_min - c->logsnr_max), c->logsnr_min - c->logsnr_max);
}

double process_network_time(const process *p, double t) {
  switch ((process_type)p->config.type) {
  case PROCESS_DISCRETE: return fmax(0, t * (double)p->steps - 1);
  case PROCESS_EDM: return log(process_at(p, t).sigma) / 4;
  case PROCESS_FLOW: return 1000 * process_at(p, t).sigma;
  case PROCESS_VE: return process_at(p, t).sigma;
  case PROCESS_LINEAR:
  case PROCESS_COSINE:
  case PROCESS_SIGMOID:
  case PROCESS_LEARNED: break;
  }
  return t;
}

// Bisection to the last bit: log-SNR falls.
static double search_time(const process *p, double logsnr) {
  double low = 0, high = 1;
  for (int i = 0; i < 64; i++) {
    double middle = (low + high) / 2;
    if (process_at(p, middle).logsnr > logsnr) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return (low + high) / 2;
}

double process_time_of_logsnr(const process *p, double logsnr) {
  const process_config *c = &p->config;
  double t;
  if (p->fn) return search_time(p, logsnr);
  switch ((process_type)c->type) {
  case PROCESS_DISCRETE: t = discrete_time(p, logsnr); break;
  case PROCESS_COSINE: {
    double first, last;
    cosine_angles(c, &first, &last);
    t = (atan(c->shift * exp(-logsnr / 2)) - first) / (last - first);
    break;
  }
  case PROCESS_SIGMOID: t = search_time(p, logsnr); break;
  case PROCESS_EDM: {
    double low = pow(c->sigma_min, 1 / c->rho), high = pow(c->sigma_max, 1 / c->rho);
    t = (exp(-logsnr / 2 / c->rho) - low) / (high - low);
    break;
  }
  case PROCESS_FLOW: {
    double shifted = 1 / (1 + exp(logsnr / 2)); // sigma / alpha = exp(-logsnr / 2), alpha + sigma = 1
    t = shifted / (c->shift - (c->shift - 1) * shifted);
    break;
  }
  case PROCESS_VE: t = (-logsnr / 2 - log(c->sigma_min)) / log(c->sigma_max / c->sigma_min); break;
  case PROCESS_LINEAR:
  case PROCESS_LEARNED:
  default: t = (logsnr - c->logsnr_max) / (c->logsnr_min - c->logsnr_max); break;
  }
  return t < 0 ? 0 : t > 1 ? 1 : t;
}

// --- making ---

static elbo_status check_ends(elbo_ctx *ctx, const process_config *c, const char *where) {
  char low[NUMBER_TEXT], high[NUMBER_TEXT];
  bool sigmas = c->type == PROCESS_EDM || c->type == PROCESS_VE;
  if (c->type == PROCESS_FLOW || c->type == PROCESS_DISCRETE) return ELBO_OK;
  if (sigmas && !(c->sigma_min > 0 && c->sigma_min < c->sigma_max))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.sigma_min: %s with sigma_max %s; expected 0 < sigma_min < sigma_max", where,
                number_text(c->sigma_min, low), number_text(c->sigma_max, high));
  if (!sigmas && !(c->logsnr_min < c->logsnr_max))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.logsnr_min: %s with logsnr_max %s; expected logsnr_min < logsnr_max", where,
                number_text(c->logsnr_min, low), number_text(c->logsnr_max, high));
  return ELBO_OK;
}

static elbo_status make_discrete(elbo_ctx *ctx, process *p, const process_config *c, const char *where) {
  size_t T = (size_t)c->steps;
  p->steps = c->steps;
  TRY(array_new(ctx, T, sizeof(double), "cumulative products", (void **)&p->alpha_bar));
  TRY(array_new(ctx, T, sizeof(double), "log-SNRs", (void **)&p->logsnr));
  double *betas = p->logsnr, left = 1; // betas first: they are needed only here
  TRY(betas_fill(ctx, c, where, betas));
  for (size_t i = 0; i < T; i++) {
    left *= 1 - betas[i];
    p->alpha_bar[i] = left;
    p->logsnr[i] = log(left) - log1p(-left);
    if (!(p->logsnr[i] < (i ? p->logsnr[i - 1] : INFINITY)))
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: the log-SNR does not fall at step %zu; these betas are too small or too large", where, i);
  }
  return ELBO_OK;
}

elbo_status process_create(elbo_ctx *ctx, const process_config *config, const char *where, process **out) {
  elbo_status status = ELBO_OK;
  process *p = NULL;
  *out = NULL;
  if (config->type == PROCESS_LEARNED)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.type: a learned process has its values from its model", where);
  TRY(check_ends(ctx, config, where));
  TRY(array_new(ctx, 1, sizeof *p, "a process", (void **)&p));
  p->config = *config;
  p->config.table = (config_floats){0};
  if (config->type == PROCESS_DISCRETE) TRY_GOTO(make_discrete(ctx, p, config, where));
  *out = p;
  return ELBO_OK;
fail:
  process_destroy(&p);
  return status;
}

elbo_status process_create_custom(elbo_ctx *ctx, logsnr_fn fn, void *user, process **out) {
  process *p;
  *out = NULL;
  TRY(array_new(ctx, 1, sizeof *p, "a process", (void **)&p));
  p->config.type = PROCESS_LEARNED;
  p->fn = fn;
  p->user = user;
  *out = p;
  return ELBO_OK;
}

void process_destroy(process **p) {
  if (!*p) return;
  free((*p)->alpha_bar);
  free((*p)->logsnr);
  free(*p);
  *p = NULL;
}

int64_t process_steps(const process *p) { return p->steps; }
const double *process_alpha_bar(const process *p) { return p->alpha_bar; }
process_type process_kind(const process *p) { return (process_type)p->config.type; }
