// Diffusion of a frozen autoencoder's codes: what a step is trained on, runs that go on to the bit, directories that stand alone, the
// calls, what is refused.
#include "models/latent_cases.h"

#include <math.h>

#include <elbo/train.h>

#include "core/file.h"
#include "core/json.h"
#include "eval/statistics.h"
#include "graph/store.h"

static elbo_ctx *ctx;
static arena *memory;

#define NET                                                                                                               \
  "network: unet, unet: {block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D], " \
  "up_block_types: [UpBlock2D, UpBlock2D], norm_num_groups: 4}, process: {steps: 20}"

static const char *write_data(const char *name) {
  elbo_array *x = case_pictures(ctx, CASE_EXAMPLES);
  const char *path = test_path(name);
  assert_ok(ctx, elbo_npy_write(ctx, path, x));
  elbo_array_destroy(&x);
  return path;
}

typedef struct job {
  const char *model, *data, *out; // the `model` section's inside
  const char *train, *more;       // more keys of train; other sections
  bool resume;
  int stop_at, steps, encoded;
  elbo_train_result result;
} job;

static int watch(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  job *j = user;
  (void)done, (void)total, (void)text;
  if (!strcmp(what, "encode")) return j->encoded++, 1;
  return ++j->steps != j->stop_at;
}

static elbo_status run(job *j) {
  elbo_recipe *r;
  elbo_train_config config;
  char text[4096];
  const char *path = test_path("recipe.yaml");
  snprintf(text, sizeof text,
           "model: {preset: ddpm, %s}\nsample: {sampler: ddim, steps: 4}\ndata: {path: \"%s\", holdout: 4}\n"
           "train: {steps: 6, batch_size: 8, learning_rate: 0.01, ema: 0.9, checkpoint_every: 2%s}\n%s",
           j->model, j->data, j->train ? j->train : "", j->more ? j->more : "");
  test_write_file(path, text, strlen(text));
  assert_ok(ctx, elbo_recipe_load(ctx, path, 0, NULL, &r));
  elbo_train_defaults(&config);
  config.out = j->out, config.resume = j->resume, config.progress = watch, config.progress_user = j;
  j->steps = j->encoded = 0;
  elbo_status status = elbo_train(ctx, r, &config, &j->result);
  elbo_recipe_destroy(&r);
  return status;
}

static char *model_of(const char *autoencoder, const char *rest) {
  static char text[2][2048];
  static int next;
  char *out = text[next ^= 1];
  snprintf(out, sizeof text[0], "autoencoder: \"%s\", " NET "%s", autoencoder, rest);
  return out;
}

static void same_file(const char *a, const char *b, const char *name) {
  char path[2][1024], *text[2];
  size_t size[2];
  for (int k = 0; k < 2; k++) {
    snprintf(path[k], sizeof path[k], "%s/%s", k ? b : a, name);
    assert_ok(ctx, file_read(ctx, path[k], 1 << 24, &text[k], &size[k]));
  }
  if (size[0] != size[1] || memcmp(text[0], text[1], size[0]) != 0) fail_msg("%s and %s differ", path[0], path[1]);
  free(text[0]), free(text[1]);
}

static elbo_status samples_within(elbo_model *m, int64_t decode_memory, elbo_array **x) {
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  int64_t calls = 0;
  config.n = 3, config.seed = 5, config.decode_memory = decode_memory, config.network_calls = &calls;
  elbo_status status = elbo_sample(m, &config, x);
  assert_true((calls > 0) == (status == ELBO_OK)); // what cannot be is refused before anything is drawn
  return status;
}

// Decoded in little memory, samples are the same up to rounding; the least is named.
static void samples_in_bands(elbo_model *m) {
  elbo_array *whole, *x;
  assert_ok(ctx, samples_within(m, 0, &whole));
  assert_status(ctx, samples_within(m, 1, &x), ELBO_ERROR_ARGUMENT, "at the least");
  assert_null(x);
  const char *figure = strstr(elbo_ctx_message(ctx), " take ");
  assert_non_null(figure);
  const int64_t least = strtoll(figure + 6, NULL, 10);
  assert_status(ctx, samples_within(m, least - 1, &x), ELBO_ERROR_ARGUMENT, "at the least");
  assert_ok(ctx, samples_within(m, least, &x));
  assert_close(x->data, whole->data, elbo_array_count(whole), 1e-5);
  elbo_array_destroy(&x);
  elbo_array_destroy(&whole);
  assert_status(ctx, samples_within(m, -1, &x), ELBO_ERROR_ARGUMENT, "a number of bytes was expected");
}

