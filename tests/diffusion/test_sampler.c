// Samplers by name on every kind of process, what does not go together, configs as files, and what a sample may not depend on.
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diffusion/sampler.h"
#include "diffusion/schedule.h"

enum { ROWS = 300, SIZE = 4 };
static const double centre = 0.3, deviation = 0.5;

static elbo_ctx *ctx;
static arena *memory;

typedef struct gaussian_model {
  const process *process;
  int prediction;
  int64_t rows;
  bool learned;
  int64_t calls;
} gaussian_model;

// alpha and sigma from what the network is told, as models have to.
static process_point point_told(const process *p, double time) {
  double T = (double)process_steps(p);
  switch (process_kind(p)) {
  case PROCESS_DISCRETE: return process_at(p, (time + 1) / T);
  case PROCESS_EDM: return (process_point){.alpha = 1, .sigma = exp(4 * time)};
  case PROCESS_VE: return (process_point){.alpha = 1, .sigma = time};
  case PROCESS_FLOW: return (process_point){.alpha = 1 - time / 1000, .sigma = time / 1000};
  default: return process_at(p, time);
  }
}

static elbo_status gaussian(void *user, const double *x, double time, double *out) {
  gaussian_model *m = user;
  process_point at = point_told(m->process, time);
  double variance = at.alpha * at.alpha * deviation * deviation + at.sigma * at.sigma;
  double unscale = m->prediction == PREDICT_EDM ? sqrt(at.sigma * at.sigma + 0.25 * at.alpha * at.alpha) : 1;
  m->calls++;
  for (int64_t i = 0; i < m->rows * SIZE; i++) {
    double xi = x[i] * unscale, away = xi - at.alpha * centre;
    double epsilon = at.sigma * away / variance, x0 = centre + at.alpha * deviation * deviation * away / variance;
    double *to = m->learned ? out + i / SIZE * 2 * SIZE + i % SIZE : out + i;
    prediction_from_x0_epsilon(m->prediction, at.alpha, at.sigma, 0.5, 1, &x0, &epsilon, to);
    if (m->learned) to[SIZE] = 0.1;
  }
  return ELBO_OK;
}

static process_config process_of(const char *text) {
  process_config c;
  yaml_node *root;
  assert_ok(ctx, yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, memory, &process_table, root, "model.process", &c));
  return c;
}

static sampler_config solver_of(const char *text) {
  sampler_config c;
  yaml_node *root;
  assert_ok(ctx, yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, memory, &sampler_table, root, "sample", &c));
  return c;
}

static elbo_status choose(const char *process_text, int prediction, const char *solver_text, scheduler_config *out) {
  process_config p = process_of(process_text);
  sampler_config s = solver_of(solver_text);
  return scheduler_from_sampler(ctx, memory, &p, prediction, 0.5, &s, NULL, "r.yaml: sample", out);
}

static void fill_noise(double *x, int64_t n) {
  test_random r = {test_seed(), 0};
  for (int64_t i = 0; i < n; i++) x[i] = test_normal(&r);
}

// --- every name on every process ends in the data ---
static const struct {
  const char *process;
  int prediction;
  bool flow;
} settings[] = {
    {"{}", PREDICT_EPSILON, false},
    {"{betas: scaled_linear, beta_start: 0.00085, beta_end: 0.012}", PREDICT_V, false},
    {"{steps: 200, betas: sigmoid, beta_end: 0.08}", PREDICT_X0, false},
    {"{betas: cosine}", PREDICT_V, false},
    {"{type: linear, logsnr_min: -12, logsnr_max: 8}", PREDICT_V, false},
    {"{type: cosine, shift: 0.7, logsnr_min: -12, logsnr_max: 8}", PREDICT_X0, false},
    {"{type: sigmoid, logsnr_min: -12, logsnr_max: 8}", PREDICT_EPSILON, false},
    {"{type: edm, sigma_min: 0.01}", PREDICT_EDM, false},
    {"{type: ve, sigma_min: 0.01, sigma_max: 50}", PREDICT_SCORE, false},
    {"{type: flow}", PREDICT_FLOW, true},
    {"{type: flow}", PREDICT_X0, true},
    {"{type: flow}", PREDICT_EPSILON, true},
};

