// The `data` block of a recipe.
#ifndef DATA_DATA_CONFIG_H
#define DATA_DATA_CONFIG_H

#include "core/config.h"

typedef enum binarize_mode { BINARIZE_NONE, BINARIZE_FIXED, BINARIZE_DYNAMIC } binarize_mode;
typedef enum dequantize_mode { DEQUANTIZE_NONE, DEQUANTIZE_UNIFORM } dequantize_mode;
typedef enum data_layout { DATA_LAYOUT_NHWC, DATA_LAYOUT_NCHW } data_layout;

typedef struct data_config {
  const char *path;
  const char *condition;  // "", "attributes", or a .npy or .npz of vectors or sequences
  int binarize;           // binarize_mode
  int dequantize;         // dequantize_mode
  int64_t holdout;        // examples; -1: none where there is a test set, else a tenth, at most 5,000
  int64_t seed;           // of the hold-out, `limit` and `binarize: fixed`
  int64_t limit;          // training examples kept; 0: all
  int64_t size;           // side after centre crop and resize; 0: as they are
  int64_t channels;       // 0: as they are
  int64_t crop;           // side of the window cut out; 0: none
  int64_t pad;            // pixels added on each side before `crop`
  bool flip;              // left to right, half of the time
  int layout;             // data_layout of 4-D arrays
  int64_t classes;        // 0: as many as the labels say
  int64_t cache;          // bytes
  double max_skipped;     // share of unreadable pictures
  int64_t shuffle_buffer; // samples
} data_config;

extern const config_table data_table;

#endif
