// The option parser: --name value, --name=value, -n value; options and arguments in any order; `--` ends the options.
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int usage_error(const command *self, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "elbo %s: ", self->name);
  vfprintf(stderr, format, args);
  va_end(args);
  fprintf(stderr, "\nusage: elbo %s %s   (elbo %s --help says more)\n", self->name, self->arguments, self->name);
  return STATUS_USAGE;
}

// Edit distance [Levenshtein 1966], with names cut at 63 letters.
static int edit_distance(const char *a, const char *b) {
  int row[64], n = (int)strnlen(b, 63);
  for (int j = 0; j <= n; j++) row[j] = j;
  for (int i = 1; a[i - 1] && i < 64; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= n; j++) {
      int best = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      if (row[j] + 1 < best) best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      row[j] = best;
    }
  }
  return row[n];
}

const char *nearest_name(const char *text, const char *const *names, int n) {
  const char *best = NULL;
  int least = (int)strlen(text) / 3 + 2; // farther away is a guess
  for (int i = 0; i < n; i++) {
    int distance = edit_distance(text, names[i]);
    if (distance < least) least = distance, best = names[i];
  }
  return best;
}

bool is_override(const char *text) {
  size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.");
  return n > 0 && text[n] == '=';
}

int take_engine_keys(const command *self, text_list *positional, common_options *common) {
  int n = 0;
  for (int i = 0; i < positional->count; i++) {
    const char *text = positional->at[i], *value = strchr(text, '=');
    if (strncmp(text, "engine.", 7) || !value) {
      positional->at[n++] = text;
      continue;
    }
    if (!strncmp(text, "engine.winograd=", 16) && strcmp(value + 1, "auto") && strcmp(value + 1, "off"))
      return usage_error(self, "'%s': expected auto or off", text);
    if (!strncmp(text, "engine.winograd=", 16))
      common->winograd = value + 1;
    else if (!strncmp(text, "engine.precision=", 17)) // looked at where the context is made; so are bytes
      common->precision = value + 1;
    else if (!strncmp(text, "engine.keep_transformed=", 24))
      common->keep_transformed = value + 1;
    else
      return usage_error(self,
                         "'%s': expected engine.winograd=auto|off, engine.precision=float32|bfloat16|bfloat16-emulated or "
                         "engine.keep_transformed=BYTES",
                         text);
  }
  positional->count = n;
  return ARGS_GO;
}

int one_and_keys(const command *self, const text_list *positional, const char *what, text_list *keys) {
  if (positional->count < 1) return usage_error(self, "expected %s", what);
  *keys = (text_list){positional->count - 1, positional->at + 1};
  for (int i = 0; i < keys->count; i++)
    if (!is_override(keys->at[i])) return usage_error(self, "'%s': expected nothing but key=value of the data section here", keys->at[i]);
  return ARGS_GO;
}

static void print_help(const command *self, const option *options, int n) {
  printf("elbo %s: %s\n\nusage: elbo %s %s\n", self->name, self->summary, self->name, self->arguments);
  if (self->details) printf("\n%s\n", self->details);
  printf("\noptions:\n");
  for (int i = 0; i < n; i++) {
    char left[96];
    const option *o = &options[i];
    snprintf(left, sizeof left, "%s--%s%s%s", o->letter ? (char[]){'-', o->letter, ',', ' ', 0} : "    ", o->name, o->argument ? " " : "",
             o->argument ? o->argument : "");
    printf("  %-34s %s\n", left, o->help);
  }
  printf("  %-34s %s\n\nexample:\n  %s\n", "    --help", "this text", self->example);
}

