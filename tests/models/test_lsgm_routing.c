// Who is trained by what: the gradients of an LSGM's training step against those of the plain losses, each differentiated by itself in
// double precision with everything connected to everything.
#include "models/lsgm_cases.h"

#include "ops/op.h"

enum { B = 5, MOST = 200 };

typedef struct gradients {
  int n;
  char name[MOST][128];
  double *at[MOST];
  int64_t count[MOST];
} gradients;

// What a step's inputs hold: a function of the row and the name alone.
static float row_value(const char *name, int row) {
  static const double t[B] = {0.11, 0.35, 0.52, 0.74, 0.93};
  const char *leaf = strchr(name, '.') ? strchr(name, '.') + 1 : name;
  double own = strncmp(name, "bound", 5) == 0 ? t[(row + 2) % B] : t[row]; // with times of their own
  if (!strcmp(leaf, "alpha") || !strcmp(leaf, "epsilon_of_output")) return (float)sqrt(1 - own * own);
  if (!strcmp(leaf, "sigma") || !strcmp(leaf, "epsilon_of_state")) return (float)own; // of prediction v: epsilon = sigma z_t + alpha v
  if (!strcmp(leaf, "time")) return (float)(1000 * own);
  if (!strcmp(name, "score.weight")) return (float)(0.6 + 0.3 * row);
  if (!strcmp(name, "bound.weight")) return (float)(1.7 - 0.2 * row);
  return row == 2 ? 0 : 1; // "weight": the third is padding
}

static void fill(elbo_ctx *ctx, elbo_graph *g, elbo_plan *plan, const elbo_array *x, double beta, bool by_likelihood) {
  int64_t *index = elbo_plan_input(plan, "sample_index"), *seed = elbo_plan_input(plan, "seed");
  for (int k = 0; index && k < B; k++) index[k] = 100 + k;
  if (seed) *seed = 7;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *leaf = g->nodes[i];
    float rows[B], scalar = (float)beta;
    if (leaf->op != &op_input || leaf->out[0]->dtype != ELBO_F32 || !elbo_plan_input(plan, leaf->name)) continue;
    bool picture = strcmp(leaf->name, "x") == 0, one = strcmp(leaf->name, "beta") == 0;
    for (int k = 0; k < B; k++) // with the likelihood weighting both weights are one input
      rows[k] = row_value(by_likelihood && !strcmp(leaf->name, "bound.weight") ? "score.weight" : leaf->name, k);
    const void *values = picture ? x->data : one ? &scalar : rows;
    assert_ok(ctx, elbo_plan_set(plan, leaf->name, values, picture ? elbo_array_count(x) : one ? 1 : B));
  }
}

static gradients differentiate(elbo_ctx *ctx, elbo_graph *g, elbo_tensor *loss, elbo_store *store, const elbo_array *x, double beta,
                               bool by_likelihood) {
  gradients out = {0};
  elbo_tensor *p[MOST], *dp[MOST], *outputs[MOST];
  int at[MOST], n = 0;
  elbo_plan_config config;
  elbo_plan *plan;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *leaf = g->nodes[i];
    if (leaf->op != &op_parameter || ((const parameter_attr *)leaf->attr)->kind != ELBO_PARAM_TRAINED) continue;
    assert_true(out.n < MOST);
    snprintf(out.name[out.n], sizeof out.name[0], "%s", leaf->name);
    out.count[out.n] = shape_count(&leaf->out[0]->shape);
    p[out.n++] = leaf->out[0];
  }
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_gradient(loss, out.n, p, dp));
  for (int i = 0; i < out.n; i++) {
    out.at[i] = calloc((size_t)out.count[i], sizeof(double));
    if (dp[i]) outputs[n] = dp[i], at[n++] = i;
  }
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  assert_ok(ctx, elbo_plan_create(ctx, g, n, outputs, &config, &plan));
  fill(ctx, g, plan, x, beta, by_likelihood);
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int i = 0; i < n; i++) memcpy(out.at[at[i]], elbo_plan_output(plan, i), (size_t)out.count[at[i]] * sizeof(double));
  elbo_plan_destroy(&plan);
  return out;
}

// --- the plain losses ---

static elbo_tensor *rows_mean(elbo_graph *g, elbo_tensor *each) {
  int64_t n = B;
  return elbo_scale(elbo_sum(elbo_mul(elbo_input(g, "weight", ELBO_F32, 1, &n), each), ELBO_ALL_AXES, 0), 0.25, 0); // four count
}