static bool lands_on_data(const char *text, int setting) {
  scheduler_config c;
  process_config config = process_of(settings[setting].process);
  process *p;
  static double x[ROWS * SIZE];
  int64_t index[ROWS], calls = 0, dry = 0;
  for (int64_t i = 0; i < ROWS; i++) index[i] = i;
  if (choose(settings[setting].process, settings[setting].prediction, text, &c) != ELBO_OK) {
    print_error("%s on %s: %s\n", text, settings[setting].process, elbo_ctx_message(ctx));
    return false;
  }
  assert_ok(ctx, process_create(ctx, &config, "model.process", &p));
  gaussian_model m = {.process = p, .prediction = settings[setting].prediction, .rows = ROWS, .learned = scheduler_learned_variance(&c)};
  sampler_request r = {.scheduler = &c,
                       .process = p,
                       .rows = ROWS,
                       .size = SIZE,
                       .steps = 40,
                       .seed = 5,
                       .sample_index = index,
                       .network = gaussian,
                       .user = &m};
  fill_noise(x, ROWS * SIZE);
  bool good = sampler_run(ctx, &r, x, &calls) == ELBO_OK && sampler_calls(ctx, &c, p, 40, &dry) == ELBO_OK;
  double mean = 0, square = 0;
  if (!good) print_error("%s on %s: %s\n", text, settings[setting].process, elbo_ctx_message(ctx));
  for (int i = 0; i < ROWS * SIZE; i++) mean += x[i] / (ROWS * SIZE), square += x[i] * x[i] / (ROWS * SIZE);
  double spread = sqrt(square - mean * mean);
  // 1,200 numbers: standard errors 0.014 and 0.010; first-order solvers in 40 steps are off by some hundredths
  if (good && !(fabs(mean - centre) < 0.07 && fabs(spread - deviation) < 0.1)) {
    print_error("%s on %s (class %d): mean %.3f deviation %.3f, not %.3f and %.3f\n", text, settings[setting].process, c.class_, mean,
                spread, centre, deviation);
    good = false;
  }
  if (good && (m.calls != calls || (dry != calls && dry != 0))) {
    print_error("%s on %s: %lld calls, %lld counted, %lld foretold\n", text, settings[setting].process, (long long)m.calls,
                (long long)calls, (long long)dry);
    good = false;
  }
  process_destroy(&p);
  return good;
}

static void test_names(void **state) {
  (void)state;
  char name[32], text[80];
  int bad = 0;
  for (int s = 0; s < (int)(sizeof settings / sizeof *settings); s++)
    for (int k = 0; k < SAMPLER_COUNT; k++) {
      bool flow_only = k == SAMPLER_FLOW_EULER || k == SAMPLER_FLOW_HEUN;
      config_enum_name(SAMPLER_NAMES, k, name, sizeof name);
      snprintf(text, sizeof text, "{sampler: %s%s}", name, k == SAMPLER_PC ? ", snr: 0.05" : "");
      if (!flow_only || settings[s].flow) bad += !lands_on_data(text, s);
    }
  assert_int_equal(bad, 0);
}

static void test_options(void **state) {
  (void)state;
  static const char *const texts[] = {"{sampler: ddpm, variance: learned_range}",
                                      "{sampler: ddim, eta: 1}",
                                      "{sampler: ddim, spacing: trailing}",
                                      "{sampler: ddim, spacing: logsnr}",
                                      "{sampler: euler, spacing: karras}",
                                      "{sampler: dpmpp_2m, spacing: leading}",
                                      "{sampler: dpmpp_2m, spacing: exponential, final: end}",
                                      "{sampler: unipc, order: 3, spacing: karras}",
                                      "{sampler: edm, s_churn: 10, s_noise: 1.003}",
                                      "{sampler: ddim, clip: static, clip_range: 5}",
                                      "{sampler: dpmpp_2m, clip: dynamic, clip_range: 4, clip_quantile: 1}",
                                      "{sampler: sa_solver, eta: 1}",
                                      "{sampler: sa_solver, eta: 0.5, order: 3}",
                                      "{sampler: lms, order: 2}",
                                      "{sampler: deis, order: 2}"};
  int bad = 0;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    for (int s = 0; s < 5; s += 4) bad += !lands_on_data(texts[i], s);
  bad += !lands_on_data("{sampler: dpmpp_2m, spacing: beta}", 0);
  bad += !lands_on_data("{sampler: euler, spacing: leading}", 9);
  bad += !lands_on_data("{sampler: ddim, spacing: linspace, t_end: 0.01}", 4);
  assert_int_equal(bad, 0);
}

