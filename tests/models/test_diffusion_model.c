// Diffusion models as files and as samplers: directories there and back, runs that go on as if nothing had been, what samples depend on,
// guidance, and what is refused.
#include "models/diffusion_cases.h"

#include <elbo/train.h>

#include "core/file.h"

#define EDM_NET "network: edm, edm: {model_channels: 8, channel_mult: [1, 2], num_blocks: 1, attn_resolutions: [4]}"
#define VDM_NET "network: vdm, vdm: {channels: 8, layers: 1, norm_num_groups: 4}"
#define DIT_NET "network: dit, dit: {num_attention_heads: 2, attention_head_dim: 4, num_layers: 1, patch_size: 4}"

static elbo_ctx *ctx;
static arena *memory;

static elbo_status spec_of(const char *text, const elbo_dataset_info *info, diffusion_recipe *recipe, diffusion_spec *s) {
  yaml_node *root = NULL;
  assert_ok(ctx, yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  TRY(config_load(ctx, memory, &diffusion_sections, root, "", recipe));
  TRY(diffusion_spec_make(ctx, memory, recipe, info, "r.yaml", s));
  return diffusion_objective_check(ctx, &recipe->objective, s, "r.yaml");
}

// A model directory of shaken weights.
static void write_model(const char *text, const elbo_dataset_info *info, const char *path) {
  diffusion_recipe recipe;
  diffusion_spec s;
  elbo_store *store;
  assert_ok(ctx, spec_of(text, info, &recipe, &s));
  assert_ok(ctx, diffusion_store_create(ctx, &s, test_seed(), &store));
  shake(ctx, store, 0.1);
  assert_ok(ctx, directory_make(ctx, path));
  assert_ok(ctx, diffusion_directory_write(ctx, path, &s, store, 7));
  elbo_store_destroy(&store);
}

static elbo_model *load(const char *path) {
  elbo_model *m;
  assert_ok(ctx, elbo_model_load(ctx, path, NULL, &m));
  return m;
}

static const elbo_dataset_info pictures = {.height = 8, .width = 8, .channels = 1, .bits = 8, .classes = 3};
static const elbo_dataset_info points = {.height = 1, .width = 1, .channels = 2, .classes = 3};

// --- files ---

static void test_there_and_back(void **state) {
  (void)state;
  static const struct {
    const char *model;
    bool of_points;
  } cases[] = {
      {TINY_UNET ", process: {steps: 10, betas: cosine, zero_snr: true}, prediction: v", false},
      {TINY_UNET ", process: {steps: 10}, variance: learned_range, condition: {type: class, dropout: 0.1}", false},
      {TINY_UNET ", process: {steps: 3, betas: table, table: [0.1, 0.2, 0.3]}, condition: {type: lowres, factor: 2}", false},
      {DIT_NET ", process: {type: flow, shift: 3}, prediction: flow, condition: {type: class, dropout: 0.1}", false},
      {EDM_NET ", process: {type: edm}, prediction: edm, sigma_data: 0.6, condition: {type: class}", false},
      {SONG_UNET ", process: {type: ve, sigma_max: 50}, prediction: score", false},
      {VDM_NET ", process: {type: linear, logsnr_min: -5, logsnr_max: 12}, prediction: x0", false},
      {VDM_NET ", preset: vdm, process: {type: learned}, prediction: epsilon", false},
      {TINY_MLP ", process: {type: cosine, shift: 0.5}, prediction: v, time_input: logsnr", true},
      {TINY_MLP ", process: {type: sigmoid}, condition: {type: class, dropout: 0.2}", true},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[700], path[2][256], command[1024], *output;
    bool learned = strstr(cases[i].model, "learned}") != NULL;
    snprintf(text, sizeof text, "{model: {%s}, objective: {weighting: %s}, sample: {steps: 3, batch_size: 5}}", cases[i].model,
             learned ? "bound" : "simple");
    for (int k = 0; k < 2; k++) snprintf(path[k], sizeof path[k], "%s/way%zu%c", test_directory(), i, 'a' + k);
    write_model(text, cases[i].of_points ? &points : &pictures, path[0]);
    elbo_model *m = load(path[0]), *again;
    assert_int_equal(m->step, 7);
    assert_ok(ctx, directory_make(ctx, path[1]));
    assert_ok(ctx, diffusion_directory_write(ctx, path[1], &m->diffusion->spec, m->store, m->step));
    snprintf(command, sizeof command, "diff -r '%s' '%s'", path[0], path[1]);
    if (test_run(command, &output)) fail_msg("%s: %s", cases[i].model, output);
    free(output);
    again = load(path[1]);
    elbo_sample_config config;
    elbo_array *x[2];
    elbo_sample_defaults(&config);
    config.n = 2;
    float *condition = calloc(2 * 64, sizeof *condition);
    elbo_array given = {ELBO_F32, 4, {2, 8, 8, 1}, condition};
    if (strstr(cases[i].model, "lowres")) config.condition = &given;
    assert_ok(ctx, elbo_sample(m, &config, &x[0]));
    assert_ok(ctx, elbo_sample(again, &config, &x[1]));
    assert_memory_equal(x[0]->data, x[1]->data, elbo_array_bytes(x[0]));
    for (int64_t k = 0; k < elbo_array_count(x[0]); k++) assert_true(isfinite(((float *)x[0]->data)[k]));
    free(condition);
    elbo_array_destroy(&x[0]), elbo_array_destroy(&x[1]);
    elbo_model_destroy(&m), elbo_model_destroy(&again);
  }
}

// --- runs ---

static int stop_at(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)total, (void)text;
  return !(user && !strcmp(what, "train") && done >= *(int64_t *)user);
}

