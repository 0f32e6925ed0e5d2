// Config tables: values, defaults, every kind of mistake with its file and line, and the written form.
#include "support/test.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/config_json.h"
#include "core/number.h"

typedef struct inner_config {
  int64_t dim;
  const char *label;
} inner_config;
typedef struct outer_config {
  int64_t steps, seed, memory;
  double rate;
  bool flip;
  const char *path;
  int optimizer;
  config_ints channels;
  config_floats weights;
  inner_config latent;
} outer_config;

static const config_field inner_fields[] = {
    CONFIG_INT(inner_config, dim, 1, 4096, "20", "", "numbers in a code"),
    CONFIG_STRING(inner_config, label, "\"\"", "a name"),
};
static const config_table inner_table = CONFIG_TABLE("latent", inner_config, inner_fields, "the code");
static const config_field outer_fields[] = {
    CONFIG_INT(outer_config, steps, 1, 1e12, NULL, "steps", "optimiser steps"),
    CONFIG_INT(outer_config, seed, 0, 9e18, "0", "", "of everything random"),
    CONFIG_BYTES(outer_config, memory, "1GiB", "at most"),
    CONFIG_FLOAT(outer_config, rate, 0, 10, "1e-3", "", "learning rate | peak"),
    CONFIG_BOOL(outer_config, flip, "false", "mirror at random"),
    CONFIG_STRING(outer_config, path, "digits", "where the data are"),
    CONFIG_ENUM(outer_config, optimizer, "adamw", "sgd|adam|adamw|rmsprop", "update rule"),
    CONFIG_INTS(outer_config, channels, 1, 65536, "[32, 64]", "", "of each level"),
    CONFIG_FLOATS(outer_config, weights, 0, 1, "[]", "", "of each term"),
    CONFIG_SECTION(outer_config, latent, &inner_table),
};
static const config_table outer_table = CONFIG_TABLE("train", outer_config, outer_fields, "how it is trained");

static elbo_ctx *ctx;
static arena *memory;

