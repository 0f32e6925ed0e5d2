// Who is trained by what: the gradients of the training step's graphs against those of the plain losses, each differentiated by itself in
// double precision and put together as the paper says [Larsen16 algorithm 1].
#include "models/gan_cases.h"

enum { B = 5, MOST = 40 };

typedef struct gradients {
  int n;
  char name[MOST][64];
  double *at[MOST];
  int64_t count[MOST];
} gradients;

// Every trained parameter of a graph.
static int parameters_of(const elbo_graph *g, elbo_tensor **out, gradients *into) {
  int n = 0;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *leaf = g->nodes[i];
    if (leaf->op != &op_parameter || ((const parameter_attr *)leaf->attr)->kind != ELBO_PARAM_TRAINED) continue;
    assert_true(n < MOST);
    snprintf(into->name[n], sizeof into->name[0], "%s", leaf->name);
    into->count[n] = shape_count(&leaf->out[0]->shape);
    out[n++] = leaf->out[0];
  }
  into->n = n;
  return n;
}

typedef struct scalars {
  float beta, adversarial;
} scalars;

// Inputs that a batch, the seed and the schedule fill.
static void fill(elbo_ctx *ctx, elbo_plan *plan, const elbo_array *x, scalars s) {
  static const float weights[B] = {1, 1, 0, 1, 1}, one = 1; // the third is padding
  const struct {
    const char *name;
    const float *values;
    int64_t count;
  } inputs[] = {{"x", x->data, elbo_array_count(x)},
                {"weight", weights, B},
                {"beta", &s.beta, 1},
                {"adversarial", &s.adversarial, 1},
                {"temperature", &one, 1}};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
    if (elbo_plan_input(plan, inputs[i].name)) assert_ok(ctx, elbo_plan_set(plan, inputs[i].name, inputs[i].values, inputs[i].count));
  int64_t *index = elbo_plan_input(plan, "sample_index"), *seed = elbo_plan_input(plan, "seed");
  for (int i = 0; index && i < B; i++) index[i] = 100 + i;
  if (seed) *seed = 7;
}

// Gradients of `loss` to all parameters of its graph, zeros where it does not depend on them.
static gradients differentiate(elbo_ctx *ctx, elbo_graph *g, elbo_tensor *loss, elbo_store *store, const elbo_array *x, scalars s) {
  gradients out = {0};
  elbo_tensor *p[MOST], *dp[MOST], *outputs[MOST];
  int at[MOST], n = 0, count = parameters_of(g, p, &out);
  elbo_plan_config config;
  elbo_plan *plan;
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_gradient(loss, count, p, dp));
  for (int i = 0; i < count; i++) {
    out.at[i] = calloc((size_t)out.count[i], sizeof(double));
    if (dp[i]) outputs[n] = dp[i], at[n++] = i;
  }
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  assert_ok(ctx, elbo_plan_create(ctx, g, n, outputs, &config, &plan));
  fill(ctx, plan, x, s);
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int i = 0; i < n; i++) memcpy(out.at[at[i]], elbo_plan_output(plan, i), (size_t)out.count[at[i]] * sizeof(double));
  elbo_plan_destroy(&plan);
  return out;
}

static void free_gradients(gradients *g) {
  for (int i = 0; i < g->n; i++) free(g->at[i]);
}

static const double *find(const gradients *g, const char *name) {
  for (int i = 0; i < g->n; i++)
    if (strcmp(g->name[i], name) == 0) return g->at[i];
  return NULL;
}

// --- the plain losses, with everything connected to everything ---

typedef enum plain_loss { PLAIN_KL, PLAIN_RECONSTRUCTION, PLAIN_DECEIVING, PLAIN_DISCRIMINATOR } plain_loss;

static elbo_tensor *weighted(elbo_graph *g, elbo_tensor *each) {
  int64_t n = B;
  elbo_tensor *w = elbo_input(g, "weight", ELBO_F32, 1, &n);
  return elbo_scale(elbo_sum(elbo_mul(w, each), ELBO_ALL_AXES, 0), 0.25, 0); // four of the five count
}

static elbo_tensor *picture(elbo_tensor *output) { return elbo_sigmoid(output); } // the mean of the Bernoulli

// |d logit / d x|^2 of each example
static elbo_tensor *steepness(elbo_tensor *logit, elbo_tensor *x) {
  elbo_tensor *slope;
  if (elbo_gradient(elbo_sum(logit, ELBO_ALL_AXES, 0), 1, &x, &slope) != ELBO_OK) return NULL;
  return elbo_sum_per_example(elbo_mul(slope, slope));
}

