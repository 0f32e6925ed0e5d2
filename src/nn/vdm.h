// VDM's UNet: no resampling, residual blocks down and up with concatenated skips, attention in the middle, sines and cosines of the input,
// conditioned on log-SNR [Kingma21 appendix B]. Parameters are named in diffusers' manner.
#ifndef NN_VDM_H
#define NN_VDM_H

#include "core/config.h"
#include "nn/denoiser.h"

typedef struct vdm_config {
  int64_t in_channels, out_channels; // 0: of the data
  int64_t channels, layers;
  double dropout;
  bool attention;
  int64_t attention_head_dim; // 0: one head
  config_ints fourier;
  int64_t norm_num_groups;
  double norm_eps;
  int64_t num_class_embeds; // classes; row num_class_embeds of the table is "no class"; 0: of the data
  double logsnr_min, logsnr_max;
  bool add_input;
} vdm_config;
extern const config_table vdm_table;

void vdm_fit(vdm_config *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes);
elbo_status vdm_config_read(elbo_ctx *ctx, arena *a, const char *path, vdm_config *out);
elbo_status vdm_config_write(elbo_ctx *ctx, const char *path, const vdm_config *c);
denoiser_needs vdm_needs(const vdm_config *c);
elbo_status vdm_check(elbo_ctx *ctx, const vdm_config *c, int64_t height, int64_t width, int64_t channels, const char *where);

// timestep: log-SNR. -> (B,H,W,out_channels)
elbo_tensor *vdm_network(const vdm_config *c, const denoiser_inputs *in);

#endif