// --- classes ---
static void test_classes(void **state) {
  (void)state;
  static const struct {
    const char *process, *solver;
    int prediction, class_;
  } cases[] = {
      {"{}", "{sampler: ddpm}", PREDICT_EPSILON, SCHEDULER_DDPM},
      {"{}", "{sampler: ddim, spacing: trailing, clip: static}", PREDICT_V, SCHEDULER_DDIM},
      {"{}", "{sampler: plms}", PREDICT_V, SCHEDULER_PNDM},
      {"{}", "{sampler: plms}", PREDICT_X0, SCHEDULER_OWN},
      {"{}", "{sampler: euler, spacing: karras}", PREDICT_EPSILON, SCHEDULER_EULER},
      {"{betas: sigmoid}", "{sampler: euler}", PREDICT_EPSILON, SCHEDULER_EULER}, // the betas as a table
      {"{}", "{sampler: euler, spacing: logsnr}", PREDICT_EPSILON, SCHEDULER_OWN},
      {"{}", "{sampler: heun, clip: dynamic}", PREDICT_EPSILON, SCHEDULER_OWN},
      {"{}", "{sampler: dpmpp_2m_sde}", PREDICT_V, SCHEDULER_DPM_MULTISTEP},
      {"{}", "{sampler: dpmpp_3m}", PREDICT_V, SCHEDULER_OWN},
      {"{}", "{sampler: dpmpp_2s}", PREDICT_V, SCHEDULER_DPM_SINGLESTEP},
      {"{}", "{sampler: unipc, order: 3}", PREDICT_V, SCHEDULER_UNIPC},
      {"{}", "{sampler: deis}", PREDICT_SCORE, SCHEDULER_OWN},
      {"{}", "{sampler: rk45}", PREDICT_V, SCHEDULER_OWN},
      {"{type: edm}", "{sampler: euler}", PREDICT_EDM, SCHEDULER_EDM_EULER},
      {"{type: edm}", "{sampler: dpmpp_2m}", PREDICT_EDM, SCHEDULER_EDM_DPM_MULTISTEP},
      {"{type: edm}", "{sampler: heun}", PREDICT_EDM, SCHEDULER_OWN},
      {"{type: flow, shift: 3}", "{sampler: flow_euler}", PREDICT_FLOW, SCHEDULER_FLOW_EULER},
      {"{type: flow}", "{sampler: heun}", PREDICT_FLOW, SCHEDULER_FLOW_HEUN},
      {"{type: cosine}", "{sampler: ddim}", PREDICT_V, SCHEDULER_OWN},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    scheduler_config c, back;
    process_config p = process_of(cases[i].process), again;
    assert_ok(ctx, choose(cases[i].process, cases[i].prediction, cases[i].solver, &c));
    if (c.class_ != cases[i].class_) fail_msg("%s on %s: class %d, not %d", cases[i].solver, cases[i].process, c.class_, cases[i].class_);
    assert_int_equal(c.prediction, cases[i].prediction);
    if (c.class_ == SCHEDULER_OWN) continue;
    scheduler_process(&c, &again); // and back to the process
    assert_int_equal(again.type, p.type);
    assert_true(again.shift == p.shift && again.rho == p.rho && again.sigma_max == p.sigma_max);
    text_buffer t = {0};
    assert_ok(ctx, scheduler_text(ctx, &c, &t));
    assert_ok(ctx, scheduler_parse(ctx, memory, "written", t.at, t.length, &back));
    assert_int_equal(back.class_, c.class_);
    free(t.at);
  }
  scheduler_config c;
  process_config p = process_of("{type: ve, sigma_max: 50}");
  assert_ok(ctx, scheduler_of_process(ctx, memory, &p, PREDICT_SCORE, 0.5, &c));
  assert_int_equal(c.class_, SCHEDULER_SCORE_SDE_VE);
  p = process_of("{steps: 300, betas: cosine}");
  assert_ok(ctx, scheduler_of_process(ctx, memory, &p, PREDICT_V, 0.5, &c));
  assert_true(c.class_ == SCHEDULER_DDPM && c.num_train_timesteps == 300 && c.beta_schedule == 2 && c.prediction_type == 2);
  p = process_of("{type: cosine}");
  assert_status(ctx, scheduler_of_process(ctx, memory, &p, PREDICT_V, 0.5, &c), ELBO_ERROR_UNSUPPORTED, "no scheduler");
}