static elbo_tensor *row(elbo_graph *g, const char *prefix, const char *name, int rank) {
  char full[64];
  int64_t n = B;
  snprintf(full, sizeof full, "%s.%s", prefix, name);
  return elbo_reshape(elbo_input(g, full, ELBO_F32, 1, &n), rank, (int64_t[]){B, 1, 1, 1});
}

// The network's squared error of epsilon and N(0, I)'s, each (B).
static void plain_errors(elbo_graph *g, const lsgm_spec *s, elbo_tensor *z, const char *prefix, elbo_tensor **network,
                         elbo_tensor **normal) {
  const diffusion_spec *d = &s->prior;
  char name[32];
  int64_t dim[4] = {B, d->height, d->width, d->channels}, b = B;
  snprintf(name, sizeof name, "%s.epsilon", prefix);
  elbo_tensor *epsilon = elbo_reshape(elbo_random_normal(g, name, 2, (int64_t[]){B, vae_code_size(&s->vae)}), 4, dim);
  elbo_tensor *alpha = row(g, prefix, "alpha", 4), *sigma = row(g, prefix, "sigma", 4);
  elbo_tensor *state = elbo_add(elbo_mul(alpha, elbo_reshape(z, 4, dim)), elbo_mul(sigma, epsilon));
  elbo_scope_push(g, "denoiser");
  denoiser_inputs in = {.graph = g, .sample = state, .timestep = elbo_reshape(row(g, prefix, "time", 4), 1, &b), .training = true};
  elbo_tensor *v = denoiser_network(&d->model.denoiser, &in);
  if (d->model.mixing) {
    bool each = d->model.mixing == MIXING_DIMENSION;
    int64_t dims[3] = {each ? d->height : 1, each ? d->width : 1, d->channels};
    elbo_init init = {ELBO_INIT_KIND_CONSTANT, -3, 0};
    elbo_tensor *share = elbo_sigmoid(elbo_parameter(g, "mixing_logit", 3, dims, ELBO_PARAM_TRAINED, init));
    // (1 - a) sigma z_t + a epsilon' [Vahdat21 sec. 3.2], epsilon' = sigma z_t + alpha v', back as v = (epsilon - sigma z_t) / alpha
    elbo_tensor *own = elbo_add(elbo_mul(sigma, state), elbo_mul(alpha, v));
    elbo_tensor *mixed = elbo_add(elbo_mul(elbo_scale(share, -1, 1), elbo_mul(sigma, state)), elbo_mul(share, own));
    *network = elbo_sum_per_example(elbo_square(elbo_sub(mixed, epsilon)));
  } else {
    *network = elbo_sum_per_example(elbo_square(elbo_sub(elbo_add(elbo_mul(sigma, state), elbo_mul(alpha, v)), epsilon)));
  }
  elbo_scope_pop(g);
  *normal = elbo_sum_per_example(elbo_square(elbo_sub(elbo_mul(sigma, state), epsilon)));
}

typedef enum plain_loss { PLAIN_RECONSTRUCTION, PLAIN_ENTROPY, PLAIN_CROSS_ENTROPY, PLAIN_SCORE } plain_loss;

static elbo_tensor *build_plain(elbo_graph *g, const lsgm_spec *s, const lsgm_objective *o, const process *p, plain_loss which) {
  latent_request request = {.spec = &s->vae, .graph = g, .batch = B, .samples = 1, .mode = LATENT_POSTERIOR, .training = true};
  vae_latents z = vae_latent_pass(&request);
  if (which == PLAIN_RECONSTRUCTION) {
    elbo_tensor *l = z.output, *x = vae_input_x(&s->vae, g, B); // -log of a Bernoulli with logit l
    return rows_mean(g, elbo_sum_per_example(elbo_sub(elbo_softplus(l), elbo_mul(x, l))));
  }
  if (which == PLAIN_ENTROPY) {
    elbo_tensor *sum = NULL;
    for (int i = 0; i < z.n; i++) {
      elbo_tensor *part = elbo_sum_per_example(z.group[i].log_std);
      sum = sum ? elbo_add(sum, part) : part;
    }
    return rows_mean(g, sum);
  }
  bool separate = o->times == TIMES_SEPARATE && o->weighting != SCORE_LIKELIHOOD;
  elbo_tensor *network, *normal;
  plain_errors(g, s, z.z, which == PLAIN_CROSS_ENTROPY && separate ? "bound" : "score", &network, &normal);
  if (which == PLAIN_SCORE) return rows_mean(g, elbo_mul(network, row(g, "score", "weight", 1)));
  elbo_tensor *excess = elbo_mul(elbo_sub(network, normal), row(g, "bound", "weight", 1));
  double alpha = process_at(p, 0).alpha;
  return rows_mean(g, elbo_add(excess, elbo_scale(elbo_sum_per_example(elbo_square(z.z)), 0.5 * alpha * alpha, 0)));
}