static int set_option(const command *self, const option *o, const char *shown, const char *text) {
  char *end = NULL;
  errno = 0;
  switch (o->type) {
  case OPTION_INT: {
    long long value = strtoll(text, &end, 10);
    if (!*text || *end || errno) return usage_error(self, "%s '%s': expected a whole number", shown, text);
    if ((double)value < o->min || (double)value > o->max)
      return usage_error(self, "%s %s: expected a whole number from %.0f to %.0f", shown, text, o->min, o->max);
    *(int64_t *)o->value = value;
    return ARGS_GO;
  }
  case OPTION_SEED: {
    unsigned long long value = strtoull(text, &end, 10);
    if (!*text || *end || errno || strchr(text, '-'))
      return usage_error(self, "%s '%s': expected a whole number from 0 to 2^64 - 1", shown, text);
    *(uint64_t *)o->value = value;
    return ARGS_GO;
  }
  case OPTION_FLOAT: {
    double value = strtod(text, &end);
    if (!*text || *end || !isfinite(value)) return usage_error(self, "%s '%s': expected a number", shown, text);
    if (!(value >= o->min && value <= o->max))
      return usage_error(self, "%s %s: expected a number from %g to %g", shown, text, o->min, o->max);
    *(double *)o->value = value;
    return ARGS_GO;
  }
  case OPTION_CHOICE: {
    int index = 0;
    for (const char *at = o->argument; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL, index++) {
      size_t n = strcspn(at, "|");
      if (strlen(text) == n && !strncmp(text, at, n)) return *(int *)o->value = index, ARGS_GO;
    }
    return usage_error(self, "%s '%s': expected one of %s", shown, text, o->argument);
  }
  default:
    if (!*text) return usage_error(self, "%s: expected %s, not nothing", shown, o->argument);
    *(const char **)o->value = text;
    return ARGS_GO;
  }
}

static const option *find_option(const option *options, int n, const char *text, size_t length) {
  for (int i = 0; i < n; i++) {
    if (text[1] == '-' ? strlen(options[i].name) == length - 2 && !strncmp(options[i].name, text + 2, length - 2)
                       : options[i].letter == text[1])
      return &options[i];
  }
  return NULL;
}

static int unknown_option(const command *self, const option *options, int n, const char *text, size_t length) {
  const char *names[64];
  char given[64];
  snprintf(given, sizeof given, "%.*s", (int)(length > 2 ? length - 2 : 0), text + 2);
  for (int i = 0; i < n && i < 64; i++) names[i] = options[i].name;
  const char *near = text[1] == '-' ? nearest_name(given, names, n < 64 ? n : 64) : NULL;
  if (near) return usage_error(self, "unknown option '%.*s'; did you mean --%s?", (int)length, text, near);
  return usage_error(self, "unknown option '%.*s'", (int)length, text);
}

static const char **owned[4]; // the lists made by args_parse
static int n_owned;

static const char **new_list(int argc) {
  const char **list = n_owned < COUNT(owned) ? calloc((size_t)argc + 1, sizeof *list) : NULL;
  if (list)
    owned[n_owned++] = list;
  else
    say("out of memory");
  return list;
}

void args_release(void) {
  while (n_owned > 0) free(owned[--n_owned]);
}

int args_parse(const command *self, int argc, char **argv, const option *options, int n_options, text_list *positional) {
  const char **kept = new_list(argc);
  bool seen[64] = {false}, only_arguments = false;
  if (!kept) return STATUS_FAILED;
  *positional = (text_list){0, kept};
  for (int i = 1; i < argc; i++) {
    const char *text = argv[i];
    if (only_arguments || text[0] != '-' || !text[1]) {
      positional->at[positional->count++] = text;
      continue;
    }
    if (!strcmp(text, "--")) {
      only_arguments = true;
      continue;
    }
    if (!strcmp(text, "--help") || !strcmp(text, "-h")) return print_help(self, options, n_options), finish(STATUS_DONE);
    size_t length = text[1] == '-' ? strcspn(text, "=") : 2;
    const option *o = find_option(options, n_options, text, length);
    if (!o) return unknown_option(self, options, n_options, text, length);
    char shown[64];
    snprintf(shown, sizeof shown, "%.*s", (int)length, text);
    if (seen[o - options] && o->type != OPTION_LIST && o->type != OPTION_FLAG) return usage_error(self, "%s is given twice", shown);
    seen[o - options] = true;
    const char *value = text[length] ? text + length + (text[1] == '-') : NULL;
    if (o->type == OPTION_FLAG) {
      if (value) return usage_error(self, "%s takes no value", shown);
      *(int *)o->value = 1;
      continue;
    }
    if (!value && i + 1 >= argc) return usage_error(self, "%s: expected %s behind it", shown, o->argument);
    if (o->type != OPTION_LIST) {
      int status = set_option(self, o, shown, value ? value : argv[++i]);
      if (status != ARGS_GO) return status;
      continue;
    }
    text_list *list = o->value;
    if (!list->at && !(list->at = new_list(argc))) return STATUS_FAILED;
    if (value) list->at[list->count++] = value;
    while (!value && i + 1 < argc && argv[i + 1][0] != '-') list->at[list->count++] = argv[++i];
    if (!list->count) return usage_error(self, "%s: expected %s behind it", shown, o->argument);
  }
  return ARGS_GO;
}