// A sampler in the place of a directory's own keeps what both have.
static void test_take_over(void **state) {
  (void)state;
  static const char text[] =
      "{\"_class_name\": \"DDPMScheduler\", \"clip_sample\": false, \"timestep_spacing\": \"trailing\", \"steps_offset\": 1, "
      "\"beta_schedule\": \"scaled_linear\", \"prediction_type\": \"v_prediction\", \"num_train_timesteps\": 500}";
  scheduler_config base, c;
  process_config p;
  sampler_config s = solver_of("{sampler: dpmpp_2m, spacing: karras}");
  assert_ok(ctx, scheduler_parse(ctx, memory, "s.json", text, sizeof text - 1, &base));
  scheduler_process(&base, &p);
  assert_ok(ctx, scheduler_from_sampler(ctx, memory, &p, base.prediction, 0.5, &s, &base, "sample", &c));
  assert_true(c.class_ == SCHEDULER_DPM_MULTISTEP && c.timestep_spacing == 2 && c.steps_offset == 1 && c.beta_schedule == 1);
  assert_true(c.use_karras_sigmas && c.prediction == PREDICT_V && c.num_train_timesteps == 500 && c.solver_order == 2);
  s = solver_of("{sampler: deis}"); // of the class' own order
  assert_ok(ctx, scheduler_from_sampler(ctx, memory, &p, base.prediction, 0.5, &s, &base, "sample", &c));
  assert_true(c.class_ == SCHEDULER_DEIS && c.solver_order == 2);
  s = solver_of("{sampler: ddim}");
  assert_ok(ctx, scheduler_from_sampler(ctx, memory, &p, base.prediction, 0.5, &s, &base, "sample", &c));
  assert_true(c.class_ == SCHEDULER_DDIM && !c.clip_sample && c.timestep_spacing == 2);
  base.clip_sample = true;
  s = solver_of("{sampler: rk45}");
  assert_ok(ctx, scheduler_from_sampler(ctx, memory, &p, base.prediction, 0.5, &s, &base, "sample", &c));
  assert_true(c.class_ == SCHEDULER_OWN && c.own.clip == STEP_CLIP_STATIC && c.own.clip_range == 1);
}