static elbo_array *samples_of(const char *path) {
  elbo_model *m;
  elbo_array *x;
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  config.n = 3, config.seed = 5;
  assert_ok(ctx, elbo_model_load(ctx, path, NULL, &m));
  assert_ok(ctx, elbo_sample(m, &config, &x));
  elbo_model_destroy(&m);
  return x;
}

// --- a step ---

// A network that says nothing, which is to say x0: what is left of the loss is the square of x0, here means + deviations times the noise
// of the stream "posterior".
static void test_draws(void **state) {
  (void)state;
  enum { B = 3, ROW = 32 };
  elbo_model *ae;
  latent_space *space;
  diffusion_spec s;
  elbo_store *store;
  process *p;
  elbo_dataset_info info = {.height = 8, .width = 8, .channels = 3, .bits = 8};
  diffusion_recipe recipe = recipe_of(ctx, memory, "model: {" NET ", prediction: x0}");
  assert_ok(ctx, elbo_model_load(ctx, case_autoencoder("kl", "draws-kl"), NULL, &ae));
  assert_ok(ctx, latent_space_create(ctx, memory, ae, &(picture_shape){8, 8, 3}, 8, "test", &space));
  assert_ok(ctx, diffusion_spec_of_codes(ctx, memory, &recipe, &info, space, "test", &s));
  assert_int_equal(s.height, 4);
  assert_true(diffusion_draws_codes(&s));
  assert_ok(ctx, diffusion_store_create(ctx, &s, 1, &store));
  for (int64_t k = 0; k < store->count[ELBO_PARAM_TRAINED]; k++) store->data[ELBO_PARAM_TRAINED][k] = 0;
  assert_ok(ctx, diffusion_process_create(ctx, &s, store, "test", &p));
  for (int training = 0; training < 2; training++) {
    diffusion_training_graph g;
    session plan;
    float x[B * ROW * 2];
    double times[B] = {0.2, 0.5, 0.9}, z[ROW];
    test_random r = {test_seed(), 3};
    test_fill_normal(&r, x, B * ROW * 2, 1);
    assert_ok(ctx, diffusion_training_build(ctx, &s, &recipe.objective, p, B, training, &g));
    assert_ok(ctx, session_create(ctx, g.graph, store, B, 1, &g.each, &plan));
    session_fill_times(&plan, &s, &recipe.objective, p, times);
    assert_int_equal(session_row_size(&plan, "x"), training ? 2 * ROW : ROW);
    session_rows rows = {.x = x, .seed = 9};
    assert_ok(ctx, session_run(&plan, &rows, 0, B));
    for (int i = 0; i < B; i++) {
      double sum = 0;
      noise_of(9, "posterior", i, ROW, z);
      for (int k = 0; k < ROW; k++) {
        double x0 = training ? (double)x[i * 2 * ROW + k / 2 * 4 + k % 2] + (double)x[i * 2 * ROW + k / 2 * 4 + 2 + k % 2] * z[k]
                             : (double)x[i * ROW + k];
        sum += x0 * x0 / ROW;
      }
      assert_near((double)session_output(&plan, 0)[i], sum, 1e-4 * sum);
    }
    session_destroy(&plan);
  }
  process_destroy(&p);
  elbo_store_destroy(&store);
  elbo_model_destroy(&ae);
}

// --- runs ---

