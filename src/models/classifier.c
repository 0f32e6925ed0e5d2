#include "models/classifier.h"

#include <limits.h>
#include <string.h>

#include "core/config_json.h"
#include "core/file.h"
#include "core/json.h"
#include "models/weights.h"

#define INDEX_CLASS "ElboClassifier"
#define COMPONENT "classifier" // folder, and prefix of the parameters
#define NETWORK_CLASS "ElboClassifierNetwork"

static const config_field model_fields[] = {
    CONFIG_ENUM(struct classifier_model, preset, "classifier", "classifier", "kind of model"),
    CONFIG_SECTION(struct classifier_model, network, &classifier_table),
};
static const config_table classifier_model_table = CONFIG_TABLE("model", struct classifier_model, model_fields, "a convolutional network");
static const config_field objective_fields[] = {
    CONFIG_FLOAT(struct classifier_objective, label_smoothing, 0, 0.9, "0.05", "",
                 "share of the target that is spread evenly over all classes"),
};
static const config_table classifier_objective_table =
    CONFIG_TABLE("objective", struct classifier_objective, objective_fields, "cross-entropy");
static const config_field section_fields[] = {
    CONFIG_SECTION(classifier_recipe, model, &classifier_model_table),
    CONFIG_SECTION(classifier_recipe, objective, &classifier_objective_table),
};
const config_table classifier_sections = CONFIG_TABLE("recipe", classifier_recipe, section_fields, "a classifier");

elbo_status classifier_spec_check(elbo_ctx *ctx, const classifier_spec *spec, const char *file) {
  const classifier_config *c = &spec->network;
  if (c->channels.count < 1 || c->channels.count > MAX_LEVELS)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.network.channels: 1 to %d entries were expected, not %lld", file, MAX_LEVELS,
                (long long)c->channels.count);
  if (spec->classes < 2)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.preset: a classifier needs data with labels of at least two classes; these have %lld",
                file, (long long)spec->classes);
  char where[512];
  snprintf(where, sizeof where, "%s: model.network.channels", file);
  TRY(check_halvings(ctx, where, &spec->shape, classifier_halvings(c)));
  int64_t pixels, numbers;
  if (spec->shape.height < 1 || spec->shape.width < 1 || spec->shape.channels < 1 ||
      !checked_mul(spec->shape.height, spec->shape.width, &pixels) || !checked_mul(pixels, spec->shape.channels, &numbers) ||
      numbers > (1 << 28))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: pictures of %lldx%lldx%lld are out of range", file, (long long)spec->shape.height,
                (long long)spec->shape.width, (long long)spec->shape.channels);
  return ELBO_OK;
}

classifier_output classifier_graph(const classifier_spec *spec, elbo_graph *g, int64_t batch, bool training) {
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){batch, spec->shape.height, spec->shape.width, spec->shape.channels});
  elbo_scope_push(g, COMPONENT);
  classifier_output out = classifier_network(&spec->network, x, spec->classes, training);
  elbo_scope_pop(g);
  return out;
}

elbo_status classifier_store_create(elbo_ctx *ctx, const classifier_spec *spec, uint64_t seed, elbo_store **out) {
  *out = NULL;
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(ctx, "classifier", &g));
  classifier_graph(spec, g, 1, false);
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK) status = elbo_store_create(ctx, 1, &g, seed, out);
  elbo_graph_destroy(&g);
  return status;
}

// --- files ---

typedef struct classifier_index {
  const char *preset;
  int64_t height, width, channels, classes, bits, step;
} classifier_index;
static const config_field index_fields[] = {
    CONFIG_STRING(classifier_index, preset, NULL, "kind of model"),
    CONFIG_INT(classifier_index, height, 1, 16384, NULL, "pixels", "of x"),
    CONFIG_INT(classifier_index, width, 1, 16384, NULL, "pixels", "of x"),
    CONFIG_INT(classifier_index, channels, 1, 1e6, NULL, "", "of x"),
    CONFIG_INT(classifier_index, classes, 2, 1e6, NULL, "", "told apart"),
    CONFIG_INT(classifier_index, bits, 0, 16, "8", "", "of a pixel of the training data, 0: float"),
    CONFIG_INT(classifier_index, step, -1, 9e18, "-1", "steps", "of training"),
};
static const config_table classifier_index_table = CONFIG_TABLE("_elbo", classifier_index, index_fields, "what the classifier is of");

