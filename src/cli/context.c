// What all subcommands share: the context, messages on standard error, interruption, the end.
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

void say(const char *format, ...) {
  va_list args;
  va_start(args, format);
  clear_progress();
  fputs("elbo: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
}

static void print_log(void *user, elbo_log_level level, const char *text) {
  (void)user;
  if (level == ELBO_LOG_WARNING)
    say("warning: %s", text);
  else if (level == ELBO_LOG_INFO)
    say("%s", text);
}

int open_context(const common_options *common, elbo_ctx **ctx) {
  char message[512] = "";
  elbo_ctx_config config;
  elbo_ctx_defaults(&config);
  config.threads = (int)common->threads;
  config.isa = common->isa;
  config.winograd = common->winograd;
  config.precision = common->precision;
  config.keep_transformed = common->keep_transformed;
  config.log = print_log;
  elbo_status status = elbo_ctx_create(&config, message, sizeof message, ctx);
  if (status == ELBO_OK) return ARGS_GO;
  say("%s", message[0] ? message : elbo_status_name(status));
  return status == ELBO_ERROR_ARGUMENT ? STATUS_USAGE : STATUS_FAILED;
}

int report_failure(elbo_ctx *ctx, elbo_status status) {
  const char *message = elbo_ctx_message(ctx);
  if (status == ELBO_ERROR_STOPPED && interrupted()) return say("interrupted"), STATUS_INTERRUPTED;
  if (status == ELBO_ERROR_STOPPED) return STATUS_FAILED; // by the command itself, which has said why
  say("%s", message && message[0] ? message : elbo_status_name(status));
  return status == ELBO_ERROR_ARGUMENT ? STATUS_USAGE : STATUS_FAILED;
}

void take_sampler_keys(text_list *keys, model_options *options) {
  int left = 0;
  for (int i = 0; i < keys->count; i++) {
    if (!strncmp(keys->at[i], "sample.", 7) && is_override(keys->at[i]) && options->n_sampler_keys < COUNT(options->sampler_keys))
      options->sampler_keys[options->n_sampler_keys++] = keys->at[i] + 7;
    else
      keys->at[left++] = keys->at[i];
  }
  keys->count = left;
}

int open_model(const command *self, const common_options *common, const model_options *options, const char *path, elbo_ctx **ctx,
               elbo_model **model, elbo_model_info *info) {
  elbo_model_config config;
  *model = NULL;
  elbo_model_defaults(&config);
  config.step = -1, config.n_options = options->n_sampler_keys, config.options = options->sampler_keys;
  if (options->ema) {
    char *end;
    config.ema = !strcmp(options->ema, "raw") ? -1 : strtod(options->ema, &end);
    if (config.ema != -1 && (end == options->ema || *end || !(config.ema > 0 && config.ema < 1)))
      return usage_error(self, "--ema '%s': expected raw or the decay of an average, between 0 and 1", options->ema);
  }
  if (options->checkpoint && !strcmp(options->checkpoint, "best"))
    config.step = -2;
  else if (options->checkpoint && strcmp(options->checkpoint, "newest")) {
    char *end;
    config.step = strtoll(options->checkpoint, &end, 10);
    if (*end || config.step < 0) return usage_error(self, "--checkpoint '%s': expected newest, best or a step", options->checkpoint);
  }
  int status = open_context(common, ctx);
  if (status != ARGS_GO) return status;
  elbo_status loaded = elbo_model_load(*ctx, path, &config, model);
  if (loaded != ELBO_OK) return close_model(ctx, model, loaded);
  elbo_model_get_info(*model, info);
  return ARGS_GO;
}

int close_model(elbo_ctx **ctx, elbo_model **model, elbo_status status) {
  int result = status == ELBO_OK ? STATUS_DONE : report_failure(*ctx, status);
  elbo_model_destroy(model);
  elbo_ctx_destroy(ctx);
  return result;
}

static volatile sig_atomic_t interruption;

static void note_interruption(int signal_number) { interruption = signal_number; }

void catch_interruption(void) {
  struct sigaction action = {.sa_handler = note_interruption, .sa_flags = (int)SA_RESETHAND}; // the second one kills
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGHUP, &action, NULL);
}

bool interrupted(void) { return interruption != 0; }

int finish(int status) {
  clear_progress();
  if ((fflush(stdout) || ferror(stdout)) && status == STATUS_DONE) {
    say("standard output: %s", strerror(errno));
    return STATUS_FAILED;
  }
  return status;
}

void print_json_text(FILE *out, const char *text) {
  fputc('"', out);
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      fprintf(out, "\\%c", *c);
    else if (*c < 0x20)
      fprintf(out, "\\u%04x", *c);
    else
      fputc(*c, out);
  }
  fputc('"', out);
}

void print_json_number(FILE *out, double value) {
  if (value - value == 0)
    fprintf(out, "%.9g", value);
  else
    fputs("null", out);
}