// A network that predicts noise is not asked where its x0 would be of no use, at the top of cosine's betas; one that predicts v is, and so
// is one whose steps are asked for in time. Other betas end below that.
static void test_start(void **state) {
  (void)state;
  static const struct {
    const char *process, *sampler;
    int prediction;
    bool cut;
  } cases[] = {{"{betas: cosine}", "{sampler: dpmpp_2m}", PREDICT_EPSILON, true},
               {"{betas: cosine}", "{sampler: dpmpp_2m, spacing: karras}", PREDICT_EPSILON, true},
               {"{betas: cosine}", "{sampler: unipc}", PREDICT_EPSILON, true},
               {"{betas: cosine}", "{sampler: euler}", PREDICT_EPSILON, true},
               {"{betas: cosine}", "{sampler: dpmpp_2m, spacing: linspace}", PREDICT_EPSILON, false},
               {"{betas: cosine}", "{sampler: dpmpp_2m}", PREDICT_V, false},
               {"{betas: linear}", "{sampler: dpmpp_2m}", PREDICT_EPSILON, true}, // -5.06 by itself
               {"{type: cosine, logsnr_min: -15, logsnr_max: 13}", "{sampler: dpmpp_2m}", PREDICT_EPSILON, true},
               {"{type: cosine, logsnr_min: -15, logsnr_max: 13}", "{sampler: dpmpp_2m}", PREDICT_V, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    scheduler_config c;
    schedule s;
    process *p;
    process_config of = process_of(cases[i].process);
    assert_ok(ctx, process_create(ctx, &of, "model.process", &p));
    assert_ok(ctx, choose(cases[i].process, cases[i].prediction, cases[i].sampler, &c));
    assert_ok(ctx, schedule_make(ctx, &c, p, 10, &s));
    const double half = log(s.node[0].alpha / s.node[0].sigma);
    if ((half >= -5.11) != cases[i].cut || half > -4.9)
      fail_msg("%s, %s: begins at %g, half of the log-SNR", cases[i].process, cases[i].sampler, half);
    schedule_free(&s);
    process_destroy(&p);
  }
}

// Samplers that extrapolate epsilon begin where their class in diffusers does, clipped or not: below the top of cosine's betas.
static void test_start_of_pndm(void **state) {
  (void)state;
  static const char *const samplers[] = {"{sampler: pndm}", "{sampler: pndm, clip: static}", "{sampler: plms}",
                                         "{sampler: plms, clip: static}"};
  const process_config of = process_of("{betas: cosine}");
  process *p;
  assert_ok(ctx, process_create(ctx, &of, "model.process", &p));
  for (int i = 0; i < 4; i++) {
    scheduler_config c;
    schedule s;
    assert_ok(ctx, choose("{betas: cosine}", PREDICT_V, samplers[i], &c));
    assert_ok(ctx, schedule_make(ctx, &c, p, 10, &s));
    const double half = log(s.node[0].alpha / s.node[0].sigma);
    if (half < -2.1 || half > -1.8) fail_msg("%s: begins at %g, half of the log-SNR", samplers[i], half);
    schedule_free(&s);
  }
  process_destroy(&p);
}

// --- files ---
static void test_files(void **state) {
  (void)state;
  for (int class_ = SCHEDULER_OWN + 1; class_ < SCHEDULER_CLASS_COUNT; class_++) {
    scheduler_config c, back;
    text_buffer a = {0}, b = {0};
    assert_ok(ctx, scheduler_defaults(ctx, memory, class_, &c));
    assert_ok(ctx, scheduler_text(ctx, &c, &a));
    assert_ok(ctx, scheduler_write(ctx, &c, test_path("scheduler_config.json")));
    assert_ok(ctx, scheduler_read(ctx, memory, test_path("scheduler_config.json"), &back));
    assert_ok(ctx, scheduler_text(ctx, &back, &b));
    assert_string_equal(a.at, b.at);
    assert_int_equal(back.class_, class_);
    assert_non_null(strstr(a.at, scheduler_class_name(class_)));
    free(a.at);
    free(b.at);
  }
  scheduler_config c;
  static const char full[] =
      "{\"_class_name\": \"UniPCMultistepScheduler\", \"_diffusers_version\": \"0.30.0\", \"disable_corrector\": [0, 2], "
      "\"trained_betas\": [0.1, 0.2], \"num_train_timesteps\": 2, \"sigma_min\": 0.5, \"sigma_max\": null, \"solver_p\": null}";
  assert_ok(ctx, scheduler_parse(ctx, memory, "s.json", full, sizeof full - 1, &c));
  assert_true(c.disable_corrector.count == 2 && c.disable_corrector.at[1] == 2 && c.trained_betas.count == 2 && c.sigma_min == 0.5 &&
              c.sigma_max == 0);
  // Stable Diffusion's PNDM file: keys of other classes are ignored, as diffusers does
  static const char sd[] =
      "{\"_class_name\": \"PNDMScheduler\", \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, "
      "\"clip_sample\": false, \"num_train_timesteps\": 1000, \"set_alpha_to_one\": false, \"skip_prk_steps\": true, \"steps_offset\": 1, "
      "\"trained_betas\": null}";
  assert_ok(ctx, scheduler_parse(ctx, memory, "s.json", sd, sizeof sd - 1, &c));
  assert_true(c.class_ == SCHEDULER_PNDM && c.skip_prk_steps && c.steps_offset == 1);
  static const char infinite[] = "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"lambda_min_clipped\": -Infinity}";
  assert_ok(ctx, scheduler_parse(ctx, memory, "s.json", infinite, sizeof infinite - 1, &c));
  assert_true(c.lambda_min_clipped == -INFINITY);
}

static void refuse(const char *json, const char *part) {
  scheduler_config c;
  elbo_status status = scheduler_parse(ctx, memory, "s.json", json, strlen(json), &c);
  if (status == ELBO_OK) fail_msg("accepted: %s", json);
  if (!strstr(elbo_ctx_message(ctx), part) || !strstr(elbo_ctx_message(ctx), "s.json"))
    fail_msg("%s: '%s', without '%s'", json, elbo_ctx_message(ctx), part);
}

static void test_bad_files(void **state) {
  (void)state;
#define CLASS(NAME) "{\"_class_name\": \"" NAME "Scheduler\", "
  refuse("{\"_class_name\": \"VQDiffusionScheduler\"}",
         "'VQDiffusionScheduler' is not a known scheduler; the known ones: DDPMScheduler, DDIMScheduler");
  refuse("{\"_class_name\": \"CMStochasticIterativeScheduler\"}", "TCDScheduler");
  refuse("{\"_class_name\": \"LCMScheduler\", \"num_train_timesteps\": 40}", "original_inference_steps: 50; num_train_timesteps says 40");
  refuse("{\"beta_start\": 0.1}", "_class_name: missing");
  refuse("{\"_class_name\": 7}", "_class_name: missing");
  refuse("[1]", "not a JSON object");
  refuse("{", "not valid JSON");
  refuse("", "not valid JSON");
  refuse(CLASS("DDPM") "\"beta_start\": NaN}", "not valid JSON");
  refuse(CLASS("DDPM") "\"beta_strat\": 0.1}", "beta_strat: unknown key; did you mean 'beta_start'?");
  refuse(CLASS("DDPM") "\"wobble\": 0.1}", "wobble: unknown key");
  refuse(CLASS("DDPM") "\"beta_schedule\": \"cosine\"}", "beta_schedule");
  refuse(CLASS("DDIM") "\"beta_schedule\": \"sigmoid\"}", "beta_schedule");
  refuse(CLASS("Heun"
               "Discrete") "\"beta_schedule\": \"laplace\"}",
         "beta_schedule");
  refuse(CLASS("DDPM") "\"beta_end\": 1.5}", "beta_end: 1.5; a beta lies strictly between 0 and 1");
  refuse(CLASS("DDPM") "\"beta_start\": 0}", "beta_start: 0");
  refuse(CLASS("DDPM") "\"beta_start\": 0.05}", "beta_start: larger than beta_end");
  refuse(CLASS("DDPM") "\"trained_betas\": [0.1, -0.2], \"num_train_timesteps\": 2}", "trained_betas[1]: -0.2");
  refuse(CLASS("DDPM") "\"trained_betas\": [0.1, 0.2]}", "trained_betas: 2 numbers; num_train_timesteps says 1000");
  refuse(CLASS("DDPM") "\"clip_sample\": \"yes\"}", "clip_sample");
  refuse(CLASS("DDPM") "\"clip_sample\": null}", "clip_sample: has no value");
  refuse(CLASS("DDPM") "\"num_train_timesteps\": 0}", "num_train_timesteps");
  refuse(CLASS("DDPM") "\"num_train_timesteps\": 10.5}", "num_train_timesteps");
  refuse(CLASS("DDPM") "\"prediction_type\": \"flow_prediction\"}", "prediction_type");
  refuse(CLASS("DDPM") "\"prediction_type\": {\"a\": 1}}", "prediction_type");
  refuse(CLASS("EulerDiscrete") "\"use_karras_sigmas\": true, \"use_beta_sigmas\": true}", "use_karras_sigmas: only one");
  refuse(CLASS("EulerDiscrete") "\"sigma_min\": 3, \"sigma_max\": 2}", "sigma_min: not below sigma_max");
  refuse(CLASS("FlowMatchEulerDiscrete") "\"use_dynamic_shifting\": true}", "use_dynamic_shifting");
  refuse(CLASS("DPMSolverMultistep") "\"algorithm_type\": \"dpmsolver\"}", "final_sigmas_type");
  refuse(CLASS("DPMSolverMultistep") "\"prediction_type\": \"flow_prediction\"}", "needs use_flow_sigmas");
  refuse(CLASS("DPMSolverMultistep") "\"use_flow_sigmas\": true, \"use_beta_sigmas\": true}",
         "use_flow_sigmas: does not go with use_beta_sigmas");
  refuse(CLASS("DPMSolverMultistep") "\"solver_order\": 3, \"algorithm_type\": \"sde-dpmsolver\", \"final_sigmas_type\": \"sigma_min\"}",
         "solver_order");
  refuse(CLASS("DPMSolverMultistep") "\"solver_order\": 4}", "solver_order");
  refuse(CLASS("DPMSolverSDE") "\"noise_sampler_seed\": 3}", "noise_sampler_seed");
  refuse(CLASS("UniPCMultistep") "\"solver_p\": \"x\"}", "solver_p");
  refuse(CLASS("UniPCMultistep") "\"predict_x0\": false}", "final_sigmas_type");
  refuse(CLASS("DDIMInverse") "\"timestep_spacing\": \"linspace\"}", "timestep_spacing");
  refuse(CLASS("EDMEuler") "\"sigma_min\": 100}", "sigma_min: not below sigma_max");
  scheduler_config own = {0};
  assert_status(ctx, scheduler_write(ctx, &own, test_path("x.json")), ELBO_ERROR_UNSUPPORTED, "no scheduler class");
}

// --- runs that cannot be ---
static elbo_status run_file(const char *json, int steps) {
  scheduler_config c;
  process_config config;
  process *p;
  double x[2 * SIZE];
  int64_t index[2] = {0, 1};
  assert_ok(ctx, scheduler_parse(ctx, memory, "s.json", json, strlen(json), &c));
  scheduler_process(&c, &config);
  assert_ok(ctx, process_create(ctx, &config, "s.json", &p));
  gaussian_model m = {.process = p, .prediction = c.prediction, .rows = 2};
  sampler_request r = {
      .scheduler = &c, .process = p, .rows = 2, .size = SIZE, .steps = steps, .sample_index = index, .network = gaussian, .user = &m};
  fill_noise(x, 2 * SIZE);
  elbo_status status = sampler_run(ctx, &r, x, NULL);
  process_destroy(&p);
  return status;
}

static elbo_status run_solver(const char *process_text, int prediction, const char *solver, int steps) {
  scheduler_config c;
  process_config config = process_of(process_text);
  process *p;
  double x[2 * SIZE];
  int64_t index[2] = {0, 1};
  TRY(choose(process_text, prediction, solver, &c));
  assert_ok(ctx, process_create(ctx, &config, "model.process", &p));
  gaussian_model m = {.process = p, .prediction = prediction, .rows = 2};
  sampler_request r = {
      .scheduler = &c, .process = p, .rows = 2, .size = SIZE, .steps = steps, .sample_index = index, .network = gaussian, .user = &m};
  fill_noise(x, 2 * SIZE);
  elbo_status status = sampler_run(ctx, &r, x, NULL);
  process_destroy(&p);
  return status;
}

static void test_bad_runs(void **state) {
  (void)state;
#define BAD_FILE(JSON, STEPS, PART) assert_status(ctx, run_file(JSON, STEPS), ELBO_ERROR_ARGUMENT, PART)
#define BAD_SOLVER(P, PREDICTION, SOLVER, STEPS, PART) \
  assert_status(ctx, run_solver(P, PREDICTION, SOLVER, STEPS), ELBO_ERROR_ARGUMENT, PART)
  BAD_FILE(CLASS("DDIM") "\"steps_offset\": 0}", 1001, "steps: 1001; the schedule has 1000 timesteps");
  BAD_FILE(CLASS("DDIM") "\"steps_offset\": 0}", -1, "steps: -1");
  BAD_FILE(CLASS("FlowMatchEulerDiscrete") "\"num_train_timesteps\": 10}", 11, "steps: 11");
  BAD_FILE(CLASS("PNDM") "\"skip_prk_steps\": false}", 3, "needs at least 4");
  BAD_FILE(CLASS("DDIM") "\"steps_offset\": 5}", 1000, "timestep 1004");
  BAD_FILE(CLASS("DDIM") "\"rescale_betas_zero_snr\": true, \"timestep_spacing\": \"trailing\", \"clip_sample\": false}", 10,
           "zero terminal SNR");
  BAD_FILE(CLASS("IPNDM") "\"trained_betas\": [1, 0.5, 0]}", 5, "trained_betas");
  BAD_FILE(CLASS("DPMSolverMultistep") "\"lambda_min_clipped\": 50}", 5, "lambda_min_clipped");
  BAD_FILE(CLASS("LCM") "\"timestep_scaling\": 10}", 51, "chooses among 50 (original_inference_steps)");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: flow_euler}", 5, "flow_euler steps straight in sigma and needs a flow");
  BAD_SOLVER("{type: edm}", PREDICT_EDM, "{sampler: flow_heun}", 5, "needs a flow");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: euler, steps: 2000}", 0, "sample.steps: 2000; the process has 1000");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: rk45, t_end: 0.5}", 0, "sample.t_end");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: euler, spacing: timesteps}", 0, "sample.table");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: euler, table: [3, 2]}", 0, "sample.table");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: euler, spacing: timesteps, table: [3, 3]}", 0, "table[1]: 3");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: euler, spacing: timesteps, table: [1000, 3]}", 0, "table[0]: 1000");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: euler, spacing: sigmas, table: [3, 0, 0]}", 0, "table[1]: 0");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: dpm_solver_2, spacing: sigmas, table: [3, 1, 0]}", 0, "cannot step");
  BAD_SOLVER("{}", PREDICT_EPSILON, "{sampler: euler, spacing: sigmas, table: [3, 1, 0]}", 5, "steps: 5; the table makes 2");
  BAD_SOLVER("{type: linear}", PREDICT_V, "{sampler: dpm_solver_2, final: zero}", 5, "final");
  BAD_SOLVER("{type: linear}", PREDICT_V, "{sampler: pndm}", 3, "at least 4");
  assert_ok(ctx, run_solver("{}", PREDICT_EPSILON, "{sampler: euler, spacing: sigmas, table: [3, 1, 0.1, 0]}", 0));
  assert_ok(ctx, run_solver("{}", PREDICT_EPSILON, "{sampler: ddim, spacing: timesteps, table: [900, 400, 10]}", 0));
  assert_ok(ctx, run_solver("{type: linear}", PREDICT_V, "{sampler: dpm_solver_2, spacing: timesteps, table: [1, 0.5, 0.1]}", 0));
  for (int steps = 1; steps <= 6; steps++) assert_ok(ctx, run_file(CLASS("DPMSolverSinglestep") "\"solver_order\": 3}", steps));
}

