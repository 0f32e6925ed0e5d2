// What is shown of every model: samples of one seed, reconstructions of the same pictures, walks between the same pairs.
#include <elbo/image.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "tasks/compare.h"
#include "tasks/report.h"

enum { SAMPLES = 64, SAMPLE_COLUMNS = 8, RECONSTRUCTED = 16, WALK_STEPS = 16, SIDE = 480, STRIP_SIDE = 900 };

// --- drawing them ---

// A copy of an array from the model's range to 0..1, or from there to it.
static elbo_status rescaled(comparison *c, const compared *m, const elbo_array *x, bool to_model, elbo_array **out) {
  TRY(elbo_array_convert(c->ctx, x, ELBO_F32, out));
  float *v = (*out)->data;
  double low = m->info.low, width = m->info.high > low ? m->info.high - low : 1;
  for (int64_t i = 0, n = elbo_array_count(*out); i < n; i++)
    v[i] = (float)(to_model ? low + (double)v[i] * width : ((double)v[i] - low) / width);
  return ELBO_OK;
}

static elbo_status take_unit(comparison *c, const compared *m, elbo_array **made, elbo_array **out) {
  elbo_array_destroy(out);
  elbo_status status = rescaled(c, m, *made, false, out);
  elbo_array_destroy(made);
  return status;
}

static elbo_status draw_samples(comparison *c, compared *m, const elbo_array *told) {
  elbo_sample_config s;
  elbo_array *x = NULL, rows;
  const char *options[SAMPLE_OPTIONS];
  drawing d = compare_drawing(m, c->config.calls, true, false);
  elbo_sample_defaults(&s);
  for (int i = 0; i < d.n; i++) options[i] = d.option[i];
  s.n = SAMPLES, s.seed = c->config.seed, s.n_options = d.n, s.options = options;
  s.progress = compare_progress, s.progress_user = c;
  if (m->info.condition_dim && told) {
    rows = *told, s.condition = &rows;
    if (rows.dim[0] < s.n) s.n = rows.dim[0];
    rows.dim[0] = s.n;
  }
  TRY(elbo_sample(m->model, &s, &x));
  return take_unit(c, m, &x, &m->samples);
}

static elbo_array part_of(const elbo_array *x, int64_t first, int64_t n) {
  elbo_array part = *x;
  part.dim[0] = n;
  part.data = (char *)x->data + (size_t)first * (elbo_array_bytes(x) / (size_t)x->dim[0]);
  return part;
}

static elbo_status reconstruct(comparison *c, compared *m, const elbo_array *x, const elbo_array *told) {
  elbo_array *y = NULL, in = part_of(x, 0, x->dim[0] < RECONSTRUCTED ? x->dim[0] : RECONSTRUCTED), label;
  if (told) label = part_of(told, 0, in.dim[0]);
  TRY(elbo_reconstruct(m->model, &in, told ? &label : NULL, 1, c->config.seed, &y)); // drawn, as what is measured is
  return take_unit(c, m, &y, &m->reconstructions);
}

// Of a kind without walks of its own: the line between the codes' means, decoded.
static elbo_status walk_codes(comparison *c, compared *m, const elbo_array *a, const elbo_array *b, elbo_array **out) {
  elbo_array *end[2] = {NULL, NULL}, *codes = NULL;
  elbo_status status;
  TRY_GOTO(elbo_encode(m->model, a, NULL, &end[0], NULL));
  TRY_GOTO(elbo_encode(m->model, b, NULL, &end[1], NULL));
  int64_t dim[ELBO_MAX_RANK], d = elbo_array_count(end[0]);
  memcpy(dim, end[0]->dim, sizeof dim);
  dim[0] = WALK_STEPS;
  TRY_GOTO(elbo_array_create(c->ctx, ELBO_F32, end[0]->rank, dim, &codes));
  const float *from = end[0]->data, *to = end[1]->data;
  for (int64_t i = 0; i < WALK_STEPS; i++)
    for (int64_t j = 0; j < d; j++) {
      float t = (float)i / (WALK_STEPS - 1);
      ((float *)codes->data)[i * d + j] = (1 - t) * from[j] + t * to[j];
    }
  status = elbo_decode(m->model, codes, NULL, out);
fail:
  elbo_array_destroy(&end[0]);
  elbo_array_destroy(&end[1]);
  elbo_array_destroy(&codes);
  return status;
}

// Walks of a class-conditional model stay in the class of their first end.
static elbo_status walk(comparison *c, compared *m, const elbo_array *x, const elbo_array *told, int i) {
  elbo_array *y = NULL, a = part_of(x, 2 * i, 1), b = part_of(x, 2 * i + 1, 1), ends;
  if (!m->model->kind->interpolate)
    TRY(walk_codes(c, m, &a, &b, &y));
  else if (m->info.condition_dim && told) {
    ends = part_of(told, 2 * i, 2);
    TRY(elbo_interpolate_conditioned(m->model, &a, &b, &ends, WALK_STEPS, &y));
  } else
    TRY(elbo_interpolate(m->model, &a, &b, m->info.classes && told ? ((const int32_t *)told->data)[2 * i] : -1, WALK_STEPS, &y));
  return take_unit(c, m, &y, &m->walk[i]);
}