static elbo_status train(const char *out, bool resume, int64_t stop, int n, const char *const *overrides) {
  elbo_recipe *recipe;
  elbo_train_config config;
  elbo_train_result result;
  assert_ok(ctx, elbo_recipe_load(ctx, "ddpm", n, overrides, &recipe));
  elbo_train_defaults(&config);
  config.out = out, config.resume = resume, config.progress = stop_at, config.progress_user = stop ? &stop : NULL;
  elbo_status status = elbo_train(ctx, recipe, &config, &result);
  elbo_recipe_destroy(&recipe);
  return status;
}

static void test_resume(void **state) {
  (void)state;
  static const char *const common[] = {"data.path=digits", "data.size=8",       "data.limit=100",           "data.holdout=40",
                                       "train.steps=16",   "train.ema=0.9",     "train.checkpoint_every=8", "train.log_every=3",
                                       "sample.steps=3",   "train.batch_size=8"};
  static const char *const kinds[2][9] = {
      {"model.network=unet", "model.unet.block_out_channels=[8, 8]", "model.unet.norm_num_groups=4", "model.process={steps: 3}",
       "model.unet.down_block_types=[DownBlock2D, DownBlock2D]", "model.unet.up_block_types=[UpBlock2D, UpBlock2D]",
       "objective.time=importance", "train.accumulate=2", "model.unet.attention_head_dim=4"},
      {"model.preset=vdm", "model.network=vdm", "model.vdm={channels: 8, layers: 1, norm_num_groups: 4}", "model.process={type: learned}",
       "objective.weighting=bound", "objective.time=low_discrepancy", "sample.sampler=ddpm", "train.seed=1", "train.warmup_steps=2"}};
  for (int k = 0; k < 2; k++) {
    const char *overrides[19];
    char one[256], two[256], command[1024], *output;
    for (int i = 0; i < 10; i++) overrides[i] = common[i];
    for (int i = 0; i < 9; i++) overrides[10 + i] = kinds[k][i];
    snprintf(one, sizeof one, "%s/straight%d", test_directory(), k), snprintf(two, sizeof two, "%s/broken%d", test_directory(), k);
    assert_ok(ctx, train(one, false, 0, 19, overrides));
    assert_int_equal(train(two, false, 5, 19, overrides), ELBO_ERROR_STOPPED);
    assert_int_equal(train(two, true, 11, 19, overrides), ELBO_ERROR_STOPPED);
    assert_ok(ctx, train(two, true, 0, 19, overrides));
    snprintf(
        command, sizeof command,
        "cd '%s' && for f in straight%d/checkpoints/step-16/training/state.safetensors "
        "$(find straight%d/checkpoints/step-16/unet straight%d/checkpoints/step-16/model_index.json -type f); do "
        "cmp $f broken%d/${f#straight%d/} || exit 1; done; for d in straight%d broken%d; do "
        "sed 's/, \"\\(seconds\\|samples_per_s\\)\": [^,}]*//g' $d/metrics.jsonl >$d.lines; done; diff straight%d.lines broken%d.lines",
        test_directory(), k, k, k, k, k, k, k, k, k);
    if (test_run(command, &output)) fail_msg("kind %d: %s", k, output);
    free(output);
  }
}