// --- what a sample may not depend on ---
static void run_rows(scheduler_config *c, const process *p, int prediction, int64_t first, int64_t rows, double *x) {
  int64_t index[8];
  gaussian_model m = {.process = p, .prediction = prediction, .rows = rows};
  sampler_request r = {.scheduler = c,
                       .process = p,
                       .rows = rows,
                       .size = SIZE,
                       .steps = 8,
                       .seed = 77,
                       .sample_index = index,
                       .network = gaussian,
                       .user = &m};
  double all[8 * SIZE];
  fill_noise(all, 8 * SIZE);
  for (int64_t i = 0; i < rows; i++) index[i] = 1000 + first + i;
  memcpy(x, all + first * SIZE, (size_t)rows * SIZE * sizeof *x);
  assert_ok(ctx, sampler_run(ctx, &r, x, NULL));
}

static void test_company(void **state) {
  (void)state;
  static const char *const names[] = {"ddpm", "ddim, eta: 0.7", "euler_a",          "dpmpp_sde",          "sa_solver, eta: 1",
                                      "pc",   "dpmpp_2m_sde",   "edm, s_churn: 20", "ddim, clip: dynamic"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    scheduler_config c;
    process_config config = process_of("{type: linear}");
    process *p;
    char text[64];
    double all[8 * SIZE], part[3 * SIZE], other[8 * SIZE];
    snprintf(text, sizeof text, "{sampler: %s}", names[i]);
    assert_ok(ctx, choose("{type: linear}", PREDICT_V, text, &c));
    assert_ok(ctx, process_create(ctx, &config, "model.process", &p));
    run_rows(&c, p, PREDICT_V, 0, 8, all);
    run_rows(&c, p, PREDICT_V, 4, 3, part);
    assert_memory_equal(all + 4 * SIZE, part, sizeof part);
    run_rows(&c, p, PREDICT_V, 0, 8, other);
    assert_memory_equal(all, other, sizeof all);
    process_destroy(&p);
  }
}

