// Whether a model does what it is told: samples of each class in turn, shown to a classifier that had no part in making or judging them.
#ifndef MODELS_CONDITION_ACCURACY_H
#define MODELS_CONDITION_ACCURACY_H

#include "models/eval_result.h"

enum { JUDGED_N = 1000 };

// Adds condition_accuracy: the share of config->n (0: JUDGED_N) samples of seed config->seed whose class config->judge reads; the note says
// how often it reads real pictures right.
elbo_status condition_accuracy_report(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result *result);

#endif