// classifier/config.json: the keys of the section behind "_class_name".
typedef struct network_file {
  const char *_class_name;
  classifier_config network;
} network_file;
enum { NETWORK_FIELDS = 16 };

static config_table network_table(config_field fields[NETWORK_FIELDS]) {
  int n = 0;
  fields[n++] = (config_field)CONFIG_STRING(network_file, _class_name, NULL, "class");
  for (int i = 0; i < classifier_table.n_fields && n < NETWORK_FIELDS; i++) {
    fields[n] = classifier_table.fields[i];
    fields[n++].offset += offsetof(network_file, network);
  }
  return (config_table){NETWORK_CLASS, sizeof(network_file), fields, n, ""};
}

static elbo_status write_json_in(elbo_ctx *ctx, const char *directory, const char *name, json_t *json) {
  char path[PATH_MAX];
  elbo_status status = path_join(ctx, path, sizeof path, directory, name);
  if (status == ELBO_OK) status = json ? json_write(ctx, path, json) : fail_memory(ctx, 1024, "JSON");
  json_decref(json);
  return status;
}

elbo_status classifier_directory_write(elbo_ctx *ctx, const char *directory, const classifier_spec *spec, elbo_store *store, int64_t step) {
  classifier_index of = {"classifier", spec->shape.height, spec->shape.width, spec->shape.channels, spec->classes, spec->bits, step};
  network_file file = {NETWORK_CLASS, spec->network};
  config_field fields[NETWORK_FIELDS];
  config_table table = network_table(fields);
  char path[PATH_MAX];
  json_t *index = json_pack("{s:s, s:s, s:o, s:[ss]}", "_class_name", INDEX_CLASS, "_elbo_version", elbo_version(), "_elbo",
                            config_json(&classifier_index_table, &of), COMPONENT, "elbo", NETWORK_CLASS);
  TRY(write_json_in(ctx, directory, "model_index.json", index));
  TRY(path_join(ctx, path, sizeof path, directory, COMPONENT));
  TRY(directory_make(ctx, path));
  TRY(write_json_in(ctx, path, "config.json", config_json(&table, &file)));
  return weights_write(ctx, path, COMPONENT, store);
}

elbo_status classifier_directory_read_spec(elbo_ctx *ctx, arena *a, const char *directory, classifier_spec *spec, int64_t *step) {
  char path[PATH_MAX], folder[PATH_MAX];
  const char *class_name;
  yaml_node *root = NULL;
  classifier_index index;
  network_file file = {0};
  config_field fields[NETWORK_FIELDS];
  config_table table = network_table(fields);
  *spec = (classifier_spec){0};
  TRY(model_directory_class(ctx, a, directory, &class_name));
  if (strcmp(class_name, INDEX_CLASS) != 0)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: _class_name: %s was expected, not %s", directory, INDEX_CLASS, class_name);
  TRY(path_join(ctx, path, sizeof path, directory, "model_index.json"));
  TRY(yaml_read(ctx, a, path, &root));
  const yaml_node *of = yaml_get(root, "_elbo");
  if (!of) return fail(ctx, ELBO_ERROR_FORMAT, "%s: _elbo: missing", path);
  TRY(config_load(ctx, a, &classifier_index_table, of, "_elbo", &index));
  TRY(path_join(ctx, folder, sizeof folder, directory, COMPONENT));
  TRY(path_join(ctx, path, sizeof path, folder, "config.json"));
  TRY(yaml_read(ctx, a, path, &root));
  TRY(config_load(ctx, a, &table, root, "", &file));
  if (strcmp(file._class_name, NETWORK_CLASS) != 0)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: _class_name: %s was expected, not %s", path, NETWORK_CLASS, file._class_name);
  *spec = (classifier_spec){file.network, {index.height, index.width, index.channels}, index.classes, (int)index.bits};
  *step = index.step;
  return classifier_spec_check(ctx, spec, directory);
}

elbo_status classifier_directory_read_weights(elbo_ctx *ctx, const char *directory, elbo_store *store) {
  char folder[PATH_MAX];
  weights *w = NULL;
  TRY(path_join(ctx, folder, sizeof folder, directory, COMPONENT));
  TRY(weights_open(ctx, folder, &w));
  elbo_status status = weights_load_into_store(ctx, w, COMPONENT, store);
  weights_close(&w);
  elbo_store_touch(store);
  return status;
}
