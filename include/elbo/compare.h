// Models side by side: trained under one budget each, or taken as they are, and judged by the same meter on the same data.
#ifndef ELBO_COMPARE_H
#define ELBO_COMPARE_H

#include <elbo/model.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ELBO_COMPARE_MODELS = 32, ELBO_COMPARE_CURVE = 8 };

typedef struct elbo_compare_config {
  size_t size;                  // sizeof, set by elbo_compare_defaults
  int n_models;                 // at most ELBO_COMPARE_MODELS
  const char *const *models;    // recipes (files or bare names), or run or model directories, which are taken as they are; borrowed
  int n_overrides;              // "train.batch_size=64" for every recipe
  const char *const *overrides; // borrowed
  const char *data;             // what all are trained and judged on; NULL: what each recipe names
  const char *out;              // the page; NULL: none is written
  const char *runs;             // where trainings and what was measured lie; NULL: OUT.runs. A second call takes up what is there
  double budget_seconds;        // one of these, of all training steps, stages and preparations of one model together; 0: as the recipes say
  int64_t budget_steps;         //
  double budget_flops;          //
  const char *features;         // run of a classifier, its recipe (.yaml), or file of Inception-v3 weights; NULL: no FID and its like
  const char *judge;       // run of another classifier, or its recipe, which tells whether classes are obeyed; NULL: that is not measured
  int64_t n;               // samples of FID and its like; 0: 5,000, or half of the split
  int seeds;               // sets of them, 1 to 3; 0: 3
  int force;               // 1: n may be below ten times the number of features
  int64_t limit;           // examples of likelihood and reconstruction; 0: 1,000
  int64_t judged;          // samples that the judge sees; 0: 1,000
  const char *likelihoods; // of "one,k,ode"; NULL: "one"
  int samples;             // k of the K-sample bound; times drawn for each picture of a diffusion model's bound; 0: 100, 20
  int64_t calls;           // of a network for one sample, at most; 0: 50
  int n_curve;             // at most ELBO_COMPARE_CURVE
  int curve[ELBO_COMPARE_CURVE]; // fewer calls at which quality is measured too, for the plot
  uint64_t seed;
  elbo_progress_fn progress; // a false return stops (ELBO_ERROR_STOPPED); the next call goes on
  void *progress_user;
} elbo_compare_config;
ELBO_API void elbo_compare_defaults(elbo_compare_config *config);

// Trains what is not trained, measures what is not measured, writes the page. A model that cannot be trained or measured is a row with the
// reason. *json (may be NULL) receives the table: {"rows": [{"name":, "values": {"fid": {"value":, "stderr":, "command":, ...}, ...},
// ...}],
// ...}; owned by the caller: free(). NULL on failure.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_compare(elbo_ctx *ctx, const elbo_compare_config *config, char **json);

#ifdef __cplusplus
}
#endif
#endif
