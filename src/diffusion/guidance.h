// Guidance, and all else of a recipe's `sample` section. Guidance happens where the network is called: samplers see its result alone.
#ifndef DIFFUSION_GUIDANCE_H
#define DIFFUSION_GUIDANCE_H

#include "diffusion/scheduler.h"

typedef struct guidance_config {
  double scale;      // 1: none; w of uncond + w (cond - uncond) [Ho22b, in the convention where 1 is the plain conditional model]
  double rescale;    // share of the guided output rescaled to the standard deviation of the conditional one [Lin24 sec. 3.4]
  double from, to;   // log-SNR between which it acts; both 0: always [Kynkaanniemi24]
  const char *model; // of autoguidance: a worse model's directory, whose output takes the place of the unconditional one [Karras24]
} guidance_config;

typedef struct sampling_config {
  sampler_config solver;
  guidance_config guidance;
  int64_t batch_size;
} sampling_config;
extern const config_table sampling_table;

// guided = weak + scale (strong - weak), row by row with rescaling; n numbers a row. In place of `strong`.
void guidance_combine(const guidance_config *g, int64_t rows, int64_t n, double *strong, const double *weak);
bool guidance_acts(const guidance_config *g, double logsnr);

#endif
