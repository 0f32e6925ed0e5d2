// A network for vectors and points: residual layers with SiLU, conditioned on time and, by choice, on a class or a vector.
#ifndef NN_MLP_H
#define NN_MLP_H

#include "core/config.h"
#include "nn/denoiser.h"

typedef enum mlp_embedding { MLP_SINUSOIDAL, MLP_FOURIER } mlp_embedding;

typedef struct mlp_config {
  int64_t in_channels, out_channels; // 0: of the data
  int64_t width, layers;
  double dropout;
  int64_t norm_num_groups;
  int time_embedding; // mlp_embedding
  int64_t time_width;
  double time_scale, fourier_scale;
  int64_t num_class_embeds; // classes; row num_class_embeds of the table is "no class"; 0: of the data
  int64_t condition_dim;
} mlp_config;
extern const config_table mlp_table;

void mlp_fit(mlp_config *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes);
elbo_status mlp_config_read(elbo_ctx *ctx, arena *a, const char *path, mlp_config *out);
elbo_status mlp_config_write(elbo_ctx *ctx, const char *path, const mlp_config *c);
denoiser_needs mlp_needs(const mlp_config *c);
elbo_status mlp_check(elbo_ctx *ctx, const mlp_config *c, int64_t height, int64_t width, int64_t channels, const char *where);

// (B,1,1,in_channels) -> (B,1,1,out_channels). With condition_dim, class_labels are a vector of that width. The embedding of the time is
// most of the work of a narrow network: timestep may be (1).
elbo_tensor *mlp_network(const mlp_config *c, const denoiser_inputs *in);

#endif