static elbo_status read_inputs(comparison *c, compared *m, elbo_array **x, elbo_array **told) {
  elbo_array *label = NULL;
  TRY(elbo_dataset_read(m->data, c->split, 0, SAMPLES, 1, c->config.seed, x, m->info.classes ? &label : NULL));
  *told = label;
  if (m->info.condition_dim) TRY(elbo_dataset_read_condition(m->data, c->split, 0, SAMPLES, 1, c->config.seed, told));
  return ELBO_OK;
}

elbo_status compare_make_pictures(comparison *c, compared *m) {
  elbo_array *unit = NULL, *x = NULL, *told = NULL;
  elbo_status status = read_inputs(c, m, &unit, &told);
  if (status == ELBO_OK) status = rescaled(c, m, unit, true, &x);
  if (status == ELBO_OK) status = draw_samples(c, m, told);
  if (status == ELBO_OK && compare_encodes(m)) status = reconstruct(c, m, x, told);
  for (int i = 0; status == ELBO_OK && compare_encodes(m) && i < COMPARE_WALKS && 2 * i + 1 < x->dim[0]; i++)
    status = walk(c, m, x, told, i);
  if (status == ELBO_OK && !c->inputs) c->inputs = unit, unit = NULL;
  elbo_array_destroy(&unit);
  elbo_array_destroy(&x);
  elbo_array_destroy(&told);
  if (status == ELBO_OK || compare_stopped(c, status)) return status;
  snprintf(m->no_pictures, sizeof m->no_pictures, "%s", elbo_ctx_message(c->ctx));
  return ELBO_OK;
}

// --- showing them ---

static elbo_status add_grid(comparison *c, text_buffer *page, const elbo_array *x, int columns, int side, const char *what,
                            const char *name) {
  elbo_array *grid = NULL;
  char description[160];
  snprintf(description, sizeof description, "%s of %s", what, name);
  TRY(elbo_image_grid(c->ctx, x, columns, side, &grid));
  elbo_status status = html_add_picture(c->ctx, page, grid, description);
  elbo_array_destroy(&grid);
  return status;
}

static elbo_status add_samples(comparison *c, text_buffer *page) {
  text_add(page, "<h2>Samples</h2><p class=\"soft\">The first %d of seed %llu, none chosen.</p><div class=\"charts\">\n", SAMPLES,
           (unsigned long long)c->config.seed);
  for (int i = 0; i < c->n; i++) {
    const compared *m = &c->model[i];
    if (!m->samples && !m->no_pictures[0]) continue;
    text_add(page, "<figure><figcaption><span>");
    html_add_text(page, m->name);
    text_add(page, "</span></figcaption>");
    if (m->samples) TRY(add_grid(c, page, m->samples, SAMPLE_COLUMNS, SIDE, "samples", m->name));
    if (m->no_pictures[0]) {
      text_add(page, "<p class=\"soft\">%snot made: ", m->samples ? "some other pictures were " : "");
      html_add_text(page, m->no_pictures), text_add(page, "</p>");
    }
    text_add(page, "</figure>\n");
  }
  text_add(page, "</div>\n");
  return ELBO_OK;
}

static elbo_status add_strip(comparison *c, text_buffer *page, const elbo_array *x, const char *what, const char *name) {
  text_add(page, "<span>");
  html_add_text(page, name);
  text_add(page, "</span>");
  return add_grid(c, page, x, (int)x->dim[0], STRIP_SIDE, what, name);
}

static elbo_status add_reconstructions(comparison *c, text_buffer *page) {
  bool any = false;
  for (int i = 0; i < c->n; i++) any = any || c->model[i].reconstructions;
  if (!any || !c->inputs) return ELBO_OK;
  elbo_array originals = part_of(c->inputs, 0, c->inputs->dim[0] < RECONSTRUCTED ? c->inputs->dim[0] : RECONSTRUCTED);
  text_add(page,
           "<h2>Reconstructions</h2><p class=\"soft\">%s, decoded from a draw of their codes, by a diffusion from drawn noise.</p><div "
           "class=\"strips\">\n",
           c->split == ELBO_SPLIT_TRAIN ? "Pictures of the training set" : "Pictures that none was trained on");
  TRY(add_strip(c, page, &originals, "pictures", "originals"));
  for (int i = 0; i < c->n; i++)
    if (c->model[i].reconstructions) TRY(add_strip(c, page, c->model[i].reconstructions, "reconstructions", c->model[i].name));
  text_add(page, "</div>\n");
  return ELBO_OK;
}

static elbo_status add_walks(comparison *c, text_buffer *page) {
  bool any = false;
  for (int i = 0; i < c->n; i++) any = any || c->model[i].walk[0];
  if (!any) return ELBO_OK;
  text_add(page, "<h2>From one picture to another</h2><p class=\"soft\">The line between the codes of the same two pictures, and "
                 "where the decoder is a diffusion between the noises that lead to them.</p>\n");
  for (int k = 0; k < COMPARE_WALKS; k++) {
    text_add(page, "<div class=\"strips\">\n");
    for (int i = 0; i < c->n; i++)
      if (c->model[i].walk[k]) TRY(add_strip(c, page, c->model[i].walk[k], "a walk", c->model[i].name));
    text_add(page, "</div>\n");
  }
  return ELBO_OK;
}

elbo_status compare_add_pictures(comparison *c, text_buffer *page) {
  TRY(add_samples(c, page));
  TRY(add_reconstructions(c, page));
  return add_walks(c, page);
}
