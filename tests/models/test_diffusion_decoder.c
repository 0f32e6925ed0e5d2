// Diffusion decoders: the diffusion's loss reaches the encoder as a reference says, formulation 2 against its Markov chain, and what
// configs and calls are refused for.
#include "models/diffusion_cases.h"

#include "backend/node.h"
#include "models/diffusion_decoder.h"
#include "models/vae_task.h"
#include "ops/op.h"

static elbo_ctx *ctx;
static arena *memory;

enum { B = 3, SIDE = 4, SIZE = SIDE * SIDE, DIM = 3, MOST = 400 };
static const elbo_dataset_info info = {.height = SIDE, .width = SIDE, .channels = 1, .bits = 8};

#define ENCODER "encoder: {type: conv, channels: [6], hidden: [7], norm_groups: 2}"

static diffae_recipe diffae_of(const char *text) {
  yaml_node *root = NULL;
  diffae_recipe recipe;
  assert_ok(ctx, yaml_parse(ctx, memory, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, memory, &diffae_sections, root, "", &recipe));
  return recipe;
}

// --- gradients ---

typedef struct gradients {
  int n;
  char name[MOST][96];
  double *at[MOST];
  int64_t count[MOST];
} gradients;

// Of `loss` to every trained parameter and to `input` (NULL: none), whose gradient comes last, as "input".
static gradients differentiate(elbo_graph *g, elbo_tensor *loss, elbo_tensor *input, elbo_store *store, void (*fill)(elbo_plan *)) {
  gradients out = {0};
  elbo_tensor *p[MOST], *dp[MOST];
  elbo_plan_config config;
  elbo_plan *plan;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *leaf = g->nodes[i];
    if (leaf->op != &op_parameter || ((const parameter_attr *)leaf->attr)->kind != ELBO_PARAM_TRAINED) continue;
    assert_true(out.n < MOST - 1);
    snprintf(out.name[out.n], sizeof out.name[0], "%s", leaf->name);
    out.count[out.n] = shape_count(&leaf->out[0]->shape), p[out.n++] = leaf->out[0];
  }
  if (input) snprintf(out.name[out.n], sizeof out.name[0], "input"), out.count[out.n] = shape_count(&input->shape), p[out.n++] = input;
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_gradient(loss, out.n, p, dp));
  int at[MOST], n = 0;
  elbo_tensor *outputs[MOST];
  for (int i = 0; i < out.n; i++) {
    out.at[i] = calloc((size_t)out.count[i], sizeof(double));
    if (dp[i]) outputs[n] = dp[i], at[n++] = i;
  }
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  assert_ok(ctx, elbo_plan_create(ctx, g, n, outputs, &config, &plan));
  fill(plan);
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int i = 0; i < n; i++) memcpy(out.at[at[i]], elbo_plan_output(plan, i), (size_t)out.count[at[i]] * sizeof(double));
  elbo_plan_destroy(&plan);
  return out;
}

static const double *find(const gradients *g, const char *name, int64_t *count) {
  for (int i = 0; i < g->n; i++)
    if (!strcmp(g->name[i], name)) return *count = g->count[i], g->at[i];
  return NULL;
}

static void free_gradients(gradients *g) {
  for (int i = 0; i < g->n; i++) free(g->at[i]);
}

// What both sides of the comparison are given.
static struct {
  decoder_spec spec;
  diffusion_objective objective;
  process *process;
  float x[B * SIZE], code[B * DIM], weight[B], along[B * DIM];
} given;

static void fill_step(elbo_plan *plan) {
  static const double times[B] = {0.1, 0.5, 0.8};
  session view = {.ctx = ctx, .plan = plan, .batch = B};
  session_fill_times(&view, &given.spec.pixels, &given.objective, given.process, times);
  const struct {
    const char *name;
    const float *values;
    int64_t count;
  } inputs[] = {{"x", given.x, B * SIZE}, {"weight", given.weight, B}, {"condition", given.code, B * DIM}, {"along", given.along, B * DIM}};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
    if (elbo_plan_input(plan, inputs[i].name)) assert_ok(ctx, elbo_plan_set(plan, inputs[i].name, inputs[i].values, inputs[i].count));
  int64_t *index = elbo_plan_input(plan, "sample_index"), *seed = elbo_plan_input(plan, "seed");
  for (int i = 0; index && i < B; i++) index[i] = 100 + i;
  if (seed) *seed = 7;
}