static void test_resume(void **state) {
  (void)state;
  char reference[512], data[512], ae[512];
  snprintf(data, sizeof data, "%s", write_data("resume.npy"));
  snprintf(ae, sizeof ae, "%s", case_autoencoder("kl", "resume-kl"));
  snprintf(reference, sizeof reference, "%s", test_path("reference"));
  job whole = {.model = model_of(ae, ""), .data = data, .out = reference};
  assert_ok(ctx, run(&whole));
  assert_int_equal(whole.steps, 6);
  assert_true(whole.encoded > 0);
  for (int at = 1; at < 6; at += 2) {
    char name[32], out[512], command[1024];
    snprintf(name, sizeof name, "stopped-%d", at);
    snprintf(out, sizeof out, "%s", test_path(name));
    job part = {.model = model_of(ae, ""), .data = data, .out = out, .stop_at = at};
    assert_int_equal(run(&part), ELBO_ERROR_STOPPED);
    snprintf(command, sizeof command, "rm -r '%s/latents'", out);
    if (at == 3) assert_int_equal(test_run(command, NULL), 0);
    job rest = {.model = part.model, .data = data, .out = out, .resume = true};
    assert_ok(ctx, run(&rest));
    assert_int_equal(rest.steps, 6 - at);
    assert_int_equal(rest.encoded > 0, at == 3); // the codes are there already, or made again to the bit
    same_file(reference, out, "checkpoints/step-6/training/state.safetensors");
    same_file(reference, out, "checkpoints/step-6/training/state.json");
    same_file(reference, out, "checkpoints/step-6/vqvae/diffusion_pytorch_model.safetensors");
    same_file(reference, out, "checkpoints/step-6/model_index.json");
    same_file(reference, out, "latents/train.safetensors");
  }
}

// A run goes on only upon the autoencoder that it began with, which is told before anything is encoded anew.
static void test_changed(void **state) {
  (void)state;
  char data[512], ae[512], command[2048], *before, *after;
  size_t size[2];
  snprintf(data, sizeof data, "%s", write_data("changed.npy"));
  snprintf(ae, sizeof ae, "%s", case_autoencoder("kl", "changed-kl"));
  job j = {.model = model_of(ae, ""), .data = data, .out = test_path("changed"), .stop_at = 3};
  assert_int_equal(run(&j), ELBO_ERROR_STOPPED);
  snprintf(command, sizeof command, "%s/latents/train.safetensors", j.out);
  assert_ok(ctx, file_read(ctx, command, 1 << 24, &before, &size[0]));
  snprintf(
      command, sizeof command,
      "f='%s/diffusion_pytorch_model.safetensors'; printf '\\101' | dd of=\"$f\" bs=1 conv=notrunc seek=$(($(stat -c %%s \"$f\") - 3))",
      ae);
  assert_int_equal(test_run(command, NULL), 0);
  job rest = {.model = j.model, .data = data, .out = j.out, .resume = true};
  assert_status(ctx, run(&rest), ELBO_ERROR_STATE,
                "model.autoencoder: another model than the one that this run was made from until step 3");
  snprintf(command, sizeof command, "%s/latents/train.safetensors", j.out);
  assert_ok(ctx, file_read(ctx, command, 1 << 24, &after, &size[1]));
  assert_int_equal(size[0], size[1]);
  assert_memory_equal(before, after, size[0]);
  free(before), free(after);
}

// Without its autoencoder, elsewhere: what was trained draws the same pictures.
static void test_moved(void **state) {
  (void)state;
  char data[512], ae[512], moved[512], command[2048];
  snprintf(data, sizeof data, "%s", write_data("moved.npy"));
  snprintf(ae, sizeof ae, "%s", case_autoencoder("kl", "moved-kl"));
  job j = {.model = model_of(ae, ", latent: {scale: channel}"), .data = data, .out = test_path("before")};
  assert_ok(ctx, run(&j));
  elbo_array *want = samples_of(j.out);
  assert_int_equal(want->dim[1], 8);
  assert_int_equal(want->dim[3], 3);
  snprintf(moved, sizeof moved, "%s", test_path("after"));
  snprintf(command, sizeof command, "mv '%s' '%s' && rm -r '%s'", j.out, moved, ae);
  assert_int_equal(test_run(command, NULL), 0);
  elbo_array *got = samples_of(moved);
  assert_memory_equal(want->data, got->data, elbo_array_bytes(want));
  elbo_array_destroy(&want), elbo_array_destroy(&got);
  job more = {.model = j.model, .data = data, .out = moved, .resume = true}; // but it does not go on
  assert_status(ctx, run(&more), ELBO_ERROR_IO, "model.autoencoder: ");
  assert_non_null(strstr(elbo_ctx_message(ctx), "moved-kl: no such directory"));
}