// --- samples ---

static elbo_array *sample(elbo_model *m, int64_t n, int n_options, const char *const *options, int label, const elbo_array *noise) {
  elbo_sample_config config;
  elbo_array *x;
  elbo_sample_defaults(&config);
  config.n = n, config.n_options = n_options, config.options = options, config.label = label, config.noise = noise, config.seed = 3;
  assert_ok(ctx, elbo_sample(m, &config, &x));
  return x;
}

// The bits of sample i do not depend on n; batch size and threads change rounding alone; noise is what is given.
static void test_independence(void **state) {
  (void)state;
  const char *path = test_path("independent");
  write_model("{model: {" TINY_UNET ", process: {steps: 20}}, sample: {sampler: ddpm, steps: 4, batch_size: 4}}", &pictures, path);
  elbo_model *m = load(path);
  elbo_array *few = sample(m, 3, 0, NULL, -1, NULL), *many = sample(m, 10, 0, NULL, -1, NULL),
             *wide = sample(m, 10, 1, (const char *const[]){"batch_size=7"}, -1, NULL);
  assert_memory_equal(few->data, many->data, 3 * 64 * sizeof(float));
  assert_close(wide->data, many->data, 10 * 64, 1e-4);
  assert_memory_not_equal(few->data, (float *)few->data + 64, 64 * sizeof(float));
  elbo_ctx *two = test_ctx(2);
  elbo_model *threaded;
  elbo_array *x, *noise, *same;
  elbo_sample_config config;
  assert_ok(two, elbo_model_load(two, path, NULL, &threaded));
  elbo_sample_defaults(&config);
  config.n = 10, config.seed = 3;
  assert_ok(two, elbo_sample(threaded, &config, &x));
  assert_close(x->data, many->data, 10 * 64, 1e-4);
  elbo_array_destroy(&x);
  elbo_model_destroy(&threaded);
  elbo_ctx_destroy(&two);
  // the noise that would be drawn, given
  const char *const ddim[] = {"sampler=ddim"};
  noise = array_of(ctx, 4, (int64_t[]){3, 8, 8, 1});
  for (int i = 0; i < 3; i++) {
    double z[64];
    noise_of(3, "sample.noise", i, 64, z);
    for (int k = 0; k < 64; k++) ((float *)noise->data)[i * 64 + k] = (float)z[k];
  }
  x = sample(m, 3, 1, ddim, -1, NULL), same = sample(m, 3, 1, ddim, -1, noise);
  assert_close(same->data, x->data, 3 * 64, 1e-5);
  for (int k = 0; k < 64; k++) ((float *)noise->data)[k] *= -1; // of the first alone
  elbo_array *other = sample(m, 3, 1, ddim, -1, noise);
  int64_t worst;
  assert_false(test_close(other->data, x->data, 64, 1e-2, &worst));
  assert_close((float *)other->data + 64, (float *)x->data + 64, 2 * 64, 1e-5);
  elbo_array *all[] = {few, many, wide, x, noise, same, other};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) elbo_array_destroy(&all[i]);
  elbo_model_destroy(&m);
}

// A variance that the network says is used by the samplers that can, unless they are told otherwise, and passed over by the others, under
// guidance too.
static void test_learned_variance(void **state) {
  (void)state;
  const char *path = test_path("variance"), *weak = test_path("weak");
  char guide[300];
  write_model("{model: {" TINY_UNET ", process: {steps: 10}, variance: learned_range}, sample: {sampler: ddpm, steps: 4}}", &pictures,
              path);
  write_model("{model: {" TINY_UNET ", process: {steps: 10}}}", &pictures, weak);
  snprintf(guide, sizeof guide, "guidance.model=%s", weak);
  elbo_model *m = load(path);
  elbo_array *fixed = sample(m, 2, 1, (const char *const[]){"variance=fixed_small"}, -1, NULL),
             *learned = sample(m, 2, 1, (const char *const[]){"variance=learned_range"}, -1, NULL), *own = sample(m, 2, 0, NULL, -1, NULL),
             *ddim = sample(m, 2, 1, (const char *const[]){"sampler=ddim"}, -1, NULL),
             *guided = sample(m, 2, 3, (const char *const[]){"variance=learned_range", "guidance.scale=1.5", guide}, -1, NULL);
  assert_memory_not_equal(fixed->data, learned->data, elbo_array_bytes(fixed));
  assert_memory_equal(own->data, learned->data, elbo_array_bytes(fixed));
  assert_memory_not_equal(guided->data, learned->data, elbo_array_bytes(fixed));
  elbo_array *all[] = {fixed, learned, own, ddim, guided};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    for (int k = 0; k < 128; k++) assert_true(isfinite(((float *)all[i]->data)[k]));
    elbo_array_destroy(&all[i]);
  }
  elbo_model_destroy(&m);
}

