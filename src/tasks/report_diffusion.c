// What a report shows of a diffusion model alone: its noise schedule, and for points in the plane its density beside samples and data.
#include <math.h>
#include <stdlib.h>

#include <elbo/image.h>

#include "core/memory.h"
#include "models/diffusion_density.h"
#include "tasks/report.h"

enum { CELLS = 64, PANEL = 3 * CELLS, SCHEDULE_POINTS = 49, POINTS = 2000 };

void report_schedule(const elbo_model *m, text_buffer *page) {
  double t[SCHEDULE_POINTS], logsnr[SCHEDULE_POINTS], share[SCHEDULE_POINTS];
  for (int i = 0; i < SCHEDULE_POINTS; i++) {
    t[i] = (double)i / (SCHEDULE_POINTS - 1);
    process_point q = process_at(m->diffusion->process, t[i]);
    logsnr[i] = q.logsnr, share[i] = q.alpha * q.alpha / (q.alpha * q.alpha + q.sigma * q.sigma);
  }
  const bool learned = m->diffusion->spec.model.process.type == PROCESS_LEARNED;
  text_add(page, "<h2>How noise comes in</h2><p class=\"soft\">%s</p><div class=\"charts\">\n",
           learned ? "The schedule that was learned with the network, from data (t = 0) to noise (t = 1)."
                   : "The process, from data (t = 0) to noise (t = 1).");
  html_add_curve(page, &(curve){.name = "log-SNR", .x_name = "t =", .n = SCHEDULE_POINTS, .x = t, .y = logsnr});
  html_add_curve(page, &(curve){.name = "share of the signal", .x_name = "t =", .n = SCHEDULE_POINTS, .x = t, .y = share});
  text_add(page, "</div>\n");
}

static elbo_status draw_density(elbo_model *m, double reach, float *panel) {
  double *density = NULL, highest = 0;
  TRY(array_new(m->ctx, (size_t)CELLS * CELLS, sizeof(double), "a density", (void **)&density));
  elbo_status status = density_grid(m, reach, CELLS, NULL, NULL, density);
  for (int64_t i = 0; i < CELLS * CELLS; i++) highest = fmax(highest, density[i]);
  for (int64_t i = 0; status == ELBO_OK && i < PANEL * PANEL; i++) { // roots, so that thin parts are seen
    int64_t row = (PANEL - 1 - i / PANEL) * CELLS / PANEL, column = i % PANEL * CELLS / PANEL;
    panel[i] = (float)(1 - sqrt(density[row * CELLS + column] / (highest > 0 ? highest : 1)));
  }
  free(density);
  return status;
}

elbo_status report_plane(elbo_model *m, const elbo_array *points, uint64_t seed, text_buffer *page) {
  elbo_array *x = NULL, *panels = NULL, *grid = NULL;
  elbo_sample_config config;
  elbo_status status;
  double reach = density_reach(points->data, points->dim[0]);
  elbo_sample_defaults(&config);
  config.n = POINTS, config.seed = seed;
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){3, PANEL, PANEL, 1}, &panels));
  float *panel = panels->data;
  TRY_GOTO(draw_density(m, reach, panel));
  TRY_GOTO(elbo_sample(m, &config, &x));
  density_points(x->data, x->dim[0], reach, PANEL, panel + PANEL * PANEL);
  density_points(points->data, points->dim[0], reach, PANEL, panel + 2 * PANEL * PANEL);
  TRY_GOTO(elbo_image_grid(m->ctx, panels, 3, 0, &grid));
  TRY_GOTO(html_add_picture(m->ctx, page, grid, "density of the model, samples, data"));
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&panels);
  elbo_array_destroy(&grid);
  return status;
}