static const double *find(const gradients *g, const char *name) {
  for (int i = 0; i < g->n; i++)
    if (strcmp(g->name[i], name) == 0) return g->at[i];
  return NULL;
}

static void compare(const char *what, const gradients *got, const char *prefix, int n, const gradients *terms, const double *weight) {
  double largest = 0;
  int met = 0;
  for (int i = 0; i < got->n; i++) {
    if (strncmp(got->name[i], prefix, strlen(prefix)) != 0) continue;
    for (int64_t j = 0; j < got->count[i]; j++) {
      double want = 0;
      for (int k = 0; k < n; k++) want += weight[k] && find(&terms[k], got->name[i]) ? weight[k] * find(&terms[k], got->name[i])[j] : 0;
      if (!(fabs(got->at[i][j] - want) <= 1e-6 * (1 + fabs(want))))
        fail_msg("%s: gradient of %s, element %lld: %.9g, the losses by themselves make %.9g", what, got->name[i], (long long)j,
                 got->at[i][j], want);
      largest = fmax(largest, fabs(want));
    }
    met++;
  }
  if (!met || largest < 1e-4) fail_msg("%s: nothing of '%s' to compare (largest gradient %g)", what, prefix, largest);
}

static void check(elbo_ctx *ctx, arena *a, const char *model, const char *objective) {
  lsgm_recipe recipe = lsgm_recipe_of(ctx, a, model, objective);
  const lsgm_objective *o = &recipe.objective;
  lsgm_spec s;
  process *p;
  elbo_store *store;
  assert_ok(ctx, lsgm_spec_try(ctx, a, &recipe, &s));
  assert_ok(ctx, process_create(ctx, &s.prior.model.process, "process", &p));
  assert_ok(ctx, lsgm_store_create(ctx, &s, test_seed(), &store));
  lsgm_shake(ctx, store, 0.2);
  elbo_array *x = pictures(ctx, B, &s.vae.shape, 3, true);
  const bool by_likelihood = o->weighting == SCORE_LIKELIHOOD;
  const double beta = 0.75;
  lsgm_training_graph t;
  assert_ok(ctx, lsgm_training_build(ctx, &s, o, p, B, &t));
  gradients got = differentiate(ctx, t.graph, t.loss, store, x, beta, by_likelihood), terms[4];
  for (int k = 0; k < 4; k++) {
    elbo_graph *g;
    assert_ok(ctx, elbo_graph_create(ctx, "plain", &g));
    terms[k] = differentiate(ctx, g, build_plain(g, &s, o, p, k), store, x, beta, by_likelihood);
    elbo_graph_destroy(&g);
  }
  compare(objective, &got, "encoder.", 4, terms, (double[]){1, -beta, beta, 0});
  compare(objective, &got, "decoder.", 4, terms, (double[]){1, -beta, beta, 0}); // of groups its priors place the codes
  compare(objective, &got, "denoiser.", 4, terms, (double[]){0, 0, 0, 1});
  for (int k = 0; k < 4; k++)
    for (int i = 0; i < terms[k].n; i++) free(terms[k].at[i]);
  for (int i = 0; i < got.n; i++) free(got.at[i]);
  elbo_graph_destroy(&t.graph);
  elbo_array_destroy(&x);
  elbo_store_destroy(&store);
  process_destroy(&p);
}

static void test_routing(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  check(ctx, a, LSGM_FLAT, "{}");
  check(ctx, a, LSGM_FLAT, "{weighting: unweighted}");
  check(ctx, a, LSGM_FLAT, "{weighting: reweighted, times: separate}");
  check(ctx, a, LSGM_FLAT, "{times: separate}"); // the likelihood weighting has one time for both
  check(ctx, a, "{" LSGM_VAE ", prior: {" LSGM_PROCESS ", mixing: none, " LSGM_MLP "}}", "{weighting: unweighted, times: separate}");
  check(ctx, a, "{" LSGM_VAE ", prior: {" LSGM_PROCESS ", mixing: dimension, " LSGM_MLP "}}", "{weighting: reweighted}");
  check(ctx, a, LSGM_GROUPS, "{weighting: unweighted}");
  check(ctx, a, LSGM_MAP, "{weighting: unweighted}");
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_routing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