// r1 / 2 |grad D(x)|^2 of what is real [Mescheder18 eq. 9], and lambda (|grad D| - 1)^2 between it and the i-th of n fakes.
static elbo_tensor *with_penalties(elbo_graph *g, const vae_gan_objective *o, const discriminator *d, elbo_tensor *sum, elbo_tensor *real,
                                   elbo_tensor *fake, int i, int n) {
  static const char *const draw[] = {"between", "between.1"};
  if (i == 0 && o->r1 > 0)
    sum = elbo_add(sum, elbo_scale(weighted(g, steepness(discriminator_apply(d, real).logit, real)), 0.5 * o->r1, 0));
  if (o->loss != GAN_WASSERSTEIN) return sum;
  elbo_tensor *u = elbo_random_uniform(g, draw[i], 4, (int64_t[]){B, 1, 1, 1});
  fake = elbo_stop_gradient(fake);
  elbo_tensor *at = elbo_add(elbo_mul(u, real), elbo_mul(elbo_scale(u, -1, 1), fake));
  elbo_tensor *off = elbo_scale(elbo_sqrt(elbo_scale(steepness(discriminator_apply(d, at).logit, at), 1, 1e-12)), 1, -1);
  return elbo_add(sum, elbo_scale(weighted(g, elbo_mul(off, off)), o->gradient_penalty / n, 0));
}

static elbo_tensor *build_plain(elbo_graph *g, const vae_gan_spec *s, plain_loss which) {
  const vae_gan_objective *o = &s->objective;
  latent_request request = {.spec = &s->vae, .graph = g, .batch = B, .samples = 1, .mode = LATENT_POSTERIOR, .training = true};
  vae_latents z = vae_latent_pass(&request);
  if (which == PLAIN_KL) return weighted(g, z.kl);
  elbo_tensor *x = vae_input_x(&s->vae, g, B), *made = picture(z.output), *sample = NULL, *real = x;
  bool code = o->adversary == ADVERSARY_CODE;
  if (which == PLAIN_RECONSTRUCTION && o->reconstruction == RECONSTRUCTION_PIXELS) {
    elbo_tensor *l = z.output; // -log of a Bernoulli with logit l: softplus(l) - x l
    return weighted(g, elbo_sum_per_example(elbo_sub(elbo_softplus(l), elbo_mul(x, l))));
  }
  picture_shape looks_at = vae_gan_adversary_shape(s);
  discriminator d = discriminator_create(&s->discriminator, g, &looks_at, true);
  if (which == PLAIN_RECONSTRUCTION) {
    int layer = o->layer ? (int)o->layer - 1 : discriminator_layer_count(&s->discriminator) - 1;
    elbo_tensor *difference = elbo_sub(discriminator_apply(&d, made).feature[layer], discriminator_apply(&d, x).feature[layer]);
    return weighted(g, elbo_scale(elbo_sum_per_example(elbo_mul(difference, difference)), 0.5, 0));
  }
  if (code) {
    made = z.z, real = elbo_random_normal(g, "prior", 2, (int64_t[]){B, s->vae.model.latent.dim});
  } else {
    request.mode = LATENT_PRIOR;
    sample = picture(vae_latent_pass(&request).output);
  }
  elbo_tensor *fake[2] = {o->fakes == FAKES_SAMPLES && !code ? NULL : made, o->fakes == FAKES_RECONSTRUCTIONS || code ? NULL : sample};
  elbo_tensor *sum = which == PLAIN_DISCRIMINATOR ? weighted(g, gan_real_loss(o->loss, discriminator_apply(&d, real).logit)) : NULL;
  double share = fake[0] && fake[1] ? 0.5 : 1;
  for (int i = 0, seen = 0; i < 2; i++) {
    if (!fake[i]) continue;
    if (which == PLAIN_DISCRIMINATOR) sum = with_penalties(g, o, &d, sum, real, fake[i], seen++, fake[0] && fake[1] ? 2 : 1);
    elbo_tensor *logit = discriminator_apply(&d, fake[i]).logit;
    elbo_tensor *each = which == PLAIN_DISCRIMINATOR ? gan_fake_loss(o->loss, logit) : gan_generator_loss(o->loss, logit);
    each = elbo_scale(weighted(g, each), share, 0);
    sum = sum ? elbo_add(sum, each) : each;
  }
  return sum;
}

static gradients plain(elbo_ctx *ctx, const vae_gan_spec *s, plain_loss which, elbo_store *store, const elbo_array *x) {
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "plain", &g));
  gradients out = differentiate(ctx, g, build_plain(g, s, which), store, x, (scalars){1, 1});
  elbo_graph_destroy(&g);
  return out;
}

