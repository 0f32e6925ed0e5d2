// Any diffusion network, by its kind: configuration, checks, files, graph. A kind is one row of the table in denoiser_config.c.
#ifndef NN_DENOISER_CONFIG_H
#define NN_DENOISER_CONFIG_H

#include "core/config.h"
#include "nn/denoiser.h"
#include "nn/dit.h"
#include "nn/edm.h"
#include "nn/mlp.h"
#include "nn/unet_config.h"
#include "nn/vdm.h"

typedef enum denoiser_kind { DENOISER_UNET, DENOISER_DIT, DENOISER_EDM, DENOISER_VDM, DENOISER_MLP, DENOISER_KINDS } denoiser_kind;
#define DENOISER_NAMES "unet|dit|edm|vdm|mlp"
#define DENOISER_CLASS_NAMES "UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel, EDMUNet, VDMUNet, MLPDenoiser"

typedef struct denoiser_config {
  int network; // denoiser_kind
  unet_config unet;
  dit_config dit;
  edm_config edm;
  vdm_config vdm;
  mlp_config mlp;
} denoiser_config;

// What data and recipe fix of a network.
typedef struct denoiser_data {
  int64_t height, width;
  int64_t in_channels, out_channels; // of the state with what is concatenated to it; of the prediction, twice the state's under a learned
                                     // variance
  int64_t classes;                   // of the data, where the network is told them; 0: none
  bool null_class;                   // and one more for "no class"
  int64_t class_dim;                 // numbers of a vector condition; 0: none
  bool adapted;                      // a layer in front of the network makes of that vector one as wide as the network takes
  int64_t context_dim;               // of each embedding of a sequence; 0: none
} denoiser_data;

// Fills what a recipe leaves open and refuses what does not fit the data; `where` ("FILE: model") in front of messages.
elbo_status denoiser_fit(elbo_ctx *ctx, arena *a, denoiser_config *config, const denoiser_data *data, const char *where);
// That the network takes pictures of this size.
elbo_status denoiser_check(elbo_ctx *ctx, const denoiser_config *config, int64_t height, int64_t width, const char *where);
denoiser_needs denoiser_config_needs(const denoiser_config *config);
// The picture's size that the config names; 0: none.
void denoiser_sample_size(const denoiser_config *config, int64_t *height, int64_t *width);
elbo_tensor *denoiser_network(const denoiser_config *config, const denoiser_inputs *in);

// "UNet2DModel" and the like: what a config.json is of. The folder that such a component has in a model directory ("unet").
const char *denoiser_class_name(const denoiser_config *config);
const char *denoiser_folder(const denoiser_config *config);
bool denoiser_knows_class(const char *class_name);
// config.json. Lists live in the arena.
elbo_status denoiser_read(elbo_ctx *ctx, arena *a, const char *path, denoiser_config *out);
elbo_status denoiser_write(elbo_ctx *ctx, const char *path, const denoiser_config *config);

#endif
