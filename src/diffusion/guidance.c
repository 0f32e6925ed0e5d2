#include "diffusion/guidance.h"

#include <math.h>

static const config_field guidance_fields[] = {
    CONFIG_FLOAT(guidance_config, scale, -1e3, 1e3, "1", "",
                 "w of unconditional + w (conditional - unconditional); 1: the conditional model alone"),
    CONFIG_FLOAT(guidance_config, rescale, 0, 1, "0", "", "share of the result that gets the conditional output's standard deviation"),
    CONFIG_FLOAT(guidance_config, from, -1e3, 1e3, "0", "log-SNR", "guidance acts from this log-SNR ..."),
    CONFIG_FLOAT(guidance_config, to, -1e3, 1e3, "0", "log-SNR", "... to this one; both 0: always"),
    CONFIG_STRING(guidance_config, model, "\"\"", "autoguidance: a worse model's directory, in place of the unconditional output"),
};
static const config_table guidance_table = CONFIG_TABLE("guidance", guidance_config, guidance_fields, "guidance while sampling");

_Static_assert(offsetof(sampling_config, solver) == 0, "the sampler's keys are entries over the head of the section");
static const config_field sampling_fields[] = {
#include "diffusion/sampler_fields.def"
    CONFIG_SECTION(sampling_config, guidance, &guidance_table),
    CONFIG_INT(sampling_config, batch_size, 1, 65536, "64", "examples", "drawn together; the last batch is padded"),
};
const config_table sampling_table = CONFIG_TABLE("sample", sampling_config, sampling_fields, "how samples are drawn");

bool guidance_acts(const guidance_config *g, double logsnr) {
  if (g->scale == 1) return false;
  if (g->from == 0 && g->to == 0) return true;
  double low = fmin(g->from, g->to), high = fmax(g->from, g->to);
  return logsnr >= low && logsnr <= high;
}

static double deviation(const double *v, int64_t n) {
  double mean = 0, square = 0;
  for (int64_t i = 0; i < n; i++) mean += v[i];
  mean /= (double)n;
  for (int64_t i = 0; i < n; i++) square += (v[i] - mean) * (v[i] - mean);
  return n > 1 ? sqrt(square / (double)(n - 1)) : 0; // as torch.std has it
}

void guidance_combine(const guidance_config *g, int64_t rows, int64_t n, double *strong, const double *weak) {
  for (int64_t r = 0; r < rows; r++) {
    double *s = strong + r * n;
    const double *w = weak + r * n;
    double before = g->rescale > 0 ? deviation(s, n) : 0;
    for (int64_t i = 0; i < n; i++) s[i] = w[i] + g->scale * (s[i] - w[i]);
    if (g->rescale <= 0) continue;
    double after = deviation(s, n), factor = after > 0 ? before / after : 1;
    factor = g->rescale * factor + (1 - g->rescale);
    for (int64_t i = 0; i < n; i++) s[i] *= factor;
  }
}
