// Samplers by their short names: the keys of a recipe's `sample.solver`, and the diffusers class that does the same where there is one.
#include <string.h>

#include "diffusion/betas.h"
#include "diffusion/scheduler_table.h"

static const config_field sampler_fields[] = {
#include "diffusion/sampler_fields.def"
};
const config_table sampler_table = CONFIG_TABLE("sampler", sampler_config, sampler_fields, "how samples are drawn");

static const char *name_of(int sampler, char name[32]) { return config_enum_name(SAMPLER_NAMES, sampler, name, 32); }

// --- the class of a sampler on a discrete process ---
static int discrete_class_of(const sampler_config *s) {
  switch ((sampler_kind)s->sampler) {
  case SAMPLER_DDPM: return SCHEDULER_DDPM;
  case SAMPLER_DDIM: return SCHEDULER_DDIM;
  case SAMPLER_PNDM:
  case SAMPLER_PLMS: return SCHEDULER_PNDM;
  case SAMPLER_EULER: return SCHEDULER_EULER;
  case SAMPLER_EULER_A: return SCHEDULER_EULER_ANCESTRAL;
  case SAMPLER_HEUN: return SCHEDULER_HEUN;
  case SAMPLER_DPM2: return SCHEDULER_KDPM2;
  case SAMPLER_DPM2_A: return SCHEDULER_KDPM2_ANCESTRAL;
  case SAMPLER_LMS: return s->order == 0 || s->order == 4 ? SCHEDULER_LMS : SCHEDULER_OWN;
  case SAMPLER_DPMPP_2S: return SCHEDULER_DPM_SINGLESTEP;
  case SAMPLER_DPMPP_2M:
  case SAMPLER_DPMPP_2M_SDE: return SCHEDULER_DPM_MULTISTEP;
  case SAMPLER_DPMPP_SDE: return SCHEDULER_DPM_SDE;
  case SAMPLER_UNIPC: return SCHEDULER_UNIPC;
  case SAMPLER_DEIS: return s->order <= 3 ? SCHEDULER_DEIS : SCHEDULER_OWN;
  case SAMPLER_SA_SOLVER: return SCHEDULER_SA_SOLVER;
  default:
    return SCHEDULER_OWN; // 3M: diffusers' third order is not one (sampler_dpm.c); DPM-Solver-2 and -3: its groups have no inner stages
  }
}

static int class_of(const process_config *of, int prediction, const sampler_config *s) {
  bool spaced = s->spacing >= SPACING_LINSPACE && s->spacing <= SPACING_TRAILING;
  if (s->spacing == SPACING_LOGSNR || s->spacing >= SPACING_TIMESTEPS || s->t_end > 0) return SCHEDULER_OWN;
  if (of->type == PROCESS_FLOW && prediction == PREDICT_FLOW && !spaced && s->clip <= STEP_CLIP_NONE && s->final != FINAL_END) {
    if (s->sampler == SAMPLER_FLOW_EULER || s->sampler == SAMPLER_EULER) return SCHEDULER_FLOW_EULER;
    if ((s->sampler == SAMPLER_FLOW_HEUN || s->sampler == SAMPLER_HEUN) && s->spacing == SPACING_AUTO) return SCHEDULER_FLOW_HEUN;
    return SCHEDULER_OWN;
  }
  if (of->type == PROCESS_EDM && prediction == PREDICT_EDM && !spaced && s->spacing != SPACING_BETA && s->final != FINAL_END) {
    if (s->sampler == SAMPLER_EULER && s->clip <= STEP_CLIP_NONE) return SCHEDULER_EDM_EULER;
    if ((s->sampler == SAMPLER_DPMPP_2M || s->sampler == SAMPLER_DPMPP_2M_SDE) && s->clip != STEP_CLIP_STATIC)
      return SCHEDULER_EDM_DPM_MULTISTEP;
    return SCHEDULER_OWN;
  }
  if (of->type != PROCESS_DISCRETE || prediction > PREDICT_V) return SCHEDULER_OWN;
  return discrete_class_of(s);
}

// Sets a key if the class has it; true when it has.
static bool set_bool(scheduler_config *c, const char *name, bool value) {
  const config_field *f = scheduler_class_field(c->class_, name);
  if (f) *(bool *)(void *)((char *)c + f->offset) = value;
  return f != NULL;
}
static bool set_int(scheduler_config *c, const char *name, int value) {
  const config_field *f = scheduler_class_field(c->class_, name);
  if (f) *(int *)(void *)((char *)c + f->offset) = value;
  return f != NULL;
}