static void test_guidance(void **state) {
  (void)state;
  const char *path = test_path("guided");
  char own[300];
  write_model("{model: {" TINY_MLP
              ", process: {type: edm}, prediction: edm, condition: {type: class, dropout: 0.2}}, sample: {sampler: heun, steps: 5}}",
              &points, path);
  elbo_model *m = load(path);
  snprintf(own, sizeof own, "guidance.model=%s", path);
  elbo_array *plain[3], *one = sample(m, 4, 1, (const char *const[]){"guidance.scale=1"}, 0, NULL), *none[2], *three[3];
  for (int c = 0; c < 3; c++) {
    plain[c] = sample(m, 4, 0, NULL, c, NULL), three[c] = sample(m, 4, 1, (const char *const[]){"guidance.scale=3"}, c, NULL);
    if (c < 2) none[c] = sample(m, 4, 1, (const char *const[]){"guidance.scale=0"}, c, NULL);
  }
  assert_memory_equal(one->data, plain[0]->data, elbo_array_bytes(one));
  assert_memory_not_equal(plain[0]->data, plain[1]->data, elbo_array_bytes(one)); // the class matters
  assert_memory_not_equal(three[0]->data, plain[0]->data, elbo_array_bytes(one));
  assert_close(none[0]->data, none[1]->data, 8, 1e-5); // scale 0 is the null class, whatever was asked
  // outside of the interval nothing acts; autoguidance by the same model changes nothing
  elbo_array *outside = sample(m, 4, 3, (const char *const[]){"guidance.scale=3", "guidance.from=50", "guidance.to=60"}, 0, NULL),
             *by_itself = sample(m, 4, 2, (const char *const[]){"guidance.scale=3", own}, 0, NULL), *turn = sample(m, 4, 0, NULL, -1, NULL);
  assert_memory_equal(outside->data, plain[0]->data, elbo_array_bytes(one));
  assert_close(by_itself->data, plain[0]->data, 8, 1e-6);
  for (int i = 0; i < 4; i++) assert_close((float *)turn->data + 2 * i, (float *)plain[i % 3]->data + 2 * i, 2, 1e-5); // classes in turn
  // what is said of calls is of the network's, two a point where guidance acts
  for (int i = 0; i < 2; i++) {
    elbo_sample_config config;
    elbo_array *x;
    int64_t calls;
    elbo_sample_defaults(&config);
    config.n = 4, config.network_calls = &calls, config.n_options = i, config.options = (const char *const[]){"guidance.scale=3"};
    assert_ok(ctx, elbo_sample(m, &config, &x));
    assert_int_equal(calls, i ? 18 : 9); // Heun's method, the last of five steps Euler's
    elbo_array_destroy(&x);
  }
  elbo_array *all[] = {plain[0], plain[1], plain[2], one, none[0], none[1], three[0], three[1], three[2], outside, by_itself, turn};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) elbo_array_destroy(&all[i]);
  elbo_model_destroy(&m);
}

// --- refusals ---