static void expect_key(const char *path, const char *key, double value, double tolerance) {
  json_t *json;
  assert_ok(ctx, json_read(ctx, path, 1 << 20, &json));
  const json_t *v = json_object_get(json, key);
  if (json_is_array(v)) v = json_array_get(v, 0);
  if (!json_is_number(v)) fail_msg("%s: no number '%s'", path, key);
  assert_near(json_number_value(v), value, tolerance);
  json_decref(json);
}

// diffusers' layout and keys, for one factor and for channels, and what class a pipeline is.
static void test_directories(void **state) {
  (void)state;
  static const struct {
    const char *kind, *rest, *class_name, *folder;
  } cases[] = {
      {"kl", "", "LDMPipeline", "vqvae"},
      {"kl", ", latent: {scale: channel, cache: mean}", "LDMPipeline", "vqvae"},
      {"vq", ", latent: {scale: model}", "LDMPipeline", "vqvae"},
      {"tiny", "", "LDMPipeline", "vqvae"},
      {"vq", ", latent: {scale: channel}", "LDMPipeline", "vqvae"}, // whose config has no key for it
  };
  char data[512];
  snprintf(data, sizeof data, "%s", write_data("directories.npy"));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char name[32], ae[512], path[700], index[700];
    elbo_model *m;
    json_t *json;
    snprintf(name, sizeof name, "dir-%zu", i);
    snprintf(ae, sizeof ae, "%s", case_autoencoder(cases[i].kind, name));
    snprintf(name, sizeof name, "run-%zu", i);
    job j = {.model = model_of(ae, cases[i].rest), .data = data, .out = test_path(name)};
    if (!strcmp(cases[i].kind, "tiny")) j.model = model_of(ae, ", prediction: v");
    assert_ok(ctx, run(&j));
    snprintf(path, sizeof path, "%s/checkpoints/step-6/%s/config.json", j.out, cases[i].folder);
    snprintf(index, sizeof index, "%s/checkpoints/step-6/model_index.json", j.out);
    assert_ok(ctx, json_read(ctx, index, 1 << 20, &json));
    assert_string_equal(json_string_value(json_object_get(json, "_class_name")), cases[i].class_name);
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, cases[i].folder), 0)), "diffusers");
    json_decref(json);
    assert_ok(ctx, elbo_model_load(ctx, j.out, NULL, &m));
    const latent_space *s = m->diffusion->spec.latent;
    if (strstr(cases[i].rest, "channel")) assert_true(s->scale[0] != s->scale[1] && s->shift[0] != s->shift[1]);
    if (!strcmp(cases[i].kind, "vq") && strstr(cases[i].rest, "channel")) {
      elbo_model_destroy(&m);
      continue;
    }
    if (strstr(cases[i].rest, "channel")) {
      expect_key(path, "scaling_factor", 1, 0);
      expect_key(path, "latents_mean", (double)s->shift[0], 1e-6);
      expect_key(path, "latents_std", 1 / (double)s->scale[0], 1e-6 / (double)s->scale[0]);
    } else {
      expect_key(path, "scaling_factor", (double)s->scale[0], 1e-6 * (double)s->scale[0]);
    }
    if (strstr(cases[i].rest, "model")) assert_near((double)s->scale[0], 0.18215, 1e-6);
    // the same by diffusers' keys alone; a VQModel and an AutoencoderTiny have none for single channels
    elbo_model *plain;
    assert_ok(ctx, json_read(ctx, index, 1 << 20, &json));
    json_object_del(json, "_elbo"), json_object_del(json, "_elbo_latent");
    assert_ok(ctx, json_write(ctx, index, json));
    json_decref(json);
    snprintf(index, sizeof index, "%s/checkpoints/step-6", j.out);
    assert_ok(ctx, elbo_model_load(ctx, index, NULL, &plain));
    const latent_space *t = plain->diffusion->spec.latent;
    for (int64_t k = 0; k < s->code.channels; k++) {
      assert_near((double)t->scale[k], (double)s->scale[k], 1e-6 * (double)s->scale[k]);
      assert_near((double)t->shift[k], (double)s->shift[k], 1e-6);
    }
    assert_int_equal(t->picture.height, 8);
    elbo_model_destroy(&plain);
    elbo_model_destroy(&m);
  }
}