static int stop_at_three(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)what;
  (void)text;
  *(int64_t *)user = total;
  return done < 3;
}

static void test_stop(void **state) {
  (void)state;
  scheduler_config c;
  process_config config = process_of("{}");
  process *p;
  double x[SIZE] = {1, 2, 3, 4};
  int64_t index = 0, total = 0, calls;
  assert_ok(ctx, choose("{}", PREDICT_EPSILON, "{sampler: ddim}", &c));
  assert_ok(ctx, process_create(ctx, &config, "model.process", &p));
  gaussian_model m = {.process = p, .prediction = PREDICT_EPSILON, .rows = 1};
  sampler_request r = {.scheduler = &c,
                       .process = p,
                       .rows = 1,
                       .size = SIZE,
                       .steps = 10,
                       .sample_index = &index,
                       .network = gaussian,
                       .user = &m,
                       .progress = stop_at_three,
                       .progress_user = &total};
  assert_status(ctx, sampler_run(ctx, &r, x, &calls), ELBO_ERROR_STOPPED, "stopped after step 3 of 10");
  assert_true(calls == 3 && total == 10);
  r.rows = 0;
  assert_status(ctx, sampler_run(ctx, &r, x, &calls), ELBO_ERROR_ARGUMENT, "at least one state");
  r.rows = INT64_MAX / 4;
  assert_status(ctx, sampler_run(ctx, &r, x, &calls), ELBO_ERROR_ARGUMENT, "too many");
  x[2] = NAN;
  r = (sampler_request){
      .scheduler = &c, .process = p, .rows = 1, .size = SIZE, .steps = 10, .sample_index = &index, .network = gaussian, .user = &m};
  assert_status(ctx, sampler_run(ctx, &r, x, &calls), ELBO_ERROR_NUMERIC, "sample 0 is not finite");
  process_destroy(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_names),     cmocka_unit_test(test_options),   cmocka_unit_test(test_classes),
      cmocka_unit_test(test_take_over), cmocka_unit_test(test_start),     cmocka_unit_test(test_start_of_pndm),
      cmocka_unit_test(test_files),     cmocka_unit_test(test_bad_files), cmocka_unit_test(test_bad_runs),
      cmocka_unit_test(test_company),   cmocka_unit_test(test_stop),
  };
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return failed;
}
