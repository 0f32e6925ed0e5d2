// The levels of AutoencoderKL's decoder in bands: as many rows of a map at a time as fit into memory, over its whole width. A convolution
// needs a row above and below its band, the halo; a group norm needs sums over the whole map, which is why a residual block is walked over
// twice: up to its second norm for that norm's sums, and again for what comes out. With both the bands meet without a seam.
#ifndef NN_AKL_BANDS_H
#define NN_AKL_BANDS_H

#include "nn/akl.h"

typedef enum akl_band_part {
  BAND_UP,    // the upsampled map of the level before, whose sums the first norm needs
  BAND_FIRST, // a residual block up to its second norm
  BAND_BLOCK, // a residual block
  BAND_LAST   // last norm and convolution
} akl_band_part;

typedef struct akl_band {
  const akl_config *config;
  int part;             // akl_band_part
  int64_t level, block; // of up_blocks, of its resnets; BAND_LAST: the last level
  int64_t rows, width;  // of the band that comes out; rows even where the map before is upsampled
} akl_band;

// Whether a band reads the level before's map, half as large, through its upsampler: the first block of every level but the first.
bool akl_band_upsamples(const akl_band *b);
// Rows of the input above and below those that lie under the band.
int64_t akl_band_halo(const akl_band *b);
int64_t akl_band_in_channels(const akl_band *b);
int64_t akl_band_out_channels(const akl_band *b);

// Inputs: "x" (1,rows,width,channels) of the map before; "inside0", "inside1", "inside2" (1,rows,1,1): 1 for rows of the map, 0 beyond its
// ends, of what each convolution reads; and for the norms "scale1", "shift1", "scale2", "shift2" (channels): what their sums, weights and
// biases come to. -> (1,rows,width,channels). Parameters by the names of diffusers' tensors.
elbo_tensor *akl_band_graph(const akl_band *b, elbo_graph *g);
// Rows beyond the band, on each side, that input "insideI" has. -1: there is no such input.
int64_t akl_band_inside_halo(const akl_band *b, int i);
// "decoder.up_blocks.3.resnets.0.norm1": the norm in front of scaleI; "" where there is none. Returns text.
const char *akl_band_norm(const akl_band *b, int i, char *text, size_t size);

#endif
