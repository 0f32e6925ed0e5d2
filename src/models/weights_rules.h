// How parts of tensor names correspond between other code and diffusers, and the small words that the renaming of both ways is written in.
#ifndef MODELS_WEIGHTS_RULES_H
#define MODELS_WEIGHTS_RULES_H

#include "models/weights_layout.h"

enum { WEIGHTS_NAME_BYTES = 512 };

// What becomes of a tensor's data on the way to diffusers.
typedef enum tensor_change {
  CHANGE_NONE,
  CHANGE_SQUEEZE, // the weights of a 1x1 convolution become a matrix
  CHANGE_SPLIT    // the same, and the rows are those of to_q, to_k and to_v
} tensor_change;

typedef struct name_rule {
  const char *from, *to; // whole parts of a name: "in_layers.0"
  tensor_change change;
} name_rule;

// Each ends with a rule of NULLs.
extern const name_rule BLOCKS_TOP[];
extern const name_rule BLOCKS_RESNET[];
extern const name_rule BLOCKS_ATTENTION[];
extern const name_rule BLOCKS_TRANSFORMER[];
extern const name_rule BLOCKS_DOWN[];
extern const name_rule BLOCKS_UP[];
extern const name_rule DDPM_TOP[];
extern const name_rule DDPM_RESNET[];
extern const name_rule DDPM_ATTENTION[];
extern const name_rule DEPRECATED_ATTENTION[];

// "12.rest": the number, and what follows the dot; NULL when it is none.
const char *name_number(const char *text, int64_t *out);
// What follows "word." in text; NULL when it begins otherwise.
const char *name_behind(const char *text, const char *word);
// The rule whose parts `text` begins with (`back`: diffusers' parts); *rest: what follows them, without the dot.
const name_rule *name_find_rule(const name_rule *rules, bool back, const char *text, const char **rest);

// A tensor's new name, and what becomes of its data.
typedef struct renaming {
  char name[WEIGHTS_NAME_BYTES];
  tensor_change change;
} renaming;
// "PREFIX." and the other side of the rule that text begins with; false when there is none.
bool name_by_rule(const name_rule *rules, bool back, const char *text, const char *prefix, renaming *out);

// A copy of v under another name, which lives in the arena.
elbo_status tensor_list_add(elbo_ctx *ctx, arena *a, tensor_list *out, const tensor_view *v, const char *name);

#endif
