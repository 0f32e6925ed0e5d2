// JPEG through libjpeg-turbo. The accurate integer transform and fancy upsampling are asked for by name, so that pixels do not depend on
// a build's defaults.
#include <stdio.h>
// after stdio.h, which it needs
#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "data/picture.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#ifdef LIBJPEG_TURBO_VERSION
#define JPEG_LIBRARY "libjpeg-turbo " TEXT(LIBJPEG_TURBO_VERSION)
#else
#define JPEG_LIBRARY "libjpeg " TEXT(JPEG_LIB_VERSION)
#endif

const char *jpeg_decoder_name(void) { return JPEG_LIBRARY ", islow, fancy upsampling"; }

typedef struct jpeg_guard {
  struct jpeg_error_mgr manager; // first: libjpeg hands us this address
  jmp_buf jump;
  char why[JMSG_LENGTH_MAX];
} jpeg_guard;

_Noreturn static void on_error(j_common_ptr c) {
  jpeg_guard *guard = (jpeg_guard *)c->err;
  guard->manager.format_message(c, guard->why);
  longjmp(guard->jump, 1);
}

// libjpeg invents what a damaged file lacks and calls it a warning: here it is an error, but for what harms no pixel.
static void on_message(j_common_ptr c, int level) {
  if (level >= 0) return;
  int code = c->err->msg_code;
  if (code != JWRN_EXTRANEOUS_DATA && code != JWRN_ADOBE_XFORM && code != JWRN_JFIF_MAJOR) on_error(c);
}

static void prepare_guard(jpeg_guard *guard) {
  memset(guard, 0, sizeof *guard);
  jpeg_std_error(&guard->manager);
  guard->manager.error_exit = on_error;
  guard->manager.emit_message = on_message;
}

static elbo_status decode_guarded(elbo_ctx *ctx, const char *name, struct jpeg_decompress_struct *c, jpeg_guard *guard, const void *bytes,
                                  size_t size, picture *out) {
  if (setjmp(guard->jump)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: JPEG: %s", name, guard->why);
  jpeg_create_decompress(c);
  c->mem->max_memory_to_use = 1L << 30; // progressive files hold all coefficients
  jpeg_mem_src(c, bytes, (unsigned long)size);
  jpeg_read_header(c, TRUE);
  if (c->num_components == 4 || c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: JPEG of four colours (CMYK)", name);
  c->out_color_space = c->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  c->dct_method = JDCT_ISLOW;
  c->do_fancy_upsampling = TRUE;
  TRY(picture_reserve(ctx, name, c->image_height, c->image_width, c->num_components == 1 ? 1 : 3, 8, out));
  jpeg_start_decompress(c);
  size_t stride = (size_t)out->width * (size_t)out->channels;
  while (c->output_scanline < c->output_height) {
    JSAMPROW row = (JSAMPROW)out->data + c->output_scanline * stride;
    jpeg_read_scanlines(c, &row, 1);
  }
  jpeg_finish_decompress(c);
  return ELBO_OK;
}

elbo_status jpeg_decode(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, picture *out) {
  struct jpeg_decompress_struct c;
  jpeg_guard guard;
  memset(&c, 0, sizeof c);
  prepare_guard(&guard);
  c.err = &guard.manager;
  elbo_status status = decode_guarded(ctx, name, &c, &guard, bytes, size, out);
  jpeg_destroy_decompress(&c);
  return status;
}

static elbo_status encode_guarded(elbo_ctx *ctx, const char *name, struct jpeg_compress_struct *c, jpeg_guard *guard, const picture *p,
                                  unsigned char **bytes, unsigned long *size) {
  if (setjmp(guard->jump)) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: JPEG: %s", name, guard->why);
  jpeg_create_compress(c);
  jpeg_mem_dest(c, bytes, size);
  c->image_width = (JDIMENSION)p->width;
  c->image_height = (JDIMENSION)p->height;
  c->input_components = p->channels;
  c->in_color_space = p->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(c);
  jpeg_set_quality(c, 95, TRUE);
  for (int i = 0; i < c->num_components; i++) c->comp_info[i].h_samp_factor = c->comp_info[i].v_samp_factor = 1; // 4:4:4
  c->dct_method = JDCT_ISLOW;
  jpeg_start_compress(c, TRUE);
  size_t stride = (size_t)p->width * (size_t)p->channels;
  while (c->next_scanline < c->image_height) {
    JSAMPROW row = (JSAMPROW)p->data + c->next_scanline * stride;
    jpeg_write_scanlines(c, &row, 1);
  }
  jpeg_finish_compress(c);
  return ELBO_OK;
}

elbo_status jpeg_encode(elbo_ctx *ctx, const char *name, const picture *p, void **bytes, size_t *size) {
  *bytes = NULL, *size = 0;
  if (p->bits != 8 || (p->channels != 1 && p->channels != 3))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: JPEG holds 1 or 3 channels of 8 bits; got %d of %d (use .png)", name, p->channels, p->bits);
  struct jpeg_compress_struct c;
  jpeg_guard guard;
  unsigned char *memory = NULL;
  unsigned long length = 0;
  memset(&c, 0, sizeof c);
  prepare_guard(&guard);
  c.err = &guard.manager;
  elbo_status status = encode_guarded(ctx, name, &c, &guard, p, &memory, &length);
  jpeg_destroy_compress(&c);
  if (status != ELBO_OK) {
    free(memory);
    return status;
  }
  *bytes = memory, *size = length;
  return ELBO_OK;
}