// --- calls ---

static void test_calls(void **state) {
  (void)state;
  char data[512], ae[512];
  elbo_model *m;
  elbo_model_info info;
  elbo_dataset *set;
  elbo_array *x, *mean, *deviation, *back, *again;
  elbo_eval_config eval;
  elbo_eval_result *result;
  snprintf(data, sizeof data, "%s", write_data("calls.npy"));
  snprintf(ae, sizeof ae, "%s", case_autoencoder("kl", "calls-kl"));
  job j = {.model = model_of(ae, ""), .data = data, .out = test_path("calls")};
  assert_ok(ctx, run(&j));
  assert_ok(ctx, elbo_model_load(ctx, j.out, NULL, &m));
  elbo_model_get_info(m, &info);
  assert_int_equal(info.height, 8);
  assert_int_equal(info.channels, 3);
  assert_int_equal(info.latent_dim, 32);
  assert_string_equal(info.likelihood, "none");
  assert_true(info.low == -1 && info.high == 1);
  assert_ok(ctx, elbo_model_open_data(ctx, j.out, NULL, 0, NULL, &set));
  assert_ok(ctx, elbo_dataset_read(set, ELBO_SPLIT_VALID, 0, 4, 0, 0, &x, NULL));
  for (int64_t i = 0; i < elbo_array_count(x); i++) ((float *)x->data)[i] = 2 * ((float *)x->data)[i] - 1;
  assert_ok(ctx, elbo_encode(m, x, NULL, &mean, &deviation));
  assert_int_equal(mean->rank, 4);
  assert_int_equal(mean->dim[3], 2);
  elbo_named_array in = {"x", x}, out[2] = {{"mean", NULL}, {"logvar", NULL}};
  assert_ok(ctx, elbo_apply(ctx, ae, 1, &in, 2, out));
  const float scale = m->diffusion->spec.latent->scale[0];
  for (int64_t i = 0; i < elbo_array_count(mean); i++) {
    assert_near((double)((float *)mean->data)[i], (double)(scale * ((float *)out[0].array->data)[i]), 1e-4);
    assert_near((double)((float *)deviation->data)[i], (double)(scale * expf(0.5f * ((float *)out[1].array->data)[i])), 1e-4);
  }
  assert_ok(ctx, elbo_decode(m, mean, NULL, &back));
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 0, 0, &again));
  assert_memory_equal(back->data, again->data, elbo_array_bytes(back));
  // a draw of the codes, one of its own for each seed
  elbo_array *drawn[3];
  for (int i = 0; i < 3; i++) assert_ok(ctx, elbo_reconstruct(m, x, NULL, 1, (uint64_t)(i / 2), &drawn[i]));
  assert_memory_equal(drawn[0]->data, drawn[1]->data, elbo_array_bytes(back));
  assert_true(memcmp(drawn[0]->data, drawn[2]->data, elbo_array_bytes(back)) != 0);
  assert_true(memcmp(drawn[0]->data, back->data, elbo_array_bytes(back)) != 0);
  for (int i = 0; i < 3; i++) elbo_array_destroy(&drawn[i]);
  elbo_decode_config bands;
  elbo_decode_defaults(&bands);
  bands.tile = 2;
  elbo_array_destroy(&again);
  assert_ok(ctx, elbo_decode_tiled(m, mean, &bands, &again));
  assert_close(again->data, back->data, elbo_array_count(back), 1e-5);
  samples_in_bands(m);
  elbo_eval_defaults(&eval);
  eval.split = ELBO_SPLIT_VALID;
  static const char *const likelihoods[] = {NULL, "bpd", "fid,ode_nll", "bpd_parts"};
  for (int i = 0; i < 4; i++) {
    eval.metrics = likelihoods[i];
    assert_status(ctx, elbo_evaluate(m, set, &eval, &result), ELBO_ERROR_UNSUPPORTED, "no likelihood of pictures");
  }
  // the metrics of reconstructions are of a draw of the codes, as every model's are
  elbo_dataset_info about;
  elbo_array *all, *made;
  double error = 0;
  elbo_dataset_get_info(set, &about);
  assert_ok(ctx, elbo_dataset_read(set, ELBO_SPLIT_VALID, 0, about.count[ELBO_SPLIT_VALID], 0, 0, &all, NULL));
  for (int64_t i = 0; i < elbo_array_count(all); i++) ((float *)all->data)[i] = 2 * ((float *)all->data)[i] - 1;
  eval.metrics = "mse", eval.seed = 3;
  assert_ok(ctx, elbo_reconstruct(m, all, NULL, 1, seed_of_part(3, 104), &made));
  for (int64_t i = 0; i < elbo_array_count(all); i++) {
    const double y = fmin(1, fmax(-1, (double)((float *)made->data)[i]));
    error += pow((y - (double)((float *)all->data)[i]) / 2, 2) / (double)elbo_array_count(all);
  }
  assert_ok(ctx, elbo_evaluate(m, set, &eval, &result));
  assert_near(elbo_eval_metric(result, 0)->value, error, 1e-4 * error);
  elbo_eval_destroy(&result);
  elbo_array_destroy(&all), elbo_array_destroy(&made);
  eval.metrics = "fid";
  assert_status(ctx, elbo_evaluate(m, set, &eval, &result), ELBO_ERROR_ARGUMENT, "need features");
  elbo_array *none;
  assert_status(ctx, elbo_encode(m, mean, NULL, &none, NULL), ELBO_ERROR_ARGUMENT, "encode: float32 (n,8,8,3) was expected");
  assert_null(none);
  elbo_array_destroy(&x), elbo_array_destroy(&mean), elbo_array_destroy(&deviation), elbo_array_destroy(&back), elbo_array_destroy(&again);
  elbo_array_destroy(&out[0].array), elbo_array_destroy(&out[1].array);
  elbo_dataset_destroy(&set);
  elbo_model_destroy(&m);
  // a model of pictures has no codes
  assert_ok(ctx, elbo_model_load(ctx, test_repository_file("tests/golden/pipelines/ddim"), NULL, &m));
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){1, 8, 8, 1}, &x));
  assert_status(ctx, elbo_encode(m, x, NULL, &mean, NULL), ELBO_ERROR_UNSUPPORTED, "has no encoder");
  elbo_array_destroy(&x);
  elbo_model_destroy(&m);
}

