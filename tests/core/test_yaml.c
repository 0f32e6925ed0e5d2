// YAML as trees: lines, limits, what is refused, settings by path.
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"

static elbo_ctx *ctx;
static arena *tree;

static elbo_status parse(const char *text, yaml_node **out) { return yaml_parse(ctx, tree, "r.yaml", text, strlen(text), out); }

static void test_tree(void **state) {
  (void)state;
  yaml_node *root;
  assert_ok(ctx, parse("# a comment\nmodel: {preset: vae, latent: {dim: 20}}\ntrain:\n  steps: 3000\n  name: \"3\"\n  list: [1, 2,\n   3]\n"
                       "  more:\n  - a\n  - b: 1\n    c:\n",
                       &root));
  assert_int_equal(root->kind, YAML_MAP);
  assert_int_equal(root->count, 2);
  assert_int_equal(root->line, 2);
  assert_string_equal(root->file, "r.yaml");
  const yaml_node *dim = yaml_get(yaml_get(yaml_get(root, "model"), "latent"), "dim"), *train = yaml_get(root, "train");
  assert_string_equal(dim->text, "20");
  assert_int_equal(dim->line, 2);
  assert_int_equal(root->key_line[1], 3);
  assert_int_equal(yaml_get(train, "steps")->line, 4);
  assert_false(yaml_get(train, "steps")->quoted);
  assert_true(yaml_get(train, "name")->quoted);
  assert_int_equal(yaml_get(train, "list")->count, 3);
  assert_int_equal(yaml_get(train, "list")->child[2]->line, 7);
  const yaml_node *more = yaml_get(train, "more");
  assert_int_equal(more->kind, YAML_LIST);
  assert_int_equal(more->child[1]->key_line[1], 11);
  assert_true(yaml_is_null(yaml_get(more->child[1], "c")));
  assert_null(yaml_get(root, "data"));
  assert_null(yaml_get(dim, "data"));
  assert_null(yaml_get(NULL, "data"));
  assert_true(yaml_has(root, "train.steps") && yaml_has(root, "train") && yaml_has(root, "train.more.1.b"));
  assert_false(yaml_has(root, "train.stepz") || yaml_has(root, "steps") || yaml_has(root, "train.more.2") || yaml_has(root, "") ||
               yaml_has(root, "train..steps") || yaml_has(root, "train.steps.x"));
  assert_ok(ctx, parse("", &root));
  assert_true(yaml_is_null(root));
  assert_ok(ctx, parse("---\na: ~\nb: null\nc: ''\n...\n", &root));
  assert_true(yaml_is_null(yaml_get(root, "a")) && yaml_is_null(yaml_get(root, "b")) && !yaml_is_null(yaml_get(root, "c")));
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *message;
  } bad[] = {
      {"a: 1\nb: &x 2\n", "r.yaml:2: anchors"},
      {"a: &x [1]\n", "r.yaml:1: anchors"},
      {"a: &x {b: 1}\n", "r.yaml:1: anchors"},
      {"a: *x\n", "r.yaml:1: aliases"},
      {"a: 1\nb: !!python/object x\n", "r.yaml:2: tags"},
      {"a: !!seq [1]\n", "r.yaml:1: tags"},
      {"a: !!map {b: 1}\n", "r.yaml:1: tags"},
      {"a: 1\n---\nb: 2\n", "r.yaml:2: a second document"},
      {"a: 1\nb: 2\na: 3\n", "r.yaml:3: a: given twice (before in line 1)"},
      {"? [a, b]\n: 1\n", "r.yaml:1: a map's key"},
      {"a: [1, 2\n", "r.yaml:2: not valid YAML"},
      {"a: 1\n b: 2\n", "r.yaml:2: not valid YAML"},
      {"a: \"x\n", "not valid YAML"},
      {"a: \t- 1\n", "not valid YAML"},
      {"a: \"\\0\"\n", "a NUL character"},
      {"a: \xff\n", "not valid YAML"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    yaml_node *root = (yaml_node *)ctx;
    assert_status(ctx, parse(bad[i].text, &root), ELBO_ERROR_FORMAT, bad[i].message);
    assert_null(root);
  }
}