// The encoder alone: z, with the noise that training draws, as plain graph; and (along != NULL) what moves it.
static elbo_graph *encoder_graph(elbo_tensor **z, elbo_tensor **kl) {
  elbo_graph *g;
  elbo_tensor *mean, *log_std;
  assert_ok(ctx, elbo_graph_create(ctx, "encoder", &g));
  code_posterior(&given.spec, g, elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){B, SIDE, SIDE, 1}), false, &mean, &log_std);
  *z = mean, *kl = NULL;
  if (!log_std) return g;
  float noise[B * DIM];
  for (int b = 0; b < B; b++) {
    double each[DIM];
    noise_of(7, "z", 100 + b, DIM, each);
    for (int k = 0; k < DIM; k++) noise[b * DIM + k] = (float)each[k];
  }
  elbo_tensor *std = elbo_exp(log_std);
  *z = elbo_add(mean, elbo_mul(std, elbo_constant_array(g, 2, (int64_t[]){B, DIM}, noise)));
  // KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - 1) / 2 - log s
  elbo_tensor *each = elbo_sub(elbo_scale(elbo_add(elbo_square(mean), elbo_square(std)), 0.5, -0.5), log_std);
  *kl = elbo_sum(each, 1u << 1, 0);
  return g;
}

// The gradient to the encoder is that of z . (gradient of the diffusion's loss to a code that is given), plus the KL's own.
static void test_gradient(const char *recipe_text) {
  diffae_recipe recipe = diffae_of(recipe_text);
  diffusion_training_graph whole, told;
  elbo_store *store;
  elbo_graph *g;
  elbo_tensor *z, *kl;
  elbo_plan *plan;
  assert_ok(ctx, diffae_spec_make(ctx, memory, &recipe, &info, "test", &given.spec));
  given.objective = recipe.objective;
  assert_ok(ctx, process_create(ctx, &given.spec.pixels.model.process, "test", &given.process));
  test_random r = {test_seed(), 9};
  for (int i = 0; i < B * SIZE; i++) given.x[i] = (float)test_uniform(&r);
  for (int b = 0; b < B; b++) given.weight[b] = b == 1 ? 0.5f : 1;
  assert_ok(ctx, decoder_store_create(ctx, &given.spec, test_seed(), &store));
  shake(ctx, store, 0.2);
  const diffusion_source source = {diffae_batch, &given.spec};
  assert_ok(ctx, diffusion_training_build_from(ctx, &given.spec.pixels, &given.objective, given.process, B, true, &source, &whole));
  gradients got = differentiate(whole.graph, whole.loss, NULL, store, fill_step);
  // the reference: the code by the encoder alone, the loss of that code, then back through the encoder
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  g = encoder_graph(&z, &kl);
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &z, &config, &plan));
  fill_step(plan);
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int i = 0; i < B * DIM; i++) given.code[i] = (float)((const double *)elbo_plan_output(plan, 0))[i];
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  assert_ok(ctx, diffusion_training_build(ctx, &given.spec.pixels, &given.objective, given.process, B, true, &told));
  elbo_tensor *code = elbo_input(told.graph, "condition", ELBO_F32, 2, (int64_t[]){B, DIM});
  gradients denoiser = differentiate(told.graph, told.loss, code, store, fill_step);
  int64_t count, checked = 0;
  const double *to_code = find(&denoiser, "input", &count);
  for (int i = 0; i < B * DIM; i++) given.along[i] = (float)to_code[i];
  g = encoder_graph(&z, &kl);
  elbo_tensor *along = elbo_input(g, "along", ELBO_F32, 2, (int64_t[]){B, DIM}), *loss = elbo_sum(elbo_mul(z, along), ELBO_ALL_AXES, 0);
  if (kl) {
    elbo_tensor *weight = elbo_input(g, "weight", ELBO_F32, 1, (int64_t[]){B});
    elbo_tensor *mean = elbo_div(elbo_sum(elbo_mul(kl, weight), ELBO_ALL_AXES, 0), elbo_sum(weight, ELBO_ALL_AXES, 0));
    loss = elbo_add(loss, elbo_scale(mean, given.spec.code.kl / SIZE, 0));
  }
  gradients encoder = differentiate(g, loss, NULL, store, fill_step);
  double largest = 0;
  for (int i = 0; i < got.n; i++) {
    const bool of_encoder = strncmp(got.name[i], "encoder.", 8) == 0;
    const double *want = find(of_encoder ? &encoder : &denoiser, got.name[i], &count);
    if (!want) fail_msg("%s: not in the reference", got.name[i]);
    assert_int_equal(count, got.count[i]);
    for (int64_t k = 0; k < count; k++) {
      if (!(fabs(got.at[i][k] - want[k]) <= 1e-5 * (1e-3 + fabs(want[k]))))
        fail_msg("%s[%lld]: gradient %.9g, reference %.9g", got.name[i], (long long)k, got.at[i][k], want[k]);
      if (of_encoder) largest = fmax(largest, fabs(want[k]));
    }
    checked += of_encoder;
  }
  assert_true(checked >= 6);
  if (!(largest > 1e-4)) fail_msg("the encoder's gradients are all but zero (%g)", largest);
  free_gradients(&got), free_gradients(&denoiser), free_gradients(&encoder);
  elbo_graph_destroy(&g);
  elbo_graph_destroy(&whole.graph);
  elbo_graph_destroy(&told.graph);
  elbo_store_destroy(&store);
  process_destroy(&given.process);
}