// The betas in the class' own words, or as a table where it has none for them; a table longer than a config can have is refused.
static elbo_status set_process(elbo_ctx *ctx, arena *a, const process_config *p, const char *where, scheduler_config *c) {
  c->num_train_timesteps = p->steps;
  c->beta_start = p->beta_start;
  c->beta_end = p->beta_end;
  c->trained_betas = (config_floats){0};
  bool zero_snr_key = set_bool(c, "rescale_betas_zero_snr", p->zero_snr), schedule_key = p->betas <= BETAS_COSINE;
  schedule_key =
      schedule_key || (c->class_ == SCHEDULER_DDPM && p->betas <= BETAS_LAPLACE) || (c->class_ == SCHEDULER_HEUN && p->betas == BETAS_EXP);
  if (schedule_key && (zero_snr_key || !p->zero_snr)) {
    c->beta_schedule = p->betas;
    return ELBO_OK;
  }
  if (p->betas == BETAS_TABLE && (zero_snr_key || !p->zero_snr)) {
    c->trained_betas = p->table;
    return ELBO_OK;
  }
  double *betas = arena_alloc(a, (size_t)p->steps * sizeof *betas);
  process_config plain = *p;
  if (zero_snr_key) plain.zero_snr = false;
  if (!betas) return fail_memory(ctx, (size_t)p->steps * sizeof *betas, "betas");
  TRY(betas_fill(ctx, &plain, where, betas));
  c->trained_betas = (config_floats){p->steps, betas};
  return ELBO_OK;
}

// Keys that both classes have are taken over, as diffusers' from_config does; names of enums are matched as text.
static void take_over(const scheduler_config *base, scheduler_config *c) {
  const config_table *table = scheduler_class_table(base->class_);
  for (int i = 0; i < table->n_fields; i++) {
    const config_field *from = &table->fields[i], *to = scheduler_class_field(c->class_, from->name);
    const char *source = (const char *)base + from->offset;
    char *target = (char *)c + from->offset, wanted[64], name[64];
    if (!to) continue;
    switch (from->type) {
    case CONFIG_TYPE_INT: memcpy(target, source, sizeof(int64_t)); break;
    case CONFIG_TYPE_FLOAT: memcpy(target, source, sizeof(double)); break;
    case CONFIG_TYPE_BOOL: memcpy(target, source, sizeof(bool)); break;
    case CONFIG_TYPE_INT_LIST: memcpy(target, source, sizeof(config_ints)); break;
    case CONFIG_TYPE_FLOAT_LIST: memcpy(target, source, sizeof(config_floats)); break;
    case CONFIG_TYPE_ENUM:
      config_enum_name(from->names, *(const int *)(const void *)source, wanted, sizeof wanted);
      for (int v = 0; config_enum_name(to->names, v, name, sizeof name); v++)
        if (strcmp(name, wanted) == 0) *(int *)(void *)target = v;
      break;
    default: break;
    }
  }
}

// What the sampler's own keys say; false: the class has no word for it.
static bool set_options(const sampler_config *s, scheduler_config *c, bool has_base) {
  bool said = true, dynamic = s->clip == STEP_CLIP_DYNAMIC, fixed = s->clip == STEP_CLIP_STATIC;
  if (s->spacing >= SPACING_LINSPACE && s->spacing <= SPACING_TRAILING) {
    said = said && set_int(c, "timestep_spacing", s->spacing - SPACING_LINSPACE);
  } else if (s->spacing != SPACING_AUTO && scheduler_class_field(c->class_, "sigma_schedule")) {
    set_int(c, "sigma_schedule", s->spacing == SPACING_EXPONENTIAL);
    said = said && s->spacing != SPACING_BETA;
  } else if (s->spacing != SPACING_AUTO) {
    said = said && set_bool(c, "use_karras_sigmas", s->spacing == SPACING_KARRAS);
    said = said && set_bool(c, "use_exponential_sigmas", s->spacing == SPACING_EXPONENTIAL);
    said = said && set_bool(c, "use_beta_sigmas", s->spacing == SPACING_BETA);
    set_bool(c, "use_lu_lambdas", false);
  }
  if (s->clip != STEP_CLIP_AUTO || !has_base) {
    said = (set_bool(c, "clip_sample", fixed) || !fixed) && said;
    said = (set_bool(c, "thresholding", dynamic) || !dynamic) && said;
    c->clip_sample_range = c->sample_max_value = s->clip_range;
    c->dynamic_thresholding_ratio = s->clip_quantile;
  }
  if (s->final != FINAL_AUTO) {
    bool zero = s->final == FINAL_ZERO;
    if (c->class_ == SCHEDULER_DDIM || c->class_ == SCHEDULER_PNDM) {
      c->set_alpha_to_one = zero;
    } else if (!set_int(c, "final_sigmas_type", !zero)) { // DEIS and SA-Solver end at their last level, the others at zero
      said = said && zero == (c->class_ != SCHEDULER_DEIS && c->class_ != SCHEDULER_SA_SOLVER);
    }
  } else if (!has_base && (c->class_ == SCHEDULER_DDIM || c->class_ == SCHEDULER_PNDM)) {
    c->set_alpha_to_one = true;
  }
  set_bool(c, "lower_order_final", s->lower_order_final);
  return said;
}

