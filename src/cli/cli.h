// The command: one table of subcommands, one option parser, one way to report. It sees include/elbo alone.
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include <elbo/dataset.h>
#include <elbo/model.h>

enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_USAGE = 2, STATUS_INTERRUPTED = 130 };

// --- options ---------------------------------------------------------------------------------------------------------------------------

typedef enum option_type {
  OPTION_FLAG,   // int: set to 1
  OPTION_INT,    // int64_t within min..max
  OPTION_SEED,   // uint64_t
  OPTION_FLOAT,  // double within min..max
  OPTION_TEXT,   // const char *
  OPTION_CHOICE, // int: index into "a|b|c"
  OPTION_LIST    // text_list; takes every argument up to the next option
} option_type;

typedef struct text_list {
  int count;
  const char **at;
} text_list;

typedef struct option {
  const char *name; // "steps" of --steps
  char letter;      // 'n' of -n, or 0
  option_type type;
  void *value;
  double min, max;
  const char *argument; // "N"; the choices of a choice
  const char *help;
} option;

typedef struct command {
  const char *name, *arguments, *summary, *details, *example;
  int (*run)(const struct command *self, int argc, char **argv);
} command;

// What every command that computes takes.
typedef struct common_options {
  int64_t threads; // 0: not given
  uint64_t seed;
  int json;
  const char *isa;              // NULL: the best
  const char *winograd;         // engine.winograd=..., NULL: not given
  const char *precision;        // engine.precision=...
  const char *keep_transformed; // engine.keep_transformed=...
} common_options;
#define COMMON_OPTIONS(c)                                                                           \
  {"threads", 0, OPTION_INT, &(c).threads, 1, 4096, "N", "worker threads (default: one per core)"}, \
      {"seed", 0, OPTION_SEED, &(c).seed, 0, 0, "S", "seed of everything random (default: 0)"}, {   \
    "json", 0, OPTION_FLAG, &(c).json, 0, 0, NULL, "print one JSON object"                          \
  }

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
enum { ARGS_GO = -1 };

// Sorts argv[1..] into options and positional arguments. Returns ARGS_GO, or the status to exit with (--help, bad usage). The lists
// live until args_release.
int args_parse(const command *self, int argc, char **argv, const option *options, int n_options, text_list *positional);
void args_release(void);
// Says what is wrong with the usage and returns STATUS_USAGE.
int usage_error(const command *self, const char *format, ...) ELBO_PRINTF(2, 3);
// Whether a positional argument is a "key.path=value" override.
bool is_override(const char *text);
// One argument, `what` in messages, and behind it overrides of the data section, which land in *keys. Returns ARGS_GO or bad usage.
int one_and_keys(const command *self, const text_list *positional, const char *what, text_list *keys);
// Takes "engine.KEY=VALUE" out of a model's arguments: what a recipe says in its section `engine`, for this once. Returns ARGS_GO or bad
// usage.
int take_engine_keys(const command *self, text_list *positional, common_options *common);
// The nearest of "a|b|c" (NULL when none is near).
const char *nearest_name(const char *text, const char *const *names, int n);
extern const command *const commands[];
extern const int n_commands;

// --- context, messages, interruption -----------------------------------------------------------------------------------------------------

// Creates the context. Returns ARGS_GO or the exit status.
int open_context(const common_options *common, elbo_ctx **ctx);
// Prints the context's message and returns the exit status that belongs to `status`.
int report_failure(elbo_ctx *ctx, elbo_status status);
void say(const char *format, ...) ELBO_PRINTF(1, 2); // "elbo: ..." on standard error
// The model that the first positional argument names.
typedef struct model_options {
  const char *ema;
  const char *checkpoint;
  const char *sampler_keys[64]; // how a diffusion for a decoder decodes
  int n_sampler_keys;
} model_options;
// Moves what stands among arguments as "sample.KEY=VALUE" to the model's options.
void take_sampler_keys(text_list *keys, model_options *options);
#define MODEL_OPTIONS(m)                                                                                                        \
  {"ema", 0, OPTION_TEXT, &(m).ema, 0, 0, "DECAY|raw", "which of a run's averages (default: the first), or the raw weights"}, { \
    "checkpoint", 0, OPTION_TEXT, &(m).checkpoint, 0, 0, "newest|best|STEP", "which checkpoint of a run (default: newest)"      \
  }
// Creates context and model; on failure says why, destroys both and returns the exit status, else ARGS_GO.
int open_model(const command *self, const common_options *common, const model_options *options, const char *path, elbo_ctx **ctx,
               elbo_model **model, elbo_model_info *info);
