// The codes of a frozen autoencoder as data for a model of their own [Rombach22]: how pictures become codes and codes pictures, and how
// codes are brought to unit size: state = (code - shift) scale, channel by channel.
#ifndef MODELS_LATENT_SPACE_H
#define MODELS_LATENT_SPACE_H

#include "core/json.h"
#include "models/model.h"

typedef struct latent_space {
  elbo_ctx *ctx;
  elbo_model *autoencoder; // an AutoencoderKL, VQModel, AutoencoderTiny, or a VAE with one flat code
  bool owned;
  picture_shape picture, code;
  int bits;             // of the pictures: 8, 16: data are 0..1; 0: data are taken as they are
  bool posterior;       // a code is a Gaussian, not a point
  double low, high;     // the range of what is decoded
  float *scale, *shift; // (code.channels), in the arena that it was made in
} latent_space;

// Of pictures of a shape; picture->height 0: of those that the autoencoder was trained on. The scale is what the autoencoder's own config
// says. Borrows the autoencoder. A model that is no autoencoder, or whose pictures are others, is refused; `where` begins the message.
elbo_status latent_space_create(elbo_ctx *ctx, arena *a, elbo_model *autoencoder, const picture_shape *picture, int bits, const char *where,
                                latent_space **out);
void latent_space_close(latent_space *s); // of one that owns its autoencoder
// "codes (7,7,3) of pictures (28,28,1)"
const char *latent_space_text(const latent_space *s, char *text, size_t size);

// --- plans ---
// Input "x" (B,H,W,C) as data sets give it; outputs codes (B, code), not scaled: mean, and with a posterior its standard deviation.
elbo_status latent_encoder_open(const latent_space *s, int64_t batch, session *out);
// What the encoder does with its weights: 64 digits (graph_hash).
elbo_status latent_encoder_hash(const latent_space *s, char out[65]);
// Input "codes" (B, code), not scaled; output pictures low..high.
elbo_status latent_decoder_open(const latent_space *s, int64_t batch, session *out);
// Pictures that are worked on at once, for n of them.
int64_t latent_batch(const latent_space *s, int64_t n);

int64_t latent_code_numbers(const latent_space *s);
// Codes (rows, code) to states, and back, in place. Deviations are scaled without the shift.
void latent_scale(const latent_space *s, int64_t rows, bool deviations, float *codes);
void latent_unscale(const latent_space *s, int64_t rows, float *states);

// --- arrays ---
// x (n,H,W,C) as data sets give it to states (n,h,w,c); stddev may be NULL.
elbo_status latent_encode(const latent_space *s, const elbo_array *x, elbo_array **mean, elbo_array **stddev);
// states (n,h,w,c) or (n, code) to codes as the autoencoder has them, (n,h,w,c).
elbo_status latent_codes(const latent_space *s, const elbo_array *states, elbo_array **codes);
// states (n,h,w,c) or (n, code) to pictures (n,H,W,C) in low..high, "decode" to progress, which may be NULL.
elbo_status latent_decode(const latent_space *s, const elbo_array *states, elbo_progress_fn progress, void *user, elbo_array **x);

// --- files: the autoencoder's folder, with the scale in the keys that diffusers has for it, and an entry of the index for all of it ---
// Writes DIRECTORY/NAME; *class_name is its class, *diffusers whether that is one of diffusers'.
elbo_status latent_space_write(const latent_space *s, const char *directory, const char *name);
const char *latent_space_class(const latent_space *s, bool *diffusers);
json_t *latent_space_json(const latent_space *s); // "_elbo_latent" of an index
// Opens DIRECTORY/NAME. `own`: the "_elbo_latent" of its index, NULL: the autoencoder's config says it all. The codes must be of the size
// and channels of `state`, the network's; height 0: of any. Both shapes are named where they are not.
elbo_status latent_space_read(elbo_ctx *ctx, arena *a, const char *directory, const char *name, const yaml_node *own,
                              const picture_shape *state, latent_space **out);

#endif