// What makes the class this very sampler; false: it cannot be.
static bool set_solver(const sampler_config *s, scheduler_config *c) {
  int order = (int)s->order;
  enum { DPMPP = 1, SDE_DPMPP = 3 };
  switch ((sampler_kind)s->sampler) {
  case SAMPLER_DDPM: c->variance_type = s->variance; break;
  case SAMPLER_PNDM: c->skip_prk_steps = false; break;
  case SAMPLER_PLMS: c->skip_prk_steps = true; break;
  case SAMPLER_DPMPP_2S:
  case SAMPLER_DPMPP_2M:
    c->solver_order = 2;
    c->algorithm_type = DPMPP;
    break;
  case SAMPLER_DPMPP_2M_SDE:
    c->solver_order = 2;
    c->algorithm_type = SDE_DPMPP;
    break;
  case SAMPLER_UNIPC:
    if (order) c->solver_order = order;
    c->lower_order_final = c->lower_order_final || c->final_sigmas_type == 0;
    break;
  case SAMPLER_DEIS: c->solver_order = order ? order : 2; break;
  case SAMPLER_SA_SOLVER:
    c->predictor_order = order ? order : 2;
    c->corrector_order = order ? order : 2;
    return s->eta == 1 && order <= 4; // diffusers' tau is 1 between the times 200 and 800; another one is ours
  default: break;
  }
  return true;
}