// --- two stages ---

// A VAE, and a prior of its codes, which are vectors.
static void test_stages(void **state) {
  (void)state;
  static const char *const text =
      "stages:\n"
      "  - name: autoencoder\n"
      "    model: {latent: {dim: 5}, encoder: {type: mlp, hidden: [9]}, decoder: {type: mlp, hidden: [8]}}\n"
      "    data: {path: digits, limit: 64, holdout: 8}\n    train: {steps: 5, batch_size: 8, learning_rate: 0.01}\n"
      "  - name: prior\n"
      "    model: {preset: ddpm, autoencoder: autoencoder, " TINY_MLP ", process: {steps: 20}, condition: {type: class}}\n"
      "    data: {path: digits, limit: 64, holdout: 8}\n    train: {steps: 4, batch_size: 8, preview_every: 4}\n"
      "    sample: {sampler: ddim, steps: 3}\n";
  elbo_recipe *r;
  elbo_train_config config;
  elbo_train_result again;
  elbo_train_cost first, cost;
  job j = {.out = test_path("stages")};
  test_write_file(test_path("stages.yaml"), text, strlen(text));
  assert_ok(ctx, elbo_recipe_load(ctx, test_path("stages.yaml"), 0, NULL, &r));
  assert_ok(ctx, elbo_train_dry_run(ctx, elbo_recipe_stage(r, 0), NULL, &first));
  assert_ok(ctx, elbo_train_dry_run(ctx, elbo_recipe_stage(r, 1), NULL, &cost));
  // the 56 examples through the encoder: two layers, and little beside them
  const int64_t layers = 2 * (784 * 9 + 9 * 10);
  assert_int_equal(first.prepare_flops, 0);
  assert_true(cost.prepare_flops >= 56 * layers && cost.prepare_flops < 56 * layers * 5 / 4);
  elbo_train_defaults(&config);
  config.out = j.out, config.progress = watch, config.progress_user = &j;
  assert_ok(ctx, elbo_train(ctx, r, &config, &j.result));
  assert_true(j.result.flops == (double)(5 * first.flops_per_step + 4 * cost.flops_per_step + cost.prepare_flops));
  config.resume = 1; // what a finished run's record says
  assert_ok(ctx, elbo_train(ctx, r, &config, &again));
  assert_true(again.flops == j.result.flops);
  elbo_recipe_destroy(&r);
  assert_int_equal(j.steps, 9);
  elbo_array *x = samples_of(j.out);
  assert_int_equal(x->dim[1], 28);
  const float *v = x->data;
  for (int64_t i = 0; i < elbo_array_count(x); i++) assert_true(v[i] >= 0 && v[i] <= 1);
  elbo_array_destroy(&x);
  char picture[600];
  snprintf(picture, sizeof picture, "%s/stages/2-prior/samples/step-4.png", j.out);
  assert_true(file_exists(picture));
}