static void test_recipes_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *part;
    const elbo_dataset_info *info;
  } cases[] = {
      {"{model: {" TINY_MLP ", variance: learned_range}}", "learned_range needs a network with a second output", &points},
      {"{model: {" TINY_UNET ", process: {type: cosine}, variance: learned_range}}", "learned_range is of the steps", &pictures},
      {"{model: {" TINY_MLP ", process: {type: cosine}, time_input: index}}", "index is of a discrete process", &points},
      {"{model: {" TINY_MLP ", process: {type: learned}}, objective: {weighting: bound}}", "a learned process is of 8-bit pictures",
       &points},
      {"{model: {" TINY_UNET ", process: {type: learned}}}", "trained by the bound", &pictures},
      {"{model: {" TINY_UNET ", process: {type: learned}, prediction: edm}}", "goes with epsilon, v or x0", &pictures},
      {"{model: {" TINY_UNET "}, sample: {sampler: flow_euler}}", "flow_euler", &pictures},
      {"{model: {" TINY_UNET ", process: {steps: 10}}, sample: {steps: 11}}", "sample.steps: 11; the process has 10", &pictures},
      {"{model: {" TINY_UNET ", process: {steps: 10, zero_snr: true}}}", "v or x0 is needed", &pictures},
      {"{model: {" TINY_UNET "}, sample: {guidance: {scale: 2}}}", "guidance needs a model", &pictures},
      {"{model: {" TINY_UNET ", condition: {type: class}}, sample: {guidance: {scale: 2}}}", "model.condition.dropout", &pictures},
      {"{model: {" TINY_UNET ", condition: {dropout: 0.1}}}", "there is no condition", &pictures},
      {"{model: {" TINY_UNET ", condition: {type: lowres, factor: 3}}}", "3 does not divide 8x8", &pictures},
      {"{model: {" TINY_UNET ", condition: {type: vector}}}", "vector, but the data carry none", &pictures},
      {"{model: {" TINY_UNET ", prediction: flow}}", "velocity of process flow", &pictures},
      {"{model: {" TINY_UNET ", process: {type: ve}, prediction: v}}", "grows with sigma on process edm and ve", &pictures},
      {"{model: {" TINY_MLP ", process: {type: edm}, prediction: v}}", "edm is its preconditioned form", &points},
      {"{model: {" TINY_UNET ", process: {type: ve}, prediction: score}}", "of networks that divide by sigma themselves", &pictures},
      {"{model: {" TINY_MLP ", process: {type: cosine}, prediction: score}}", "epsilon says the same", &points},
      {"{model: {" SONG_UNET ", process: {type: edm}, prediction: score}}", "divides by the noise level that it is told", &pictures},
      {"{model: {" SONG_UNET ", process: {type: ve}}}", "divides by sigma what it says: score was expected", &pictures},
      {"{model: {" TINY_UNET "}, objective: {time: logit_normal}}", "logit_normal is for a continuous process", &pictures},
      {"{model: {" TINY_MLP ", process: {type: flow}, prediction: flow}, objective: {weighting: bound}}", "the bound is infinite", &points},
      {"{model: {" TINY_UNET ", process: {steps: 2, betas: table, table: [0.1, 1.5]}}}", "1.5", &pictures},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    diffusion_recipe recipe;
    diffusion_spec s;
    elbo_status status = spec_of(cases[i].text, cases[i].info, &recipe, &s);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), cases[i].part))
      fail_msg("%s: \"%s\"; expected \"...%s...\"", cases[i].text, status == ELBO_OK ? "done" : elbo_ctx_message(ctx), cases[i].part);
  }
  elbo_dataset_info bare = pictures;
  bare.classes = 0;
  diffusion_recipe recipe;
  diffusion_spec s;
  assert_status(ctx, spec_of("{model: {" TINY_UNET ", condition: {type: class}}}", &bare, &recipe, &s), ELBO_ERROR_ARGUMENT,
                "the data have no labels");
}

static void refuse_sample(elbo_model *m, int64_t n, const char *option, int label, const elbo_array *noise, const char *part) {
  elbo_sample_config config;
  elbo_array *x = NULL;
  elbo_sample_defaults(&config);
  config.n = n, config.n_options = option ? 1 : 0, config.options = &option, config.label = label, config.noise = noise;
  elbo_status status = elbo_sample(m, &config, &x);
  if (status == ELBO_OK || x || !strstr(elbo_ctx_message(ctx), part))
    fail_msg("%s: \"%s\"; expected \"...%s...\"", option ? option : "", status == ELBO_OK ? "done" : elbo_ctx_message(ctx), part);
}

