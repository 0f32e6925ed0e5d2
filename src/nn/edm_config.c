// The keys of Karras' UNets, and which of them fit together.
#include <string.h>

#include "core/config_file.h"
#include "nn/denoiser_trial.h"
#include "nn/edm.h"

static const config_field edm_fields[] = {
    CONFIG_ENUM(edm_config, model_type, "SongUNet", "SongUNet|DhariwalUNet", "DDPM++ and NCSN++, or ADM"),
    CONFIG_INT(edm_config, img_resolution, 0, 65536, "0", "pixels", "side of the pictures; 0: as the data have"),
    CONFIG_INT(edm_config, in_channels, 0, 4096, "0", "", "of the sample; 0: as the data have"),
    CONFIG_INT(edm_config, out_channels, 0, 8192, "0", "", "of the result; 0: as the prediction needs"),
    CONFIG_INT(edm_config, label_dim, 0, 1e6, "0", "", "classes; 0: as the data have"),
    CONFIG_INT(edm_config, augment_dim, 0, 4096, "0", "", "labels of augmentation of a network from a file; taken as zero"),
    CONFIG_INT(edm_config, model_channels, 0, 8192, "0", "", "channels; 0: 128, of DhariwalUNet 192"),
    CONFIG_INTS(edm_config, channel_mult, 1, 64, "[]", "",
                "times that at each resolution, finest first; []: [1, 2, 2, 2], of DhariwalUNet [1, 2, 3, 4]"),
    CONFIG_INT(edm_config, channel_mult_emb, 1, 64, "4", "", "width of the embedding of time and class, times model_channels"),
    CONFIG_INT(edm_config, num_blocks, 0, 64, "0", "", "residual blocks at each resolution; 0: 4, of DhariwalUNet 3"),
    CONFIG_INTS(edm_config, attn_resolutions, 0, 65536, "[0]", "pixels",
                "sides at which there is attention; [0]: [16], of DhariwalUNet [32, 16, 8]"),
    CONFIG_FLOAT(edm_config, dropout, 0, 0.95, "0.1", "", "probability of dropping in residual blocks"),
    CONFIG_FLOAT(edm_config, label_dropout, 0, 1, "0", "", "probability that training takes a class for none"),
    CONFIG_ENUM(edm_config, embedding_type, "positional", "positional|fourier", "of the time: DDPM++ or NCSN++"),
    CONFIG_INT(edm_config, channel_mult_noise, 1, 64, "1", "", "width of that embedding, times model_channels: 1 DDPM++, 2 NCSN++"),
    CONFIG_ENUM(edm_config, encoder_type, "standard", "standard|residual|skip", "how the picture joins in: DDPM++ or NCSN++"),
    CONFIG_ENUM(edm_config, decoder_type, "standard", "standard|skip", "skip: a picture is made at every resolution"),
    CONFIG_INTS(edm_config, resample_filter, 1, 3, "[1, 1]", "", "[1, 1] DDPM++, [1, 3, 3, 1] NCSN++"),
};
const config_table edm_table = CONFIG_TABLE("edm", edm_config, edm_fields, "Karras' UNets");

static const config_file_form edm_form = {.classes = "EDMUNet"};

static void type_defaults(edm_config *c) {
  static const int64_t song_mult[] = {1, 2, 2, 2}, dhariwal_mult[] = {1, 2, 3, 4}, song_sides[] = {16}, dhariwal_sides[] = {32, 16, 8};
  bool song = c->model_type == EDM_SONG;
  if (!c->model_channels) c->model_channels = song ? 128 : 192;
  if (!c->channel_mult.count) c->channel_mult = (config_ints){4, song ? song_mult : dhariwal_mult};
  if (!c->num_blocks) c->num_blocks = song ? 4 : 3;
  if (c->attn_resolutions.count == 1 && c->attn_resolutions.at[0] == 0)
    c->attn_resolutions = song ? (config_ints){1, song_sides} : (config_ints){3, dhariwal_sides};
}

void edm_fit(edm_config *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes) {
  type_defaults(c);
  if (!c->img_resolution) c->img_resolution = height > width ? height : width;
  if (!c->in_channels) c->in_channels = in_channels;
  if (!c->out_channels) c->out_channels = out_channels;
  if (!c->label_dim) c->label_dim = classes;
}