static elbo_status check_pair(elbo_ctx *ctx, const process_config *p, int prediction, const sampler_config *s, const char *where) {
  char name[32];
  name_of(s->sampler, name);
  if ((s->sampler == SAMPLER_FLOW_EULER || s->sampler == SAMPLER_FLOW_HEUN) && p->type != PROCESS_FLOW)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s.sampler: %s steps straight in sigma and needs a flow (process type flow), which this model is not", where, name);
  if (s->sampler == SAMPLER_DDPM && s->variance >= VARIANCE_LEARNED && prediction > PREDICT_V)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.variance: a learned variance goes with epsilon, x0 and v", where);
  if ((s->spacing == SPACING_TIMESTEPS || s->spacing == SPACING_SIGMAS) != (s->table.count > 0))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.table: goes with spacing timesteps or sigmas, and they with it", where);
  if (s->t_end > 0 && p->type == PROCESS_DISCRETE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.t_end: is of continuous processes; this one has %lld steps", where, (long long)p->steps);
  if (p->type == PROCESS_DISCRETE && s->sampler != SAMPLER_RK45 && s->steps > p->steps)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.steps: %lld; the process has %lld", where, (long long)s->steps, (long long)p->steps);
  return ELBO_OK;
}

// Cosine's betas reach levels that a network which predicts noise must not start from (LEAST_HALF_LOGSNR); a spacing that is asked for in
// time is taken as it is. False: this class goes there and cannot be told not to.
static bool start_where_noise_tells(const process_config *of, int prediction, const sampler_config *s, scheduler_config *c) {
  const bool by_noise = prediction == PREDICT_EPSILON || prediction == PREDICT_SCORE;
  if (of->type != PROCESS_DISCRETE || of->betas != BETAS_COSINE || of->zero_snr || !by_noise) return true;
  if (s->spacing >= SPACING_LINSPACE && s->spacing <= SPACING_TRAILING) return true;
  if (c->class_ == SCHEDULER_DDPM || c->class_ == SCHEDULER_DDIM || c->class_ == SCHEDULER_PNDM) return true; // begin a stride later
  if (s->spacing != SPACING_AUTO || !scheduler_class_field(c->class_, "lambda_min_clipped"))
    return false; // noise levels are spaced over all
  c->lambda_min_clipped = LEAST_HALF_LOGSNR;
  return true;
}

static void set_continuous(const process_config *p, double sigma_data, const sampler_config *s, scheduler_config *c) {
  c->shift = p->shift;
  c->sigma_min = p->sigma_min;
  c->sigma_max = p->sigma_max;
  c->rho = p->rho;
  c->sigma_data = sigma_data;
  c->final_sigmas_type = s->final == FINAL_END;
}

elbo_status scheduler_from_sampler(elbo_ctx *ctx, arena *a, const process_config *of, int prediction, double sigma_data,
                                   const sampler_config *sampler, const scheduler_config *base, const char *where, scheduler_config *out) {
  TRY(check_pair(ctx, of, prediction, sampler, where));
  int class_ = class_of(of, prediction, sampler);
  if (class_ == SCHEDULER_PNDM && prediction == PREDICT_X0) class_ = SCHEDULER_OWN;
  if (base && base->class_ == SCHEDULER_OWN) base = NULL;
  if (class_ != SCHEDULER_OWN) {
    TRY(scheduler_defaults(ctx, a, class_, out));
    if (base) take_over(base, out);
    if (of->type == PROCESS_DISCRETE) {
      if (!base) TRY(set_process(ctx, a, of, where, out));
      // x0 of these classes is "sample"; the order of names is that of prediction_type
      out->prediction_type = class_ == SCHEDULER_PNDM ? prediction == PREDICT_V : prediction;
      if (base && scheduler_class_field(base->class_, "rescale_betas_zero_snr") && !scheduler_class_field(class_, "rescale_betas_zero_snr"))
        TRY(set_process(ctx, a, of, where, out));
    } else {
      set_continuous(of, sigma_data, sampler, out);
    }
    bool said = set_options(sampler, out, base != NULL);
    said = set_solver(sampler, out) && said;
    said = (base || start_where_noise_tells(of, prediction, sampler, out)) && said;
    out->own = *sampler;
    if (said && scheduler_settle(ctx, where, out) == ELBO_OK) return ELBO_OK;
  }
  *out = (scheduler_config){.class_ = SCHEDULER_OWN, .prediction = prediction, .sigma_data = sigma_data, .own = *sampler};
  if (out->own.clip == STEP_CLIP_AUTO && base) {
    out->own.clip = base->thresholding ? STEP_CLIP_DYNAMIC : base->clip_sample ? STEP_CLIP_STATIC : STEP_CLIP_NONE;
    out->own.clip_range = base->thresholding ? base->sample_max_value : base->clip_sample_range;
    out->own.clip_quantile = base->dynamic_thresholding_ratio;
  }
  return ELBO_OK;
}

elbo_status scheduler_of_process(elbo_ctx *ctx, arena *a, const process_config *of, int prediction, double sigma_data,
                                 scheduler_config *out) {
  sampler_config sampler;
  TRY(config_load(ctx, a, &sampler_table, NULL, "sample", &sampler));
  switch ((process_type)of->type) {
  case PROCESS_DISCRETE: sampler.sampler = SAMPLER_DDPM; break;
  case PROCESS_EDM: sampler.sampler = SAMPLER_EULER; break;
  case PROCESS_FLOW: sampler.sampler = SAMPLER_FLOW_EULER; break;
  case PROCESS_VE:
    if (prediction != PREDICT_SCORE) break;
    TRY(scheduler_defaults(ctx, a, SCHEDULER_SCORE_SDE_VE, out));
    out->sigma_min = of->sigma_min;
    out->sigma_max = of->sigma_max;
    return ELBO_OK;
  default: break;
  }
  TRY(scheduler_from_sampler(ctx, a, of, prediction, sigma_data, &sampler, NULL, "sample", out));
  if (out->class_ != SCHEDULER_OWN) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_UNSUPPORTED, "diffusers has no scheduler for this process with this prediction");
}