static void test_samples_refused(void **state) {
  (void)state;
  char own[300], other[300];
  const char *plain = test_path("plain"), *classes = test_path("classes"), *flat = test_path("flat");
  write_model("{model: {" TINY_UNET ", process: {steps: 10}}, sample: {sampler: ddpm, steps: 2}}", &pictures, plain);
  write_model("{model: {" TINY_UNET ", process: {steps: 10}, condition: {type: class}}}", &pictures, classes);
  write_model("{model: {" TINY_MLP ", process: {type: edm}, condition: {type: class}}}", &points, flat);
  elbo_model *m = load(plain), *c = load(classes), *p = load(flat);
  elbo_array *noise = array_of(ctx, 4, (int64_t[]){2, 8, 8, 3});
  refuse_sample(m, 2, "guidance.scale=2", -1, NULL, "no condition to be guided by");
  refuse_sample(c, 2, "guidance.scale=2", 0, NULL, "without a null condition");
  refuse_sample(p, 2, "guidance.scale=2", 0, NULL, "without a null condition"); // its table has a row for none, which never was trained
  refuse_sample(c, 2, NULL, 3, NULL, "class 3: 0 to 2 was expected");
  refuse_sample(m, 2, NULL, 1, NULL, "not conditioned");
  refuse_sample(m, 2, NULL, -1, noise, "noise: float32 (2,8,8,1) was expected, not float32 (2,8,8,3)");
  refuse_sample(m, 2, "steps=11", -1, NULL, "steps: 11");
  refuse_sample(m, 2, "steps=-1", -1, NULL, "steps");
  refuse_sample(m, 2, "sampler=flow_heun", -1, NULL, "flow_heun");
  refuse_sample(m, 2, "sampler=dmp", -1, NULL, "sampler");
  refuse_sample(m, 2, "variance=learned_range", -1, NULL, "this model's network says none");
  refuse_sample(m, 2, "stepz=3", -1, NULL, "steps");
  refuse_sample(m, 0, NULL, -1, NULL, "n is 0");
  snprintf(own, sizeof own, "guidance.model=%s", flat);
  snprintf(other, sizeof other, "{guidance: {scale: 2}}");
  elbo_sample_config config;
  elbo_array *x;
  elbo_sample_defaults(&config);
  config.n = 2, config.n_options = 2, config.options = (const char *const[]){"guidance.scale=2", own};
  assert_status(ctx, elbo_sample(m, &config, &x), ELBO_ERROR_ARGUMENT, "no diffusion model of the same pictures");
  elbo_array_destroy(&noise);
  elbo_model_destroy(&m), elbo_model_destroy(&c), elbo_model_destroy(&p);
}

static void rewrite(const char *path, const char *what, const char *with) {
  char command[2048], *output;
  snprintf(command, sizeof command, "grep -q '%s' '%s' && sed -i 's/%s/%s/' '%s'", what, path, what, with, path);
  if (test_run(command, &output)) fail_msg("%s: no '%s'", path, what);
  free(output);
}