elbo_status edm_config_read(elbo_ctx *ctx, arena *a, const char *path, edm_config *out) {
  TRY(config_file_read(ctx, a, &edm_table, &edm_form, path, out));
  type_defaults(out);
  if (!out->img_resolution) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: img_resolution: missing or 0", path);
  if (!out->in_channels) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: in_channels: missing or 0", path);
  if (!out->out_channels) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: out_channels: missing or 0", path);
  return ELBO_OK;
}

elbo_status edm_config_write(elbo_ctx *ctx, const char *path, const edm_config *c) {
  return config_file_write(ctx, &edm_table, &edm_form, c, path);
}

denoiser_needs edm_needs(const edm_config *c) {
  bool classes = c->label_dim > 0;
  return (denoiser_needs){.in_channels = c->in_channels,
                          .out_channels = c->out_channels,
                          .class_labels = classes ? CLASS_INPUT_INDEX : CLASS_INPUT_NONE,
                          .classes = classes ? c->label_dim + 1 : 0,
                          .null_class = classes,
                          .class_dim = c->label_dim};
}

bool edm_is_derived(const char *name) {
  static const char suffix[] = ".resample_filter";
  size_t n = strlen(name), m = sizeof suffix - 1;
  return n > m && strcmp(name + n - m, suffix) == 0;
}

static elbo_status check_filter(elbo_ctx *ctx, const edm_config *c, const char *where) {
  const config_ints *f = &c->resample_filter;
  bool pair = f->count == 2 && f->at[0] == 1 && f->at[1] == 1;
  bool four = f->count == 4 && f->at[0] == 1 && f->at[1] == 3 && f->at[2] == 3 && f->at[3] == 1;
  return pair || four ? ELBO_OK : fail(ctx, ELBO_ERROR_ARGUMENT, "%s.resample_filter: expected [1, 1] or [1, 3, 3, 1]", where);
}

// Keys that DhariwalUNet has not
static elbo_status check_dhariwal(elbo_ctx *ctx, const edm_config *c, const char *where) {
  const char *key = c->embedding_type != EDM_POSITIONAL       ? "embedding_type"
                    : c->channel_mult_noise != 1              ? "channel_mult_noise"
                    : c->encoder_type != EDM_ENCODER_STANDARD ? "encoder_type"
                    : c->decoder_type != EDM_DECODER_STANDARD ? "decoder_type"
                    : c->resample_filter.count != 2           ? "resample_filter"
                                                              : NULL;
  return key ? fail(ctx, ELBO_ERROR_ARGUMENT, "%s.%s: only SongUNet has a choice; leave it at its default", where, key) : ELBO_OK;
}

static elbo_tensor *build(const void *config, const denoiser_inputs *in) { return edm_network(config, in); }

elbo_status edm_check(elbo_ctx *ctx, const edm_config *c, int64_t height, int64_t width, int64_t channels, const char *where) {
  const denoiser_needs needs = edm_needs(c);
  TRY(denoiser_sizes_check(ctx, where, &needs, height, width, channels));
  TRY(check_filter(ctx, c, where));
  if (c->model_type == EDM_DHARIWAL) TRY(check_dhariwal(ctx, c, where));
  int halvings = (int)c->channel_mult.count - 1;
  if (halvings > 16) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.channel_mult: %d entries; expected at most 17", where, halvings + 1);
  int64_t step = (int64_t)1 << halvings;
  if (height % step || width % step)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s.channel_mult: a %lldx%lld picture cannot be halved %d times; expected multiples of %lld (data.size)", where,
                (long long)height, (long long)width, halvings, (long long)step);
  if (c->img_resolution % step || c->img_resolution == 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.img_resolution: %lld cannot be halved %d times", where, (long long)c->img_resolution,
                halvings);
  if (c->model_channels * c->channel_mult_noise % 2 || c->model_channels < 4)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.model_channels: %lld; expected an even number of at least 4", where,
                (long long)c->model_channels);
  return denoiser_trial(ctx, where, &needs, height, width, build, c, NULL);
}
