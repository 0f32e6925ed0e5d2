// AutoencoderKL's decoder on codes too large to be decoded whole: the middle block whole, the levels in bands of rows (nn/akl_bands.h), one
// picture at a time. Gives what decoding whole gives, up to rounding.
#ifndef MODELS_TILED_DECODE_H
#define MODELS_TILED_DECODE_H

#include "models/autoencoder.h"

// What the levels must be: no attention in them, which sees the whole map. `what` stands in the message.
elbo_status tiled_decode_check(const elbo_model *m, const char *what);

// Memory beside the weights, in bytes: the largest sum of maps, plan and result that decoding one code of h x w needs at a time, in bands
// that lie under `rows` rows of the code; rows 0: decoded whole. n: codes, all of whose pictures are kept.
elbo_status tiled_decode_bytes(elbo_model *m, int64_t n, int64_t h, int64_t w, int64_t rows, int64_t *bytes);

// codes (n,h,w,c) float32 -> (n,H,W,C), owned by the caller, NULL on failure. config: its progress.
elbo_status tiled_decode(elbo_model *m, const elbo_array *codes, int64_t rows, const elbo_decode_config *config, elbo_array **out);

#endif
