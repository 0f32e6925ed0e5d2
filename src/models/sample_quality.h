// How good samples are as pictures: Fréchet and kernel distance, precision and recall of samples against held-out pictures, by the features
// of a network. The reference are n random pictures of the split, the floor is what another n of them come to: no model can be asked for
// less. Figures compare only at equal n and equal weights of the network, so both are said with each.
#ifndef MODELS_SAMPLE_QUALITY_H
#define MODELS_SAMPLE_QUALITY_H

#include "models/eval_result.h"

#define PICTURE_METRICS "fid, kid, precision, recall"
#define QUALITY_METRICS PICTURE_METRICS ", condition_accuracy" // of a model
enum { QUALITY_N = 5000, QUALITY_SEEDS = 3 };

// Whether a list of metrics ("elbo,fid") names one of QUALITY_METRICS.
bool quality_asked(const char *metrics);

// Where samples come from: n pictures (n,H,W,C) float32 in 0..1 of a seed, owned by the caller.
typedef struct quality_source {
  elbo_status (*draw)(void *user, int64_t n, uint64_t seed, elbo_array **x);
  void *user;
  int seeds;          // how many sets are drawn, of config->seed and those that follow: the error is over them; at most QUALITY_SEEDS
  int64_t available;  // pictures that there are; 0: as many as are asked for
  const char *judged; // "means of p(x|z)"
} quality_source;

// Adds the metrics of config->metrics and their floors (fid_floor, ...) to the result. config->features, n, force are as in elbo/model.h.
elbo_status quality_report(elbo_ctx *ctx, const quality_source *source, elbo_dataset *data, const elbo_eval_config *config,
                           elbo_eval_result *result);
// The same of what elbo_sample draws, and condition_accuracy (condition_accuracy.h). pixel_likelihood: the model has p(x|z), of which means
// or (config->draw) draws are judged.
elbo_status model_quality_report(elbo_model *m, bool pixel_likelihood, elbo_dataset *data, const elbo_eval_config *config,
                                 elbo_eval_result *result);

#endif