// Destroys both and returns the exit status of `status`, with its message where it failed.
int close_model(elbo_ctx **ctx, elbo_model **model, elbo_status status);

// SIGINT, SIGTERM and SIGHUP from now on ask the running call to stop (a second one kills).
void catch_interruption(void);
bool interrupted(void);

// elbo_progress_fn; user: NULL. A bar on a terminal, plain lines otherwise.
int show_progress(void *user, const char *what, int64_t done, int64_t total, const char *text);
void clear_progress(void); // before anything else is printed
double seconds_now(void);  // of a clock that only goes forward

// --- arrays in and out
// ------------------------------------------------------------------------------------------------------------------------

typedef struct array_options {
  int layout; // 0: nhwc, 1: nchw
  int uint8;
} array_options;
#define LAYOUT_OPTION(layout_) \
  { "layout", 0, OPTION_CHOICE, &(layout_), 0, 0, "nhwc|nchw", "axes of 4-D .npy arrays (default: nhwc)" }
#define ARRAY_OPTIONS(a) \
  LAYOUT_OPTION((a).layout), { "uint8", 0, OPTION_FLAG, &(a).uint8, 0, 0, NULL, ".npy output as 0..255 instead of the model's own range" }

// Whether --out can be written as it stands, before any work is done: its ending, its folder, a directory that is not empty.
int check_output(const command *self, const char *out, bool array_only);
// Whether a file of that name can be made: its folder is there and can be written. Returns ARGS_GO or the exit status, having said why.
int check_folder(const char *out);
bool is_picture_name(const char *out);
// Writes x (n,H,W,C), values low..high: one grid picture, a .npy, or a directory of numbered pictures. columns 0: as square as can be.
elbo_status write_images(elbo_ctx *ctx, const elbo_array *x, double low, double high, int columns, const array_options *options,
                         const char *out);
elbo_status write_array(elbo_ctx *ctx, const elbo_array *x, const array_options *options, const char *out);

// What a conditional model is told of examples or codes that come without it.
typedef struct told_options {
  const char *labels;    // .npy with a class for each; NULL: label
  int64_t label;         // the class of them all; -1: none
  const char *condition; // .npy with a vector for each, or one for all
} told_options;
#define TOLD_OPTIONS(t)                                                                                                                  \
  {"class", 0, OPTION_INT, &(t).label, 0, 1e9, "C", "class of all of them, for a conditional model"},                                    \
      {"labels", 0, OPTION_TEXT, &(t).labels, 0, 0, "y.npy", "a class for each, for a conditional model"}, {                             \
    "condition", 0, OPTION_TEXT, &(t).condition, 0, 0, "v.npy", "a vector for each, or one for all, for a model conditioned on a vector" \
  }

// Reads up to n (0: all) examples for a model from a .npy or a data set, in the model's range. label may be NULL or be left NULL.
typedef struct input_options {
  const char *data, *split_name;
  int split; // elbo_split; -1: test where there is one, else valid, else train
  int64_t n;
  bool shuffle;
  uint64_t seed;
  int layout;
  text_list options; // "key=value" of the data section
  told_options told; // of the examples, in place of what a data set says
} input_options;
elbo_status read_images(elbo_ctx *ctx, const char *model_path, const elbo_model_info *info, const input_options *in, elbo_array **x,
                        elbo_array **label);
// int32 (n) classes, or float32 (n,D) vectors, as the options say; NULL where they say nothing.
elbo_status read_told(elbo_ctx *ctx, const told_options *told, const elbo_model_info *info, int64_t n, elbo_array **out);
// float32 (rows,D) of a .npy (D) or (rows,D).
elbo_status read_vectors(elbo_ctx *ctx, const char *path, elbo_array **out);
// Opens a data set, as the model at model_path was trained on where that is not NULL. layout: of array_options; options may be NULL.
elbo_status open_data(elbo_ctx *ctx, const char *model_path, const char *path, const text_list *options, int layout, elbo_dataset **out);
// One picture as (1,H,W,C) in the model's range; its size must be the model's.
elbo_status read_picture(elbo_ctx *ctx, const char *path, const elbo_model_info *info, elbo_array **out);
#define SPLIT_NAMES "train|valid|test"

void print_json_text(FILE *out, const char *text); // quoted and escaped
void print_json_number(FILE *out, double value);   // null when not finite

// The end of every command: how the result went out. Standard output that cannot be written is a failure.
int finish(int status);

#endif
