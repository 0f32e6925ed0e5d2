// Models compared: what is known of each, as JSON, from which the page and the table on standard output are made.
//
//   RUNS/NAME/       the run of a recipe
//   RUNS/NAME.json   what was measured of it, by the command that measures it again; and the steps that the budget came to
//
// A row:    {"name", "source", "run", "kind", "classes", "condition_dim", "error": why there is nothing more,
//            "training": {"seconds", "flops", "stages": [{"name", "steps", "batch_size", "seconds", "flops"}]},
//            "seconds": {"evaluation", "sampling"}, "values": {KEY: value}, "curve": [{"calls", "seconds_per_sample", "fid", "stderr",
//            "command"}], "of", "way": the row whose model it samples in another way, and which}
// A value:  {"value", "stderr", "unit", "n", "k", "note", "label", "command"}, or {"none": why}, or {"error": why, "command"}
#ifndef TASKS_COMPARE_H
#define TASKS_COMPARE_H

#include <elbo/compare.h>

#include "core/config.h"
#include "core/json.h"
#include "models/model.h"
#include "models/recipe.h"

enum { COMPARE_PATH = 4096, COMPARE_LIMIT = 1000, COMPARE_CALLS = 50, COMPARE_WALKS = 2 };

// One model of the comparison.
typedef struct compared {
  char name[96];
  const char *source;                                          // as it was given
  char run[COMPARE_PATH];                                      // or model directory
  bool taken;                                                  // not trained here
  bool plain;                                                  // the keys that were given for all recipes are not for this one
  json_t *row;                                                 // owned, as are the next two
  json_t *second;                                              // the row of another way to sample it; NULL: there is none
  json_t *known;                                               // what RUNS/NAME.json holds
  char identity[128];                                          // of the weights that were measured
  elbo_array *samples, *reconstructions, *walk[COMPARE_WALKS]; // (n,H,W,C) in 0..1; NULL: it makes none
  char no_pictures[256];                                       // why something that it should make is not there
  // while it is measured
  elbo_model *model;
  elbo_model_info info;
  model_abilities can;
  elbo_dataset *data;
} compared;

typedef struct comparison {
  elbo_ctx *ctx;
  elbo_compare_config config; // with what 0 and NULL stand for filled in
  char runs[COMPARE_PATH];
  int n;
  compared *model; // (n)
  elbo_split split;
  char identity[65];                                        // of its pictures; "": no model was opened yet
  elbo_array *inputs;                                       // examples of the split, in 0..1: what is reconstructed, and the ends of walks
  char features[160], judge[160];                           // "classifier 64, sha256 ..."; "" where there is none
  char features_run[COMPARE_PATH], judge_run[COMPARE_PATH]; // where they were trained here
  const compared *now;                                      // for progress
  bool stopped;                                             // by the caller
} comparison;

bool compare_stopped(const comparison *c, elbo_status status);
int compare_progress(void *user, const char *what, int64_t done, int64_t total, const char *text); // user: the comparison
elbo_status compare_save_known(comparison *c, compared *m);
void add_word(text_buffer *command, const char *word);                      // a space before it, quoted for the shell where it must be
void add_option(text_buffer *command, const char *name, const char *value); // nothing where value is NULL or ""

// --- compare_budget.c, compare_train.c: the budget as numbers of steps, and the training ---
// A budget worked out, one number a stage: a recipe's own steps times the one factor that spends it.
typedef struct stage_plan {
  int n;
  int64_t steps[MAX_STAGES];
  double seconds[MAX_STAGES]; // expected, and what a stage may take; 0: the budget is not one of time
  int64_t warmup[MAX_STAGES]; // of the learning rate, where it had to be cut; -1: as the recipe says
} stage_plan;
// From RUNS/NAME.json, or made and written there. A run of another budget is refused.
elbo_status compare_plan(comparison *c, compared *m, stage_plan *out);
elbo_status compare_save_plan(comparison *c, compared *m, const stage_plan *plan);
// The recipe on the data that are compared on, with the keys given for all, and the plan's (NULL: none). On failure *out is NULL.
elbo_status compare_load_recipe(comparison *c, const compared *m, const stage_plan *plan, elbo_recipe **out);
// Trains the run at m->run to the end of its plan.
elbo_status compare_train(comparison *c, compared *m);

// --- compare_facts.c: what a run tells about its training ---
elbo_status compare_facts(comparison *c, compared *m);

// --- compare_measure.c: values ---
// Fills rows of a model that is trained. What fails is a value with an error.
elbo_status compare_measure(comparison *c, compared *m);

// How the samples of a model are drawn.
typedef struct drawing {
  sample_option option[SAMPLE_OPTIONS];
  int n;
  bool draw; // pixels from p(x|z)
} drawing;
bool compare_encodes(const compared *m); // an open model that has codes, and so reconstructions and walks
drawing compare_drawing(const compared *m, int64_t calls, bool own, bool second);
// Draws what is shown of an open model.
elbo_status compare_make_pictures(comparison *c, compared *m);

// --- compare_table.c, compare_plot.c, compare_pictures.c: the page ---
void compare_add_table(const comparison *c, text_buffer *page);
void compare_add_commands(const comparison *c, text_buffer *page);
void compare_add_plot(const comparison *c, text_buffer *page);
elbo_status compare_add_pictures(comparison *c, text_buffer *page);
elbo_status compare_write_page(comparison *c);
// Rows in the order of the page: each model's, followed by that of another way to sample it. NULL past the last.
const json_t *compare_row(const comparison *c, int i);

#endif