// Directories that are not what they seem.
static void test_files_refused(void **state) {
  (void)state;
  static const struct {
    const char *file, *what, *with, *part;
  } cases[] = {
      {"unet/config.json", "\"UNet2DModel\"", "\"UNet3DModel\"", "UNet3DModel"},
      {"unet/config.json", "\"_class_name\"", "\"_class\"", "_class_name"},
      {"model_index.json", "\"UNet2DModel\"", "\"UNet4DModel\"", "no component is a network that is known"},
      {"model_index.json", "\"DDPMPipeline\"", "\"TeaPipeline\"", "TeaPipeline"},
      {"model_index.json", "\"steps\": 10", "\"steps\": 0", "steps"},
      {"model_index.json", "\"height\"", "\"heigth\"", "heigth"},
      {"model_index.json", "\"channels\": ", "\"channels\": 1", "the network's config has"},
      {"model_index.json", "^    \"variance\": \"fixed_small\"", "    \"variance\": \"learned_range\"", "the network's config has"},
      {"unet/config.json", "\"act_fn\"", "\"act_fun\"", "act_fun"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char path[256], file[400];
    elbo_model *m = NULL;
    snprintf(path, sizeof path, "%s/odd%zu", test_directory(), i), snprintf(file, sizeof file, "%s/%s", path, cases[i].file);
    write_model("{model: {" TINY_UNET ", process: {steps: 10}}}", &pictures, path);
    rewrite(file, cases[i].what, cases[i].with);
    elbo_status status = elbo_model_load(ctx, path, NULL, &m);
    if (status == ELBO_OK || m || !strstr(elbo_ctx_message(ctx), cases[i].part))
      fail_msg("%s, %s: \"%s\"; expected \"...%s...\"", cases[i].file, cases[i].with, status == ELBO_OK ? "loaded" : elbo_ctx_message(ctx),
               cases[i].part);
  }
}

// Data and metrics that do not go with a model.
static void test_evaluation_refused(void **state) {
  (void)state;
  static const struct {
    const char *model, *metrics, *part;
    bool of_points;
  } cases[] = {
      {TINY_UNET ", process: {steps: 10}, condition: {type: class}", "bpd", "the data have no labels", false},
      {DIT_NET ", process: {type: flow}, prediction: flow", "bpd", "infinite at the ends of process flow", false},
      {TINY_UNET ", process: {steps: 10}", "schedule_variance", "of a model with a learned process", false},
      {TINY_UNET ", process: {steps: 10}", "density_mass", "two-dimensional", false},
      {TINY_UNET ", process: {steps: 10}", "bpd,elbo", "elbo", false},
      {TINY_MLP ", process: {type: edm}", "bpd", "of 8-bit pictures; ode_nll scores float data", true},
      {TINY_MLP ", process: {type: edm}", "ode_bpd", "of 8-bit pictures", true},
      {TINY_UNET ", process: {steps: 10}", "bpd", "the model's are 8 x 8 x 1", true},
  };
  uint8_t pixels[20 * 64] = {0};
  float at[20 * 2] = {0};
  elbo_array x = {ELBO_U8, 4, {20, 8, 8, 1}, pixels}, y = {ELBO_F32, 2, {20, 2}, at};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[600], path[256];
    elbo_dataset *data;
    elbo_eval_config config;
    elbo_eval_result *result = NULL;
    const bool flat = strstr(cases[i].model, "mlp") != NULL;
    snprintf(text, sizeof text, "{model: {%s}}", cases[i].model);
    snprintf(path, sizeof path, "%s/scored%zu", test_directory(), i);
    write_model(text, flat ? &points : &pictures, path);
    elbo_model *m = load(path);
    assert_ok(ctx, elbo_dataset_from_arrays(ctx, cases[i].of_points ? &y : &x, NULL, 0, NULL, &data));
    elbo_eval_defaults(&config);
    config.metrics = cases[i].metrics, config.split = ELBO_SPLIT_TRAIN;
    elbo_status status = elbo_evaluate(m, data, &config, &result);
    if (status == ELBO_OK || result || !strstr(elbo_ctx_message(ctx), cases[i].part))
      fail_msg("%s, %s: \"%s\"; expected \"...%s...\"", cases[i].model, cases[i].metrics,
               status == ELBO_OK ? "done" : elbo_ctx_message(ctx), cases[i].part);
    elbo_dataset_destroy(&data);
    elbo_model_destroy(&m);
  }
}

static void test_apply_refused(void **state) {
  (void)state;
  const char *path = test_path("applied");
  char network[300];
  write_model("{model: {" TINY_UNET ", process: {steps: 10}, condition: {type: class}}}", &pictures, path);
  snprintf(network, sizeof network, "%s/unet", path);
  float pixels[2 * 64] = {0}, time = 3;
  int32_t label[2] = {0, 7};
  elbo_array x = {ELBO_F32, 4, {2, 8, 8, 1}, pixels}, t = {ELBO_F32, 1, {1}, &time}, c = {ELBO_I32, 1, {2}, label};
  elbo_named_array in[3] = {{"sample", &x}, {"timestep", &t}, {"class_labels", &c}}, out = {"sample", NULL};
  assert_status(ctx, elbo_apply(ctx, network, 2, in, 1, &out), ELBO_ERROR_ARGUMENT, "input 'class_labels' is missing");
  assert_status(ctx, elbo_apply(ctx, network, 3, in, 1, &out), ELBO_ERROR_ARGUMENT, "class_labels: 7 of row 1: 0 to 2 was expected");
  label[1] = 1;
  assert_ok(ctx, elbo_apply(ctx, network, 3, in, 1, &out));
  assert_int_equal(out.array->dim[0], 2);
  elbo_array_destroy(&out.array);
  x.dim[3] = 2, x.dim[1] = 4;
  assert_status(ctx, elbo_apply(ctx, network, 3, in, 1, &out), ELBO_ERROR_ARGUMENT, "sample: (2,any,any,1) was expected");
  x.dim[3] = 1, x.dim[1] = 8;
  in[2].name = "labels";
  assert_status(ctx, elbo_apply(ctx, network, 3, in, 1, &out), ELBO_ERROR_ARGUMENT, "this network takes sample, timestep, class_labels");
}