static elbo_status load(const char *text, outer_config *out) {
  yaml_node *root;
  TRY(yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  return config_load(ctx, memory, &outer_table, root, "train", out);
}

static void test_values(void **state) {
  (void)state;
  outer_config c;
  assert_ok(ctx, load("steps: 60_000\n", &c));
  assert_int_equal(c.steps, 60000);
  assert_int_equal(c.seed, 0);
  assert_int_equal(c.memory, 1 << 30);
  assert_true(c.rate == 1e-3);
  assert_false(c.flip);
  assert_string_equal(c.path, "digits");
  assert_int_equal(c.optimizer, 2);
  assert_int_equal(c.channels.count, 2);
  assert_int_equal(c.channels.at[1], 64);
  assert_int_equal(c.weights.count, 0);
  assert_int_equal(c.latent.dim, 20);
  assert_string_equal(c.latent.label, "");
  assert_ok(
      ctx, load("{steps: 1e6, seed: 8999999999999999999, memory: 1.5GiB, rate: 5, flip: true, path: \"a b\", optimizer: sgd, channels: [], "
                "weights: [0, 0.25, 1e-3], latent: {dim: 1, label: null}}",
                &c));
  assert_int_equal(c.steps, 1000000);
  assert_true(c.seed == INT64_C(8999999999999999999));
  assert_int_equal(c.memory, 3 << 29);
  assert_true(c.rate == 5 && c.flip);
  assert_string_equal(c.path, "a b");
  assert_int_equal(c.optimizer, 0);
  assert_int_equal(c.channels.count, 0);
  assert_true(c.weights.count == 3 && c.weights.at[2] == 1e-3);
  assert_int_equal(c.latent.dim, 1);
  assert_string_equal(c.latent.label, "");
  static const struct {
    const char *text;
    int64_t bytes;
  } sizes[] = {{"1000", 1000},     {"5B", 5},        {"2kB", 2000},         {"200MB", 200000000},
               {"3 MiB", 3 << 20}, {"0.5 KiB", 512}, {"1TB", 1000000000000}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    char text[64];
    snprintf(text, sizeof text, "{steps: 1, memory: %s}", sizes[i].text);
    assert_ok(ctx, load(text, &c));
    assert_int_equal(c.memory, sizes[i].bytes);
  }
  assert_ok(ctx, load("{steps: 1, latent: }", &c)); // a section with nothing behind it takes its defaults
  assert_int_equal(c.latent.dim, 20);
}

static void test_mistakes(void **state) {
  (void)state;
  static const struct {
    const char *text, *message;
  } bad[] = {
      {"steps: 1\n\nstepz: 3\n", "r.yaml:3: train.stepz: unknown key; did you mean 'steps'?"},
      {"steps: 1\nlatent:\n  dmi: 3\n", "r.yaml:3: train.latent.dmi: unknown key; did you mean 'dim'?"},
      {"steps: 1\nchanels:\n  - 3\n", "r.yaml:2: train.chanels: unknown key; did you mean 'channels'?"},
      {"steps: 1\nwhatever: 3\n", "r.yaml:2: train.whatever: unknown key; expected one of steps, seed, memory, rate, flip, path, "
                                  "optimizer, channels, weights, latent"},
      {"seed: 3\n", "r.yaml:1: train.steps: missing; expected a whole number from 1 to 1e12"},
      {"", "r.yaml:1: train.steps: missing"},
      {"5\n", "r.yaml:1: train: is a single value; expected a map of keys"},
      {"[5]\n", "r.yaml:1: train: is a list; expected a map of keys"},
      {"steps: 1\nlatent: 5\n", "r.yaml:2: train.latent: is a single value; expected a map of keys"},
      {"steps: 0\n", "r.yaml:1: train.steps: '0'; expected a whole number from 1 to 1e12"},
      {"steps: 1.5\n", "'1.5'; expected a whole number"},
      {"steps: many\n", "'many'; expected a whole number"},
      {"steps: \"5\"\n", "\"5\"; expected a whole number"},
      {"steps:\n", "train.steps: has no value; expected a whole number"},
      {"steps: [5]\n", "train.steps: is a list; expected a whole number"},
      {"steps: {a: 5}\n", "train.steps: is a map; expected a whole number"},
      {"steps: 99999999999999999999\n", "'99999999999999999999'; expected a whole number"},
      {"steps: 1e13\n", "'1e13'; expected a whole number"},
      {"steps: 0x10\n", "expected a whole number"},
      {"steps: 5_\n", "expected a whole number"},
      {"steps: 1\nrate: 11\n", "r.yaml:2: train.rate: '11'; expected a number from 0 to 10"},
      {"steps: 1\nrate: .nan\n", "train.rate: '.nan'; expected a number"},
      {"steps: 1\nrate: nan\n", "train.rate: 'nan'; expected a number"},
      {"steps: 1\nrate: .inf\n", "train.rate: '.inf'; expected a number"},
      {"steps: 1\nrate: 1e999\n", "train.rate: '1e999'; expected a number"},
      {"steps: 1\nrate: 1e-3x\n", "train.rate: '1e-3x'; expected a number"},
      {"steps: 1\nrate: 1,5\n", "train.rate: '1,5'; expected a number"},
      {"steps: 1\nflip: 1\n", "train.flip: '1'; expected true or false"},
      {"steps: 1\nflip: yes\n", "train.flip: 'yes'; expected true or false"},
      {"steps: 1\npath: [a]\n", "train.path: is a list; expected text"},
      {"steps: 1\noptimizer: adamx\n", "train.optimizer: 'adamx'; did you mean 'adam'? expected one of sgd, adam, adamw, rmsprop"},
      {"steps: 1\noptimizer: lion\n", "r.yaml:2: train.optimizer: 'lion'; expected one of sgd, adam, adamw, rmsprop"},
      {"steps: 1\noptimizer: [sgd]\n", "train.optimizer: is a list; expected one of"},
      {"steps: 1\nchannels: 32\n", "train.channels: '32'; expected a list of whole numbers from 1 to 65536"},
      {"steps: 1\nchannels: [32,\n 0]\n", "r.yaml:3: train.channels[1]: '0'; expected a whole number from 1 to 65536"},
      {"steps: 1\nchannels: [[1]]\n", "train.channels[0]: is a list; expected a whole number"},
      {"steps: 1\nweights: [0.5, x]\n", "train.weights[1]: 'x'; expected a number from 0 to 1"},
      {"steps: 1\nmemory: 5 apples\n", "train.memory: '5 apples'; expected a size such as"},
      {"steps: 1\nmemory: -1\n", "train.memory: '-1'; expected a size such as"},
      {"steps: 1\nmemory: 99999999TiB\n", "train.memory: '99999999TiB'; expected a size such as"},
      {"steps: 1\nlatent: {dim: 5000}\n", "train.latent.dim: '5000'; expected a whole number from 1 to 4096"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    outer_config c;
    assert_status(ctx, load(bad[i].text, &c), ELBO_ERROR_ARGUMENT, bad[i].message);
  }
}

static void test_overrides_and_options(void **state) {
  (void)state;
  yaml_node *root;
  outer_config c;
  const char *text = "steps: 5\n";
  assert_ok(ctx, yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  assert_ok(ctx, yaml_override(ctx, memory, root, "latent.dim=7"));
  assert_ok(ctx, yaml_override(ctx, memory, root, "channels=[1]"));
  assert_ok(ctx, config_load(ctx, memory, &outer_table, root, "train", &c));
  assert_int_equal(c.latent.dim, 7);
  assert_int_equal(c.channels.count, 1);
  assert_ok(ctx, yaml_override(ctx, memory, root, "latent.dam=7"));
  assert_status(ctx, config_load(ctx, memory, &outer_table, root, "train", &c), ELBO_ERROR_ARGUMENT,
                "command line: train.latent.dam: unknown key; did you mean 'dim'?");
  assert_ok(ctx, yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  assert_ok(ctx, yaml_override(ctx, memory, root, "rate=fast"));
  assert_status(ctx, config_load(ctx, memory, &outer_table, root, "train", &c), ELBO_ERROR_ARGUMENT, "command line: train.rate: 'fast'");

  const char *options[] = {"steps=9", "latent.label=x y", "steps=10"};
  assert_ok(ctx, config_load_options(ctx, memory, &outer_table, 3, options, &c));
  assert_int_equal(c.steps, 10);
  assert_string_equal(c.latent.label, "x y");
  const char *bad[] = {"steps=9", "sede=1"};
  assert_status(ctx, config_load_options(ctx, memory, &outer_table, 2, bad, &c), ELBO_ERROR_ARGUMENT,
                "options: sede: unknown key; did you mean 'seed'?");
  assert_status(ctx, config_load_options(ctx, memory, &outer_table, 0, NULL, &c), ELBO_ERROR_ARGUMENT, "steps: missing");
  const char *worse[] = {"steps"};
  assert_status(ctx, config_load_options(ctx, memory, &outer_table, 1, worse, &c), ELBO_ERROR_ARGUMENT,
                "options: 'steps'; expected key=value");
}

static char *written(const outer_config *c, bool comments) {
  text_buffer t = {0};
  config_write(&outer_table, c, 0, comments, &t);
  char *text = text_take(&t);
  assert_non_null(text);
  return text;
}

// Writing and reading back gives the same struct, and the same text, for values drawn at random and for awkward strings.
static void test_reload(void **state) {
  (void)state;
  static const char *const strings[] = {
      "digits",    "",          "a b",      "true",        "null",  "~",      "1e3", "-x", "a: b", "a #b", "\"q\"", "it's",
      "tab\there", "line\nend", "\xc3\xa9", "back\\slash", "[1]",   "{a}",    "&x",  "*y", "!z",   "%d",   "@",     "`",
      ".inf",      "0x1F",      "\x01\x7f", "yes",         " lead", "trail ", "a,b", "?",  ":",    "-",    "---",   "..."};
  test_random r = {test_seed(), 0};
  for (int i = 0; i < 200; i++) {
    int64_t ints[3] = {test_below(&r, 1, 65536), test_below(&r, 1, 65536), 1};
    double floats[2] = {test_uniform(&r), test_uniform(&r)};
    outer_config c = {.steps = test_below(&r, 1, 1000000000000),
                      .seed = test_below(&r, 0, 8999999999999999999),
                      .memory = test_below(&r, 0, INT64_C(1) << 60)};
    c.rate = i == 0 ? 1e-3 : i == 1 ? 0 : 10 * test_uniform(&r) * exp(-20 * test_uniform(&r));
    c.flip = i % 2;
    c.path = strings[i % (sizeof strings / sizeof *strings)];
    c.optimizer = (int)test_below(&r, 0, 3);
    c.channels = (config_ints){i % 4, ints};
    c.weights = (config_floats){i % 3, floats};
    c.latent = (inner_config){test_below(&r, 1, 4096), strings[(i * 7 + 3) % (sizeof strings / sizeof *strings)]};
    outer_config back;
    for (int comments = 0; comments < 2; comments++) {
      char *text = written(&c, comments);
      assert_ok(ctx, load(text, &back));
      assert_string_equal(back.path, c.path);
      assert_string_equal(back.latent.label, c.latent.label);
      assert_true(back.steps == c.steps && back.seed == c.seed && back.memory == c.memory && back.rate == c.rate && back.flip == c.flip);
      assert_true(back.optimizer == c.optimizer && back.latent.dim == c.latent.dim);
      assert_true(back.channels.count == c.channels.count && back.weights.count == c.weights.count);
      for (int j = 0; j < i % 4; j++) assert_true(back.channels.at[j] == ints[j]);
      for (int j = 0; j < i % 3; j++) assert_true(back.weights.at[j] == floats[j]);
      char *again = written(&back, comments);
      assert_string_equal(text, again);
      free(text);
      free(again);
    }
  }
}

static void test_written_form(void **state) {
  (void)state;
  outer_config c;
  assert_ok(ctx, load("steps: 3000\n", &c));
  char *text = written(&c, false);
  assert_string_equal(text, "steps: 3000\nseed: 0\nmemory: 1073741824\nrate: 0.001\nflip: false\npath: digits\noptimizer: adamw\n"
                            "channels: [32, 64]\nweights: []\nlatent:\n  dim: 20\n  label: \"\"\n");
  free(text);
  text_buffer t = {0};
  config_write(&outer_table, &c, 4, true, &t);
  text = text_take(&t);
  assert_non_null(strstr(text, "    steps: 3000  # optimiser steps (steps)\n"));
  assert_non_null(strstr(text, "      dim: 20  # numbers in a code\n"));
  free(text);
  config_markdown(&outer_table, "train", &t);
  text = text_take(&t);
  assert_non_null(strstr(text, "| `train.steps` | whole number | required | 1 to 1e12 | optimiser steps (steps) |\n"));
  assert_non_null(strstr(text, "| `train.rate` | number | `1e-3` | 0 to 10 | learning rate \\| peak |\n"));
  assert_non_null(strstr(text, "| `train.optimizer` | name | `adamw` | `sgd`, `adam`, `adamw`, `rmsprop` | update rule |\n"));
  assert_non_null(strstr(text, "| `train.latent.dim` | whole number | `20` | 1 to 4096 | numbers in a code |\n"));
  free(text);
  assert_true(config_value_text(&outer_table, &c, "latent.dim", &t) && config_value_text(&outer_table, &c, "path", &t));
  text = text_take(&t);
  assert_string_equal(text, "20digits");
  free(text);
  assert_false(config_value_text(&outer_table, &c, "latent.dam", &t) || config_value_text(&outer_table, &c, "steps.x", &t));
  char *empty = text_take(&t);
  assert_string_equal(empty, "");
  free(empty);
  char name[16];
  assert_string_equal(config_enum_name("a|bb|c", 1, name, sizeof name), "bb");
  assert_null(config_enum_name("a|bb|c", 3, name, sizeof name));
  assert_null(config_enum_name("a|bb|c", -1, name, sizeof name));
}

typedef struct list_config {
  int64_t groups;
  config_ints size, heads;
  config_bools flags;
  config_strings kinds;
  config_int_lists depth;
  int middle;
} list_config;
static const config_field list_fields[] = {
    CONFIG_INT_OR_NULL(list_config, groups, 1, 64, "", "of a norm"),
    CONFIG_INTS_AS(list_config, size, 1, 4096, "null", "pixels", CONFIG_SINGLE | CONFIG_NULL, "height and width"),
    CONFIG_INTS_AS(list_config, heads, 1, 64, "8", "", CONFIG_SINGLE, "of each level"),
    CONFIG_BOOLS_AS(list_config, flags, "false", CONFIG_SINGLE, "of each level"),
    CONFIG_STRINGS(list_config, kinds, "[a, b]", "of each level"),
    CONFIG_INT_LISTS_AS(list_config, depth, 0, 100, "1", "", CONFIG_SINGLE | CONFIG_NULL, "of each level and layer"),
    CONFIG_ENUM(list_config, middle, "auto", "auto|null|block|true", "the block between"),
};
static const config_table list_table = CONFIG_TABLE("lists", list_config, list_fields, "");

static elbo_status load_lists(const char *text, list_config *out) {
  yaml_node *root;
  TRY(yaml_parse(ctx, memory, "l.yaml", text, strlen(text), &root));
  return config_load(ctx, memory, &list_table, root, "", out);
}

// Lists that may be single values, null, and lists of lists: read, written as YAML and as JSON, read again.
static void test_lists(void **state) {
  (void)state;
  static const char *const texts[][2] = {
      {"{}", "groups: null\nsize: null\nheads: 8\nflags: false\nkinds: [a, b]\ndepth: 1\nmiddle: auto\n"},
      {"{groups: 4, size: 32, heads: [1, 2], flags: [true, false], kinds: [\"a b\", null], depth: [1, [2, 3], [4]], middle: null}",
       "groups: 4\nsize: 32\nheads: [1, 2]\nflags: [true, false]\nkinds: [\"a b\", \"\"]\ndepth: [1, [2, 3], 4]\nmiddle: null\n"},
      {"{size: [32, 16], heads: [5], flags: [true], kinds: [], depth: [[2, 3]], middle: true}",
       "groups: null\nsize: [32, 16]\nheads: 5\nflags: true\nkinds: []\ndepth: [[2, 3]]\nmiddle: true\n"},
      {"{groups: ~, size: , depth: null, middle: ~}",
       "groups: null\nsize: null\nheads: 8\nflags: false\nkinds: [a, b]\ndepth: null\nmiddle: null\n"},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    list_config c;
    assert_ok(ctx, load_lists(texts[i][0], &c));
    for (int way = 0; way < 2; way++) { // what was written as YAML, then as JSON, is the same struct
      text_buffer t = {0};
      config_write(&list_table, &c, 0, false, &t);
      char *text = text_take(&t);
      assert_string_equal(text, texts[i][1]);
      json_t *json = config_json(&list_table, &c);
      char *dumped = json_dumps(json, 0);
      assert_ok(ctx, load_lists(way ? dumped : text, &c));
      free(text);
      free(dumped);
      json_decref(json);
    }
  }
  list_config c;
  assert_ok(ctx, load_lists("{middle: true, size: 3}", &c));
  json_t *json = config_json(&list_table, &c);
  assert_true(json_is_null(json_object_get(json, "groups")) && json_is_true(json_object_get(json, "middle")) &&
              json_is_integer(json_object_get(json, "size")));
  json_decref(json);
  static const char *const bad[][2] = {
      {"heads: null", "l.yaml:1: heads: has no value; expected a whole number or a list of them, from 1 to 64"},
      {"heads: x", "l.yaml:1: heads: 'x'; expected a whole number from 1 to 64"},
      {"groups: 0", "groups: '0'; expected a whole number from 1 to 64, or null"},
      {"size: {a: 1}", "size: is a map; expected a whole number or a list of them, from 1 to 4096, or null"},
      {"flags: [yes]", "flags[0]: 'yes'; expected true or false"},
      {"flags: 1", "flags: '1'; expected true or false"},
      {"kinds: a", "kinds: 'a'; expected a list of texts"},
      {"kinds: [[a]]", "kinds[0]: is a list; expected text"},
      {"depth: [1, [2, 101]]", "depth[1][1]: '101'; expected a whole number from 0 to 100"},
      {"depth: [1, [[2]]]", "depth[1][0]: is a list; expected a whole number"},
      {"middle: bloc", "middle: 'bloc'; did you mean 'block'? expected one of auto, null, block, true"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_status(ctx, load_lists(bad[i][0], &c), ELBO_ERROR_ARGUMENT, bad[i][1]);
  text_buffer t = {0};
  config_markdown(&list_table, "m", &t);
  char *text = text_take(&t);
  assert_non_null(strstr(text, "| `m.heads` | single or list of whole numbers | `8` | 1 to 64 | of each level |\n"));
  assert_non_null(strstr(text, "| `m.groups` | whole number, or null | `null` | 1 to 64 | of a norm |\n"));
  free(text);
}

// Structs by names of the user's choosing.
typedef struct map_config {
  int64_t n;
  config_map parts;
} map_config;
static const config_field map_fields[] = {
    CONFIG_INT(map_config, n, 0, 9, "1", "", ""),
    CONFIG_MAP(map_config, parts, &inner_table, "what each part has"),
};
static const config_table map_table = CONFIG_TABLE("m", map_config, map_fields, "");

static elbo_status load_map(const char *text, map_config *out) {
  yaml_node *root;
  TRY(yaml_parse(ctx, memory, "m.yaml", text, strlen(text), &root));
  return config_load(ctx, memory, &map_table, root, "", out);
}

static void test_maps(void **state) {
  (void)state;
  static const char *const texts[][2] = {
      {"{}", "n: 1\nparts: {}\n"},
      {"{parts: }", "n: 1\nparts: {}\n"},
      {"{parts: {up.x: {dim: 5}, \"a b\": , two: {label: t}}}",
       "n: 1\nparts:\n  up.x:\n    dim: 5\n    label: \"\"\n  \"a b\":\n    dim: 20\n    label: \"\"\n  two:\n    dim: 20\n    label: t\n"},
  };
  map_config c;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    assert_ok(ctx, load_map(texts[i][0], &c));
    for (int way = 0; way < 2; way++) { // what was written as YAML, then as JSON, is the same struct
      text_buffer t = {0};
      config_write(&map_table, &c, 0, false, &t);
      char *text = text_take(&t);
      assert_string_equal(text, texts[i][1]);
      json_t *json = config_json(&map_table, &c);
      char *dumped = json_dumps(json, 0);
      assert_ok(ctx, load_map(way ? dumped : text, &c));
      free(text);
      free(dumped);
      json_decref(json);
    }
  }
  assert_int_equal(c.parts.count, 3);
  assert_string_equal(c.parts.name[1], "a b");
  assert_int_equal(((inner_config *)c.parts.at)[0].dim, 5);
  static const char *const bad[][2] = {
      {"parts: [a]", "m.yaml:1: parts: is a list; expected a map from names to maps of keys"},
      {"parts: 3", "parts: '3'; expected a map from names to maps of keys"},
      {"parts: {up: 3}", "parts.up: is a single value; expected a map of keys"},
      {"parts: {up: {dmi: 3}}", "parts.up.dmi: unknown key; did you mean 'dim'?"},
      {"parts: {up: {dim: 0}}", "parts.up.dim: '0'; expected a whole number from 1 to 4096"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_status(ctx, load_map(bad[i][0], &c), ELBO_ERROR_ARGUMENT, bad[i][1]);
  yaml_node *root;
  assert_ok(ctx, yaml_parse(ctx, memory, "m.yaml", "{n: 2}", 6, &root));
  assert_ok(ctx, yaml_override(ctx, memory, root, "parts.up.dim=7"));
  assert_ok(ctx, config_load(ctx, memory, &map_table, root, "", &c));
  assert_int_equal(((inner_config *)c.parts.at)[0].dim, 7);
  text_buffer t = {0};
  config_markdown(&map_table, "m", &t);
  char *text = text_take(&t);
  assert_non_null(strstr(text, "| `m.parts` | map | `{}` | names | what each part has |\n| `m.parts.NAME.dim` |"));
  free(text);
}

static void test_numbers(void **state) {
  (void)state;
  double x;
  int64_t n;
  char buffer[NUMBER_TEXT];
  static const char *const bad[] = {"",     "-",   ".",   "e5", "1e", "1e+",   "1.2.3", "1_", "_1",    "1__0",
                                    "0x10", "inf", "nan", "1 ", " 1", "1e5.0", "--1",   "1-", "+.inf5"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(number_parse(bad[i], &x) || integer_parse(bad[i], &n));
  assert_true(number_parse("+1_000.5e-1", &x) && x == 100.05);
  assert_true(number_parse(".5", &x) && x == 0.5 && number_parse("5.", &x) && x == 5);
  assert_true(number_parse("-.inf", &x) && isinf(x) && x < 0 && number_parse(".nan", &x) && isnan(x));
  assert_true(integer_parse("-9223372036854775808", &n) && n == INT64_MIN);
  assert_false(integer_parse("9223372036854775808", &n) || integer_parse("1e300", &n) || integer_parse("0.5", &n) ||
               integer_parse("1e16", &n));
  assert_true(integer_parse("2.5e1", &n) && n == 25);
  assert_string_equal(number_text(0.1, buffer), "0.1");
  assert_string_equal(number_text(1e12, buffer), "1e12");
  assert_string_equal(number_text(NAN, buffer), ".nan");
  test_random r = {test_seed(), 0};
  for (int i = 0; i < 2000; i++) {
    double y = test_normal(&r) * exp(200 * test_normal(&r));
    assert_true(number_parse(number_text(y, buffer), &x) && x == y);
  }
  // A locale with a decimal comma changes nothing.
  if (setlocale(LC_NUMERIC, "de_DE.UTF-8") || setlocale(LC_NUMERIC, "fr_FR.UTF-8")) {
    assert_true(number_parse("1.5", &x) && x == 1.5);
    assert_string_equal(number_text(1.5, buffer), "1.5");
    setlocale(LC_NUMERIC, "C");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),  cmocka_unit_test(test_mistakes),     cmocka_unit_test(test_overrides_and_options),
      cmocka_unit_test(test_reload),  cmocka_unit_test(test_written_form), cmocka_unit_test(test_maps),
      cmocka_unit_test(test_numbers), cmocka_unit_test(test_lists),
  };
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return failed;
}
