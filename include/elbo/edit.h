// Attribute editing: a picture's code is moved along the direction in which the codes of two values of an attribute lie apart, and decoded
// again; where the model has a second code, the noise (elbo_encode_noise), that stays as it is.
#ifndef ELBO_EDIT_H
#define ELBO_EDIT_H

#include <elbo/model.h>

#ifdef __cplusplus
extern "C" {
#endif

// What became of the examples that had one value of an attribute and were moved towards another.
enum { ELBO_EDIT_ATTRIBUTES = 8 };
typedef struct elbo_edit_measure {
  char attribute[24], from[32], to[32];
  int64_t n;                              // examples edited
  double step;                            // how far, in distances between the two values' mean codes along the direction
  double accuracy;                        // of the linear classifier on the training codes that it was fitted to
  double obeyed;                          // share whose attribute reads as `to` afterwards; NaN where nothing reads it
  int others;                             // attributes beside it
  char other[ELBO_EDIT_ATTRIBUTES][24];   // their names
  double unchanged[ELBO_EDIT_ATTRIBUTES]; // share in which each reads as it did before
} elbo_edit_measure;

typedef struct elbo_edit_config {
  size_t size; // sizeof, set by elbo_edit_defaults
  // "class" of data with labels; of the shapes set "figure", "colour", "ground", "size", "position", which a program reads from pictures
  const char *attribute;
  const char *from, *to; // values, by name or number; both NULL: every ordered pair
  double step;           // 0: chosen on training examples, one for all pairs
  double ridge;          // penalty of the classifier's weights; a large one turns the direction to the line between the means
  int64_t n;             // held-out examples that are looked at, of which those that have `from` are edited
  int64_t training;      // training examples that the classifier is fitted to
  elbo_split split;      // of the examples that are edited
  uint64_t seed;         // which of them
  elbo_progress_fn progress;
  void *progress_user;
} elbo_edit_config;
ELBO_API void elbo_edit_defaults(elbo_edit_config *config);

// Called for each pair with the examples before and after, (n,H,W,C) in the model's range; borrowed. 0: stop there.
typedef int (*elbo_edit_fn)(void *user, const elbo_edit_measure *measure, const elbo_array *before, const elbo_array *after);
// Of any model that encodes and decodes pictures without being told of anything else.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_edit(elbo_model *model, elbo_dataset *data, const elbo_edit_config *config, elbo_edit_fn each,
                                               void *user);

#ifdef __cplusplus
}
#endif
#endif