static void test_refused(void **state) {
  (void)state;
  char data[512], ae[512];
  snprintf(data, sizeof data, "%s", write_data("refused.npy"));
  snprintf(ae, sizeof ae, "%s", case_autoencoder("kl", "refused-kl"));
  const struct {
    const char *model, *data, *more, *part;
  } cases[] = {
      {model_of(ae, ""), "digits", NULL, "model.autoencoder: this autoencoder is of pictures (28,28,3); these are (28,28,1)"},
      {model_of("/no/such/model", ""), data, NULL, "model.autoencoder: /no/such/model: no such directory"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    job j = {.model = cases[i].model, .data = cases[i].data, .out = test_path("refused"), .more = cases[i].more};
    elbo_status status = run(&j);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), cases[i].part))
      fail_msg("expected \"...%s...\", not \"%s\"", cases[i].part, status == ELBO_OK ? "" : elbo_ctx_message(ctx));
    assert_int_equal(j.encoded, 0);
  }
  // codes of 4x4 have no third level
  char deep[1024];
  snprintf(deep, sizeof deep,
           "autoencoder: \"%s\", network: unet, unet: {block_out_channels: [8, 8, 8, 8], layers_per_block: 1, norm_num_groups: 4, "
           "down_block_types: [DownBlock2D, DownBlock2D, DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D, UpBlock2D, "
           "UpBlock2D]}",
           ae);
  job d = {.model = deep, .data = data, .out = test_path("refused")};
  assert_status(ctx, run(&d), ELBO_ERROR_ARGUMENT, "codes (4,4,2) of pictures (8,8,3)");
  job low = {.model = model_of(ae, ", condition: {type: lowres}"), .data = data, .out = test_path("refused")};
  assert_status(ctx, run(&low), ELBO_ERROR_UNSUPPORTED, "are of pictures, not of codes");
  // a network of other codes than the autoencoder's
  elbo_model *m;
  char command[2048];
  snprintf(command, sizeof command, "cp -r '%s' '%s' && sed -i 's/\"sample_size\": 8/\"sample_size\": 6/' '%s/unet/config.json'",
           test_repository_file("tests/golden/pipelines/ldm"), test_path("odd"), test_path("odd"));
  assert_int_equal(test_run(command, NULL), 0);
  assert_ok(ctx, elbo_model_load(ctx, test_path("odd"), NULL, &m)); // any size
  elbo_model_destroy(&m);
  snprintf(command, sizeof command, "rm -r '%s/vqvae' && cp -r '%s' '%s/vqvae'", test_path("odd"), case_autoencoder("tiny", "odd-tiny"),
           test_path("odd"));
  assert_int_equal(test_run(command, NULL), 0);
  assert_status(ctx, elbo_model_load(ctx, test_path("odd"), NULL, &m), ELBO_ERROR_FORMAT,
                "codes (6,6,4) of pictures (24,24,3); the network's are (6,6,2)");
}

static int set_up(void **state) {
  (void)state;
  ctx = test_ctx(1);
  memory = arena_create(1 << 14);
  return memory ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_draws),  cmocka_unit_test(test_resume),      cmocka_unit_test(test_changed),
                                     cmocka_unit_test(test_moved),  cmocka_unit_test(test_directories), cmocka_unit_test(test_calls),
                                     cmocka_unit_test(test_stages), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