static void test_gradients(void **state) {
  (void)state;
  test_gradient("{model: {" ENCODER ", code: {dim: 3}, " TINY_UNET ", process: {steps: 20}}}");
  test_gradient("{model: {" ENCODER ", code: {dim: 3, kl: 0.5, maps: 2, hidden: [6]}, " TINY_UNET
                ", process: {type: cosine}, prediction: v}, objective: {weighting: min_snr}}");
}

// --- formulation 2 ---

static elbo_model *tiny_vae(void) {
  static const char text[] = "{latent: {dim: 2}, encoder: {type: mlp, hidden: [8]}, decoder: {type: mlp, hidden: [8]}}";
  yaml_node *root = NULL;
  vae_spec spec = {.shape = {SIDE, SIDE, 1}, .bits = 8};
  elbo_model *m;
  assert_ok(ctx, yaml_parse(ctx, memory, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, memory, &model_table, root, "", &spec.model));
  assert_ok(ctx, vae_untrained(ctx, &spec, 3, &m));
  return m;
}

static refiner_recipe refiner_of(const char *text) {
  yaml_node *root = NULL;
  refiner_recipe recipe;
  assert_ok(ctx, yaml_parse(ctx, memory, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, memory, &refiner_sections, root, "", &recipe));
  return recipe;
}

// A batch of given x0 and x_hat, in the model's range.
static void given_batch(const void *user, diffusion_build *t, diffusion_batch *out) {
  (void)user;
  out->x0 = elbo_input(t->g, "x", ELBO_F32, 4, (int64_t[]){B, SIDE, SIDE, 1});
  out->condition.picture = elbo_input(t->g, "picture", ELBO_F32, 4, (int64_t[]){B, SIDE, SIDE, 1});
}