// A class that the model has not seen is no null class.
static void test_too_many_classes(void **state) {
  (void)state;
  const char *path = test_path("classes");
  write_model("{model: {" TINY_UNET ", process: {steps: 10}, condition: {type: class, dropout: 0.1}}}", &pictures, path);
  elbo_model *m = load(path);
  uint8_t pixels[20 * 64] = {0};
  int32_t label[20] = {3};
  elbo_array x = {ELBO_U8, 4, {20, 8, 8, 1}, pixels}, y = {ELBO_I32, 1, {20}, label};
  elbo_dataset *data;
  elbo_eval_config config;
  elbo_eval_result *result = NULL;
  assert_ok(ctx, elbo_dataset_from_arrays(ctx, &x, &y, 0, NULL, &data));
  elbo_eval_defaults(&config);
  config.metrics = "bpd", config.split = ELBO_SPLIT_TRAIN;
  assert_status(ctx, elbo_evaluate(m, data, &config, &result), ELBO_ERROR_ARGUMENT, "the data have 4 classes; the model knows 3");
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
}

// A network that wants more than samplers give (a text as one vector, sizes): apply runs it, sampling names what is missing.
static void test_apply_added(void **state) {
  (void)state;
  diffusion_spec s = {.height = 8, .width = 8, .channels = 1, .bits = 8};
  diffusion_recipe recipe =
      recipe_of(ctx, memory,
                "{model: {network: unet, unet: {class: UNet2DConditionModel, sample_size: 8, in_channels: 1, out_channels: 1, "
                "block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D], mid_block_type: null, "
                "up_block_types: [UpBlock2D, UpBlock2D], norm_num_groups: 4, cross_attention_dim: 4, addition_embed_type: text_time, "
                "addition_time_embed_dim: 2, projection_class_embeddings_input_dim: 17}}}");
  s.model = recipe.model, s.sample = recipe.sample;
  elbo_store *store;
  assert_ok(ctx, diffusion_store_create(ctx, &s, 3, &store));
  assert_ok(ctx, directory_make(ctx, test_path("added")));
  assert_ok(ctx, diffusion_directory_write(ctx, test_path("added"), &s, store, 1));
  elbo_store_destroy(&store);
  char network[300];
  snprintf(network, sizeof network, "%s/unet", test_path("added"));
  float pixels[2 * 64] = {0}, time = 3, text[2 * 5] = {0}, sizes[2 * 6] = {0};
  elbo_array x = {ELBO_F32, 4, {2, 8, 8, 1}, pixels}, t = {ELBO_F32, 1, {1}, &time}, e = {ELBO_F32, 2, {2, 5}, text},
             k = {ELBO_F32, 2, {2, 6}, sizes};
  elbo_named_array in[4] = {{"sample", &x}, {"timestep", &t}, {"text_embeds", &e}, {"time_ids", &k}}, out = {"sample", NULL};
  assert_ok(ctx, elbo_apply(ctx, network, 4, in, 1, &out));
  elbo_array_destroy(&out.array);
  assert_status(ctx, elbo_apply(ctx, network, 3, in, 1, &out), ELBO_ERROR_ARGUMENT, "input 'time_ids' is missing");
}

static int open(void **state) {
  (void)state;
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
  return 0;
}
static int close_all(void **state) {
  (void)state;
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_there_and_back),   cmocka_unit_test(test_resume),        cmocka_unit_test(test_independence),
      cmocka_unit_test(test_learned_variance), cmocka_unit_test(test_guidance),      cmocka_unit_test(test_recipes_refused),
      cmocka_unit_test(test_samples_refused),  cmocka_unit_test(test_files_refused), cmocka_unit_test(test_evaluation_refused),
      cmocka_unit_test(test_apply_refused),    cmocka_unit_test(test_apply_added),   cmocka_unit_test(test_too_many_classes),
  };
  return cmocka_run_group_tests(tests, open, close_all);
}