static gradients of_part(elbo_ctx *ctx, const vae_gan_spec *s, gan_part part, elbo_store *store, const elbo_array *x, scalars at) {
  vae_gan_graph g;
  assert_ok(ctx, vae_gan_graph_build(ctx, s, part, B, &g));
  gradients out = differentiate(ctx, g.graph, g.loss, store, x, at);
  elbo_graph_destroy(&g.graph);
  return out;
}

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static void compare(const char *what, const gradients *got, const char *prefix, const gradients *terms[3], const double weight[3]) {
  double largest = 0;
  int met = 0;
  for (int i = 0; i < got->n; i++) {
    if (!begins(got->name[i], prefix)) continue;
    const double *term[3];
    for (int k = 0; k < 3; k++) term[k] = terms[k] ? find(terms[k], got->name[i]) : NULL;
    for (int64_t j = 0; j < got->count[i]; j++) {
      double want = 0;
      for (int k = 0; k < 3; k++) want += term[k] ? weight[k] * term[k][j] : 0;
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
  vae_gan_spec s = gan_spec(ctx, a, model, objective);
  const vae_gan_objective *o = &s.objective;
  elbo_graph *graphs[2];
  elbo_store *store;
  vae_gan_graph all[2];
  for (int i = 0; i < 2; i++) {
    assert_ok(ctx, vae_gan_graph_build(ctx, &s, i ? GAN_DISCRIMINATOR : GAN_AUTOENCODER, B, &all[i]));
    graphs[i] = all[i].graph;
  }
  assert_ok(ctx, elbo_store_create(ctx, 2, graphs, test_seed(), &store));
  elbo_array *x = pictures(ctx, B, &s.vae.shape, 3, false);
  bool split = o->routing == ROUTING_SPLIT && o->adversary == ADVERSARY_PICTURES, rec = o->reconstruction != RECONSTRUCTION_NONE;
  scalars at = {0.7f, 1.3f};
  double beta = (double)at.beta, adversarial = (double)at.adversarial;
  gradients kl = plain(ctx, &s, PLAIN_KL, store, x), deceiving = plain(ctx, &s, PLAIN_DECEIVING, store, x),
            own = plain(ctx, &s, PLAIN_DISCRIMINATOR, store, x), reconstruction = {0};
  if (rec) reconstruction = plain(ctx, &s, PLAIN_RECONSTRUCTION, store, x);
  const gradients *terms[3] = {&kl, rec ? &reconstruction : NULL, &deceiving}, *discriminator_terms[3] = {&own, NULL, NULL};
  const double encoder[3] = {beta, split ? 1 : o->gamma, split ? 0 : adversarial}, decoder[3] = {0, o->gamma, adversarial},
               one[3] = {1, 0, 0};
  const char *const what = objective;
  gradients together = of_part(ctx, &s, GAN_AUTOENCODER, store, x, at), enc = of_part(ctx, &s, GAN_ENCODER, store, x, at),
            dec = of_part(ctx, &s, GAN_DECODER, store, x, at), dis = of_part(ctx, &s, GAN_DISCRIMINATOR, store, x, at);
  compare(what, &together, "encoder.", terms, encoder);
  compare(what, &together, "decoder.", terms, decoder);
  compare(what, &enc, "encoder.", terms, encoder); // a phase differentiates its own part alone
  compare(what, &dec, "decoder.", terms, decoder);
  compare(what, &dis, "discriminator.", discriminator_terms, one);
  for (int i = 0; i < together.n; i++) // the adversary is as it is for those it judges
    for (int64_t j = 0; begins(together.name[i], "discriminator.") && j < together.count[i]; j++) assert_true(together.at[i][j] == 0);
  for (int i = 0; i < dis.n; i++) // and they for it
    for (int64_t j = 0; !begins(dis.name[i], "discriminator.") && j < dis.count[i]; j++) assert_true(dis.at[i][j] == 0);
  free_gradients(&kl), free_gradients(&deceiving), free_gradients(&own), free_gradients(&reconstruction);
  free_gradients(&together), free_gradients(&enc), free_gradients(&dec), free_gradients(&dis);
  elbo_array_destroy(&x);
  elbo_store_destroy(&store);
  for (int i = 0; i < 2; i++) elbo_graph_destroy(&all[i].graph);
}

static void test_routing(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  // the paper's own: minimax, features, both kinds of fakes
  check(ctx, a, GAN_PICTURES, "{gamma: 0.3, loss: minimax}");
  check(ctx, a, GAN_PICTURES, "{gamma: 0.3, layer: 1, fakes: samples}");
  check(ctx, a, GAN_PICTURES, "{gamma: 2, loss: hinge, reconstruction: pixels, fakes: reconstructions}");
  check(ctx, a, GAN_PICTURES, "{gamma: 2, loss: least_squares, reconstruction: pixels, routing: sum}");
  check(ctx, a, GAN_PICTURES, "{gamma: 0.3, routing: sum, layer: 2}");
  check(ctx, a, GAN_PICTURES, "{reconstruction: none, routing: sum, fakes: both}");
  check(ctx, a, GAN_PICTURES, "{gamma: 0.3, r1: 3}");
  check(ctx, a, GAN_PICTURES, "{gamma: 0.3, loss: wgan_gp, gradient_penalty: 7}");
  check(ctx, a, GAN_PICTURES, "{reconstruction: pixels, loss: wgan_gp, gradient_penalty: 2, r1: 0.5, fakes: samples}");
  check(ctx, a, GAN_CODES, "{gamma: 0.5, adversary: code, reconstruction: pixels}");
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_routing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