// q(x_t | x_{t-1}, x_hat) = N(sqrt(1 - beta_t) x_{t-1} + (1 - sqrt(1 - beta_t)) x_hat, beta_t), but that the first step adds x_hat whole
// [Pandey22 formulation 2]; stepped here one by one. The loss of the training graph is that of a network that is shown such an x_t beside
// x_hat, and asked for its noise.
static void test_formulation_2(void **state) {
  (void)state;
  enum { STEPS = 20 };
  refiner_recipe recipe = refiner_of("{model: {vae: v, formulation: 2, " TINY_UNET ", process: {steps: 20}}}");
  elbo_model *vae = tiny_vae();
  decoder_spec spec;
  process *p;
  elbo_store *store;
  diffusion_training_graph graph;
  elbo_plan *plan;
  assert_ok(ctx, refiner_spec_make(ctx, memory, &recipe, vae, &info, "test", &spec));
  assert_true(spec.pixels.model.condition.centred);
  assert_int_equal(diffusion_extra_channels(&spec.pixels), 1);
  assert_ok(ctx, process_create(ctx, &spec.pixels.model.process, "test", &p));
  assert_ok(ctx, decoder_store_create(ctx, &spec, test_seed(), &store));
  shake(ctx, store, 0.2);
  static const int index[B] = {0, 7, 19};
  float x[B * SIZE], hat[B * SIZE], weight[B] = {1, 1, 1};
  double times[B];
  test_random r = {test_seed(), 11};
  test_fill_normal(&r, x, B * SIZE, 0.7);
  test_fill_normal(&r, hat, B * SIZE, 0.7);
  for (int b = 0; b < B; b++) times[b] = (index[b] + 1.0) / STEPS;
  const diffusion_source source = {given_batch, NULL};
  assert_ok(ctx, diffusion_training_build_from(ctx, &spec.pixels, &recipe.objective, p, B, false, &source, &graph));
  assert_ok(ctx, elbo_plan_create(ctx, graph.graph, 1, &graph.each, NULL, &plan));
  session view = {.ctx = ctx, .plan = plan, .batch = B};
  session_fill_times(&view, &spec.pixels, &recipe.objective, p, times);
  assert_ok(ctx, elbo_plan_set(plan, "x", x, B * SIZE));
  assert_ok(ctx, elbo_plan_set(plan, "picture", hat, B * SIZE));
  if (elbo_plan_input(plan, "weight")) assert_ok(ctx, elbo_plan_set(plan, "weight", weight, B));
  int64_t *samples = elbo_plan_input(plan, "sample_index"), *seed = elbo_plan_input(plan, "seed");
  for (int b = 0; b < B; b++) samples[b] = 100 + b;
  *seed = 5;
  assert_ok(ctx, elbo_plan_run(plan, store));
  double got[B];
  for (int b = 0; b < B; b++) got[b] = (double)((const float *)elbo_plan_output(plan, 0))[b];
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&graph.graph);
  // the network by itself, shown what the chain comes to
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "network", &g));
  denoiser_inputs in = {.graph = g,
                        .sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){B, SIDE, SIDE, 2}),
                        .timestep = elbo_input(g, "timestep", ELBO_F32, 1, (int64_t[]){B})};
  elbo_scope_push(g, DENOISER_SCOPE);
  elbo_tensor *said = denoiser_network(&spec.pixels.model.denoiser, &in);
  elbo_scope_pop(g);
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &said, NULL, &plan));
  float *shown = elbo_plan_input(plan, "sample"), *told = elbo_plan_input(plan, "timestep");
  double noise[B][SIZE];
  for (int b = 0; b < B; b++) {
    double of_x = 1, of_hat = 0, variance = 0;
    const double *bar = process_alpha_bar(p);
    for (int i = 0; i <= index[b]; i++) {
      double beta = 1 - bar[i] / (i ? bar[i - 1] : 1), keep = sqrt(1 - beta);
      of_x *= keep, of_hat = i ? keep * of_hat + 1 - keep : 1, variance = keep * keep * variance + beta;
    }
    assert_near(of_hat, 1, 1e-12); // x_t is centred on alpha x0 + x_hat throughout
    noise_of(5, "epsilon", 100 + b, SIZE, noise[b]);
    told[b] = (float)index[b];
    for (int k = 0; k < SIZE; k++) {
      double xt = of_x * (double)x[b * SIZE + k] + of_hat * (double)hat[b * SIZE + k] + sqrt(variance) * noise[b][k];
      shown[2 * (b * SIZE + k)] = (float)xt, shown[2 * (b * SIZE + k) + 1] = hat[b * SIZE + k];
    }
  }
  assert_ok(ctx, elbo_plan_run(plan, store));
  const float *output = elbo_plan_output(plan, 0);
  for (int b = 0; b < B; b++) {
    double sum = 0;
    for (int k = 0; k < SIZE; k++) sum += pow((double)output[b * SIZE + k] - noise[b][k], 2) / SIZE;
    if (!(fabs(sum - got[b]) <= 1e-4 * sum)) fail_msg("example %d: loss %.8g, by the chain %.8g", b, got[b], sum);
  }
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  elbo_store_destroy(&store);
  process_destroy(&p);
  elbo_model_destroy(&vae);
}

// The VAE has no part in the refiner's training: its parameters get no gradient, the denoiser's do.
static void test_vae_is_frozen(void **state) {
  (void)state;
  refiner_recipe recipe = refiner_of("{model: {vae: v, " TINY_UNET ", process: {steps: 20}}}");
  elbo_model *vae = tiny_vae();
  decoder_spec spec;
  diffusion_training_graph graph;
  elbo_store *store;
  assert_ok(ctx, refiner_spec_make(ctx, memory, &recipe, vae, &info, "test", &spec));
  assert_false(spec.pixels.model.condition.centred);
  given.spec = spec, given.objective = recipe.objective;
  assert_ok(ctx, process_create(ctx, &spec.pixels.model.process, "test", &given.process));
  const diffusion_source source = {refiner_batch, &vae->spec};
  assert_ok(ctx, diffusion_training_build_from(ctx, &spec.pixels, &recipe.objective, given.process, B, true, &source, &graph));
  assert_ok(ctx, elbo_store_create(ctx, 1, &graph.graph, 4, &store));
  shake(ctx, store, 0.2);
  gradients got = differentiate(graph.graph, graph.loss, NULL, store, fill_step);
  double of_vae = 0, of_denoiser = 0;
  int met = 0;
  for (int i = 0; i < got.n; i++) {
    const bool denoiser = strncmp(got.name[i], "denoiser.", 9) == 0;
    met += !denoiser;
    for (int64_t k = 0; k < got.count[i]; k++) *(denoiser ? &of_denoiser : &of_vae) += fabs(got.at[i][k]);
  }
  assert_true(met >= 8);
  assert_true(of_vae == 0);
  assert_true(of_denoiser > 1e-3);
  free_gradients(&got);
  elbo_graph_destroy(&graph.graph);
  elbo_store_destroy(&store);
  process_destroy(&given.process);
  elbo_model_destroy(&vae);
}

