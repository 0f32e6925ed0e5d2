// Reads the specs of single operations.
#include "tasks/bench_spec.h"

#include <elbo/bench.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

static const struct {
  const char *name;
  int64_t min, max; // of what can be said
} keys[] = {[KEY_N] = {"n", 1, 1 << 20},
            [KEY_H] = {"h", 1, 1 << 16},
            [KEY_W] = {"w", 1, 1 << 16},
            [KEY_C] = {"c", 1, 1 << 20},
            [KEY_K] = {"k", 1, 1 << 20},
            [KEY_M] = {"m", 1, 1 << 20},
            [KEY_R] = {"r", 1, 64},
            [KEY_S] = {"s", 1, 64},
            [KEY_STRIDE] = {"stride", 1, 64},
            [KEY_PAD] = {"pad", 0, 64},
            [KEY_DILATION] = {"dilation", 1, 64},
            [KEY_GROUPS] = {"groups", 1, 1 << 20},
            [KEY_FACTOR] = {"factor", 1, 16},
            [KEY_Q] = {"q", 1, 1 << 20},
            [KEY_KV] = {"kv", 1, 1 << 20},
            [KEY_HEADS] = {"heads", 1, 1024},
            [KEY_D] = {"d", 1, 4096},
            [KEY_CAUSAL] = {"causal", 0, 1},
            [KEY_TRANSPOSE_A] = {"transpose_a", 0, 1},
            [KEY_TRANSPOSE_B] = {"transpose_b", 0, 1},
            [KEY_BIAS] = {"bias", 0, 1},
            [KEY_RESIDUAL] = {"residual", 0, 1},
            [KEY_SILU] = {"silu", 0, 1},
            [KEY_CONSTANT] = {"constant", 0, 1}};

enum { UNSAID = -1 };

static const char *const dirs[] = {[DIR_FORWARD] = "forward",
                                   [DIR_BACKWARD] = "backward",
                                   [DIR_BACKWARD_DATA] = "backward_data",
                                   [DIR_BACKWARD_WEIGHTS] = "backward_weights"};

const char *bench_dir_name(bench_dir dir) { return dirs[dir]; }
const char *elbo_bench_op_at(int i) {
  const bench_op *op = bench_op_at(i);
  return op ? op->text : NULL;
}

static size_t name_length(const bench_op *op) { return strcspn(op->text, ":"); }

static bool has_dir(const bench_op *op, bench_dir dir) {
  if (dir == DIR_FORWARD) return true;
  if (dir == DIR_BACKWARD_WEIGHTS) return op->flags & HAS_WEIGHTS;
  return op->flags & HAS_DATA;
}

static elbo_status unknown_op(elbo_ctx *ctx, const char *text) {
  char list[2048] = "";
  for (int i = 0; bench_op_at(i); i++) {
    size_t at = strlen(list);
    snprintf(list + at, sizeof list - at, "%s%.*s", i ? ", " : "", (int)name_length(bench_op_at(i)), bench_op_at(i)->text);
  }
  return fail(ctx, ELBO_ERROR_ARGUMENT, "'%s': there is no such operation to measure; there are %s", text, list);
}

static int key_of(const char *text, size_t length) {
  for (int k = 0; k < KEY_COUNT; k++)
    if (strlen(keys[k].name) == length && !strncmp(keys[k].name, text, length)) return k;
  return -1;
}

// The key that begins at text, if the operation has it.
static int known_key(const bench_op *op, const char *text, size_t length) {
  for (const char *at = op->text + name_length(op); *at; at += strcspn(at, ",")) {
    at++;
    if (strcspn(at, "=") == length && !strncmp(at, text, length)) return key_of(text, length);
  }
  return -1;
}

static elbo_status read_dir(elbo_ctx *ctx, const bench_op *op, const char *text, const char *value, size_t length, bench_dir *out) {
  char list[128] = "";
  for (int d = 0; d < DIR_COUNT; d++) {
    if (!has_dir(op, (bench_dir)d)) continue;
    if (strlen(dirs[d]) == length && !strncmp(dirs[d], value, length)) return *out = (bench_dir)d, ELBO_OK;
    size_t at = strlen(list);
    snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", dirs[d]);
  }
  return fail(ctx, ELBO_ERROR_ARGUMENT, "'%s': dir=%.*s: expected %s", text, (int)length, value, list);
}

static elbo_status read_pair(elbo_ctx *ctx, const char *text, const char *at, size_t length, bench_spec *s) {
  const bench_op *op = s->op;
  size_t name = strcspn(at, "=,");
  if (name == 3 && !strncmp(at, "dir", 3) && at[3] == '=') return read_dir(ctx, op, text, at + 4, length - 4, &s->dir);
  int key = known_key(op, at, name);
  if (key < 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "'%s': there is no key '%.*s'; %.*s has (with defaults) %s and dir=forward", text, (int)name, at,
                (int)name_length(op), op->text, op->text[name_length(op)] ? op->text + name_length(op) + 1 : "none");
  char *end = NULL;
  errno = 0;
  long long value = name < length ? strtoll(at + name + 1, &end, 10) : 0;
  if (!end || end == at + name + 1 || end != at + length || errno || value < keys[key].min || value > keys[key].max)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "'%s': %.*s: expected a whole number from %lld to %lld", text, (int)length, at,
                (long long)keys[key].min, (long long)keys[key].max);
  s->at[key] = value;
  return ELBO_OK;
}

static void read_defaults(bench_spec *s) {
  for (const char *at = s->op->text + name_length(s->op); *at; at += strcspn(at, ",")) {
    at++;
    size_t name = strcspn(at, "=");
    const char *value = at + name + 1;
    s->at[key_of(at, name)] = strncmp(value, "auto", 4) ? strtoll(value, NULL, 10) : UNSAID;
  }
}

// What "auto" stands for.
static void work_out(bench_spec *s) {
  int64_t *at = s->at;
  bool transposed = !strncmp(s->op->text, "conv_transpose2d", 16);
  if (at[KEY_W] == UNSAID) at[KEY_W] = at[KEY_H];
  if (at[KEY_K] == UNSAID) at[KEY_K] = at[KEY_C];
  if (at[KEY_S] == UNSAID) at[KEY_S] = at[KEY_R];
  if (at[KEY_KV] == UNSAID) at[KEY_KV] = at[KEY_Q];
  if (at[KEY_PAD] == UNSAID && transposed) at[KEY_PAD] = at[KEY_R] > at[KEY_STRIDE] ? (at[KEY_R] - at[KEY_STRIDE] + 1) / 2 : 0;
  if (at[KEY_PAD] == UNSAID) at[KEY_PAD] = at[KEY_DILATION] * (at[KEY_R] - 1) / 2;
  if (at[KEY_CONSTANT] == UNSAID) at[KEY_CONSTANT] = s->dir == DIR_FORWARD;
}

elbo_status bench_spec_parse(elbo_ctx *ctx, const char *text, bench_spec *out) {
  size_t length = strcspn(text, ":");
  *out = (bench_spec){0};
  for (int i = 0; bench_op_at(i) && !out->op; i++)
    if (name_length(bench_op_at(i)) == length && !strncmp(bench_op_at(i)->text, text, length)) out->op = bench_op_at(i);
  if (!out->op) return unknown_op(ctx, text);
  read_defaults(out);
  for (const char *at = text + length; *at;) {
    at++;
    size_t pair = strcspn(at, ",");
    TRY(read_pair(ctx, text, at, pair, out));
    at += pair;
  }
  work_out(out);
  return ELBO_OK;
}