static void test_limits(void **state) {
  (void)state;
  yaml_node *root;
  char *text = malloc((1 << 20) + 2);
  // 32 levels pass, 33 do not, and a million do no harm.
  memset(text, '[', 32), memset(text + 32, ']', 32);
  assert_ok(ctx, yaml_parse(ctx, tree, "deep", text, 64, &root));
  memset(text, '[', 33), memset(text + 33, ']', 33);
  assert_status(ctx, yaml_parse(ctx, tree, "deep", text, 66, &root), ELBO_ERROR_FORMAT, "deep:1: nested deeper than 32");
  memset(text, '[', 1 << 20);
  assert_status(ctx, yaml_parse(ctx, tree, "deep", text, 1 << 20, &root), ELBO_ERROR_FORMAT, NULL);
  for (int i = 0; i < 1 << 19; i++) memcpy(text + 2 * i, "- ", 2);
  assert_status(ctx, yaml_parse(ctx, tree, "deep", text, 1 << 20, &root), ELBO_ERROR_FORMAT, NULL);
  memset(text, 'a', (1 << 20) + 1);
  assert_ok(ctx, yaml_parse(ctx, tree, "long", text, 1 << 20, &root));
  assert_status(ctx, yaml_parse(ctx, tree, "long", text, (1 << 20) + 1, &root), ELBO_ERROR_FORMAT, "long: too large");
  const char *path = test_path("long.yaml");
  test_write_file(path, text, (1 << 20) + 1);
  assert_status(ctx, yaml_read(ctx, tree, path, &root), ELBO_ERROR_FORMAT, "long.yaml: too large");
  assert_status(ctx, yaml_read(ctx, tree, test_path("none.yaml"), &root), ELBO_ERROR_IO, "none.yaml: cannot open");
  static const char broken[] = "{\n  \"a\": 1,\n  \"b\": [1, 2\n}\n";
  test_write_file(test_path("config.json"), broken, sizeof broken - 1);
  assert_status(ctx, yaml_read(ctx, tree, test_path("config.json"), &root), ELBO_ERROR_FORMAT, "config.json:4: not valid JSON");
  size_t n = 0;
  for (int i = 0; i < 1001; i++) {
    n += (size_t)sprintf(text + n, "k%d: 1\n", i);
    if (i == 999) assert_ok(ctx, yaml_parse(ctx, tree, "many", text, n, &root));
  }
  assert_status(ctx, yaml_parse(ctx, tree, "many", text, n, &root), ELBO_ERROR_FORMAT, "many:1001: more than 1,000 keys");
  free(text);
}

static void test_settings(void **state) {
  (void)state;
  yaml_node *root;
  assert_ok(ctx, parse("train: {steps: 1}\nobjective:\nstages:\n- train: {steps: 5}\n- model: 1\n", &root));
  assert_ok(ctx, yaml_override(ctx, tree, root, "train.steps=100"));
  assert_string_equal(yaml_get(yaml_get(root, "train"), "steps")->text, "100");
  assert_ok(ctx, yaml_override(ctx, tree, root, "train.steps=200"));
  assert_string_equal(yaml_get(yaml_get(root, "train"), "steps")->text, "200");
  assert_int_equal(yaml_get(root, "train")->count, 1);
  assert_ok(ctx, yaml_override(ctx, tree, root, "model.encoder.channels=[32, 64]"));
  assert_int_equal(yaml_get(yaml_get(yaml_get(root, "model"), "encoder"), "channels")->count, 2);
  assert_ok(ctx, yaml_override(ctx, tree, root, "model.latent={dim: 3}"));
  assert_true(yaml_has(root, "model.latent.dim"));
  assert_ok(ctx, yaml_override(ctx, tree, root, "objective.beta=2"));
  assert_ok(ctx, yaml_override(ctx, tree, root, "stages.0.train.steps=7"));
  assert_string_equal(yaml_get(yaml_get(yaml_get(root, "stages")->child[0], "train"), "steps")->text, "7");
  assert_ok(ctx, yaml_override(ctx, tree, root, "data.path=a/NAME-{000..002}.tar.gz"));
  assert_string_equal(yaml_get(yaml_get(root, "data"), "path")->text, "a/NAME-{000..002}.tar.gz");
  assert_ok(ctx, yaml_override(ctx, tree, root, "data.note=a=b"));
  assert_string_equal(yaml_get(yaml_get(root, "data"), "note")->text, "a=b");
  assert_ok(ctx, yaml_override(ctx, tree, root, "data.none="));
  assert_true(yaml_is_null(yaml_get(yaml_get(root, "data"), "none")));
  for (int i = 0; i < 20; i++) { // many, so that the map grows
    char text[32];
    snprintf(text, sizeof text, "grown.k%d=%d", i, i);
    assert_ok(ctx, yaml_override(ctx, tree, root, text));
  }
  assert_int_equal(yaml_get(root, "grown")->count, 20);
  assert_string_equal(yaml_get(yaml_get(root, "grown"), "k17")->text, "17");
  static const struct {
    const char *text, *message;
  } bad[] = {
      {"train.steps", "command line: 'train.steps'; expected key=value"},
      {"=5", "expected key.path=value"},
      {".a=5", "expected key.path=value"},
      {"a..b=5", "expected key.path=value"},
      {"a.=5", "expected key.path=value"},
      {"train.steps.x=5", "nothing can be set below a single value"},
      {"stages.2.x=5", "'2' in a list of 2"},
      {"stages.x=5", "'x' in a list of 2"},
      {"stages.99999999999999999999=5", "in a list of 2"},
      {"a=[1, 2", "command line: not valid YAML"},
      {"a=*x", "command line: aliases"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    elbo_status status = yaml_override(ctx, tree, root, bad[i].text);
    assert_true(status == ELBO_ERROR_ARGUMENT || status == ELBO_ERROR_FORMAT);
    assert_status(ctx, status, status, bad[i].message);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tree),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_settings),
  };
  ctx = test_ctx(1);
  tree = arena_create(1 << 16);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&tree);
  elbo_ctx_destroy(&ctx);
  return failed;
}