// --- hostile configs ---

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *want;
  } bad[] = {
      {"{model: {encoder: {channels: [4, 4, 4]}, " TINY_UNET "}}", "model.encoder.channels: a 4x4 picture cannot be halved 3 times"},
      {"{model: {encoder: {channels: []}, " TINY_UNET "}}", "model.encoder.channels: empty"},
      {"{model: {" ENCODER ", network: vdm, vdm: {channels: 8, layers: 1, norm_num_groups: 4}}}", "takes no vector, which a code is"},
      {"{model: {" ENCODER ", " TINY_UNET ", process: {type: learned}}, objective: {weighting: bound}}", "learned is of preset vdm"},
      {"{model: {" ENCODER ", " TINY_UNET ", variance: learned_range, process: {type: flow}, prediction: flow}}", "model.variance"},
      {"{model: {" ENCODER ", " TINY_UNET "}, sample: {guidance: {scale: 2}}}", "sample.guidance.scale"}};
  decoder_spec spec;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    diffae_recipe recipe = diffae_of(bad[i].text);
    assert_status(ctx, diffae_spec_make(ctx, memory, &recipe, &info, "test", &spec), ELBO_ERROR_ARGUMENT, bad[i].want);
  }
  static const struct {
    const char *text, *want;
  } keys[] = {{"{model: {code: {dim: 0}}}", "model.code.dim"},
              {"{model: {code: {kl: -1}}}", "model.code.kl"},
              {"{model: {code: {dims: 4}}}", "did you mean 'dim'"},
              {"{model: {condition: {type: code}}}", "model.condition: unknown key"}};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    yaml_node *root = NULL;
    diffae_recipe recipe;
    assert_ok(ctx, yaml_parse(ctx, memory, "test", keys[i].text, strlen(keys[i].text), &root));
    assert_status(ctx, config_load(ctx, memory, &diffae_sections, root, "", &recipe), ELBO_ERROR_ARGUMENT, keys[i].want);
  }
  yaml_node *root = NULL;
  diffusion_recipe plain;
  static const char told[] = "{model: {condition: {type: code}}}"; // no recipe's choice: nothing would make it
  assert_ok(ctx, yaml_parse(ctx, memory, "test", told, strlen(told), &root));
  assert_status(ctx, config_load(ctx, memory, &diffusion_sections, root, "", &plain), ELBO_ERROR_ARGUMENT, "model.condition.type");
  refiner_recipe refiner = refiner_of("{model: {vae: v, " TINY_UNET "}}");
  elbo_model *vae = tiny_vae();
  elbo_dataset_info other = info;
  other.height = 8;
  assert_status(ctx, refiner_spec_make(ctx, memory, &refiner, vae, &other, "test", &spec), ELBO_ERROR_ARGUMENT,
                "model.vae: 'v' is of pictures 4 x 4 x 1; the data are 8 x 4 x 1");
  assert_status(ctx, refiner_spec_make(ctx, memory, &refiner, NULL, &info, "test", &spec), ELBO_ERROR_ARGUMENT, "a VAE was expected");
  vae->spec.model.condition.type = CONDITION_CLASS;
  assert_status(ctx, refiner_spec_make(ctx, memory, &refiner, vae, &info, "test", &spec), ELBO_ERROR_ARGUMENT, "is conditioned");
  elbo_model_destroy(&vae);
  static const char formulation[] = "{model: {vae: v, formulation: 3}}";
  assert_ok(ctx, yaml_parse(ctx, memory, "test", formulation, strlen(formulation), &root));
  assert_status(ctx, config_load(ctx, memory, &refiner_sections, root, "", &refiner), ELBO_ERROR_ARGUMENT, "model.formulation");
}

int main(void) {
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_formulation_2),
                                     cmocka_unit_test(test_vae_is_frozen), cmocka_unit_test(test_refused)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return failed;
}
