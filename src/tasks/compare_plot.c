// Quality against time per sample: both axes logarithmic, one line a model, each named where it ends.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/compare.h"
#include "tasks/report.h"

enum {
  WIDTH = 760,
  HEIGHT = 380,
  LEFT = 56,
  RIGHT = 150,
  TOP = 14,
  BOTTOM = 44,
  LABEL = 14,
  COLOURS = 8,
  MOST_ROWS = 2 * ELBO_COMPARE_MODELS
};

typedef struct axis {
  double low, high; // logarithms
  double from, to;  // pixels
} axis;

static double place(const axis *a, double v) { return a->from + (log10(v) - a->low) / (a->high - a->low) * (a->to - a->from); }

static double number_of(const json_t *point, const char *key) {
  const json_t *v = json_object_get(point, key);
  return json_is_number(v) ? json_number_value(v) : NAN;
}

static void widen(axis *a, double v) {
  if (!(v > 0) || !isfinite(v)) return;
  a->low = fmin(a->low, log10(v)), a->high = fmax(a->high, log10(v));
}

static double floor_of(const comparison *c) {
  for (int i = 0; compare_row(c, i); i++) {
    double v = number_of(json_object_get(json_object_get(compare_row(c, i), "values"), "fid_floor"), "value");
    if (v > 0) return v;
  }
  return NAN;
}

static int fit(const comparison *c, axis *x, axis *y) {
  int points = 0;
  *x = (axis){INFINITY, -INFINITY, LEFT, WIDTH - RIGHT}, *y = (axis){INFINITY, -INFINITY, HEIGHT - BOTTOM, TOP};
  for (int i = 0; compare_row(c, i); i++) {
    const json_t *points_of = json_object_get(compare_row(c, i), "curve");
    for (size_t k = 0; k < json_array_size(points_of); k++, points++) {
      const json_t *p = json_array_get(points_of, k);
      widen(x, number_of(p, "seconds_per_sample")), widen(y, number_of(p, "fid"));
    }
  }
  widen(y, floor_of(c));
  axis *both[2] = {x, y};
  for (int i = 0; i < 2; i++) {
    double range = both[i]->high - both[i]->low, pad = fmax(0.06 * range, (1 - range) / 2); // a decade at least
    both[i]->low -= pad, both[i]->high += pad;
  }
  return points;
}

static void time_text(double seconds, char *text, size_t size) {
  if (seconds < 0.9999e-3)
    snprintf(text, size, "%.3g \xc2\xb5s", seconds * 1e6);
  else if (seconds < 0.9999)
    snprintf(text, size, "%.3g ms", seconds * 1e3);
  else
    snprintf(text, size, "%.3g s", seconds);
}

// Lines at 1, 2 and 5 of every decade, or at 1 alone where that would be many.
static void add_ticks(text_buffer *page, const axis *a, bool horizontal) {
  static const double steps[] = {1, 2, 5};
  char text[32];
  int each = a->high - a->low > 3.2 ? 1 : 3;
  for (int decade = (int)floor(a->low); decade <= (int)ceil(a->high); decade++)
    for (int i = 0; i < each; i++) {
      double v = steps[i] * pow(10, decade), at = place(a, v);
      if (log10(v) < a->low || log10(v) > a->high) continue;
      if (horizontal) {
        time_text(v, text, sizeof text);
        text_add(page, "<path class=\"axis\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", at, TOP,
                 HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 16, text);
      } else
        text_add(page, "<path class=\"axis\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>", LEFT, at,
                 WIDTH - RIGHT, LEFT - 7, at + 4, v);
    }
}

static void add_line(text_buffer *page, const json_t *row, const axis *x, const axis *y, int colour) {
  const json_t *points_of = json_object_get(row, "curve");
  char time[32];
  text_add(page, "<g class=\"c%d\"><path class=\"curve\" d=\"", colour);
  for (size_t k = 0; k < json_array_size(points_of); k++) {
    const json_t *p = json_array_get(points_of, k);
    text_add(page, "%c%.1f %.1f", k ? 'L' : 'M', place(x, number_of(p, "seconds_per_sample")), place(y, number_of(p, "fid")));
  }
  text_add(page, "\"/>");
  for (size_t k = 0; k < json_array_size(points_of); k++) {
    const json_t *p = json_array_get(points_of, k);
    double at = place(x, number_of(p, "seconds_per_sample")), fid = number_of(p, "fid"), error = number_of(p, "stderr");
    if (error > 0 && error < fid)
      text_add(page, "<path class=\"curve\" d=\"M%.1f %.1fV%.1f\"/>", at, place(y, fid - error), place(y, fid + error));
    time_text(number_of(p, "seconds_per_sample"), time, sizeof time);
    text_add(page, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>", at, place(y, fid));
    html_add_text(page, json_string_value(json_object_get(row, "name")));
    text_add(page, ": %g calls, %s, FID %.4g</title></circle>", number_of(p, "calls"), time, fid);
  }
  text_add(page, "</g>");
}

typedef struct name_place {
  const char *name;
  double x, y, at; // of the point; of the text
  int colour;
} name_place;

static int by_height(const void *a, const void *b) {
  const name_place *p = a, *q = b;
  return (p->y > q->y) - (p->y < q->y);
}

// Names stand right of the last points, moved apart where they would lie on each other.
static void add_names(text_buffer *page, name_place *names, int n) {
  qsort(names, (size_t)n, sizeof *names, by_height);
  for (int i = 0; i < n; i++) {
    names[i].at = names[i].y;
    for (int k = 0; k < i; k++)
      if (fabs(names[k].x - names[i].x) < RIGHT && names[i].at < names[k].at + LABEL) names[i].at = names[k].at + LABEL;
    text_add(page, "<text class=\"name c%d\" x=\"%.1f\" y=\"%.1f\">", names[i].colour, names[i].x + 9, names[i].at + 4);
    html_add_text(page, names[i].name);
    text_add(page, "</text>");
  }
}

void compare_add_plot(const comparison *c, text_buffer *page) {
  axis x, y;
  name_place names[MOST_ROWS];
  double real = floor_of(c);
  int n = 0;
  if (!fit(c, &x, &y)) return;
  text_add(page,
           "<h2>Quality against time</h2><p class=\"soft\">FID over the time that one sample takes on this machine, both on logarithmic "
           "scales; lower and further left is better. A line joins fewer and more calls of one model.</p>\n"
           "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\"><title>FID over seconds a sample</title>",
           WIDTH, HEIGHT);
  add_ticks(page, &x, true);
  add_ticks(page, &y, false);
  if (isfinite(real))
    text_add(page, "<path class=\"real\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\">real pictures</text>", LEFT, place(&y, real),
             WIDTH - RIGHT, WIDTH - RIGHT + 6, place(&y, real) + 4);
  for (int i = 0; compare_row(c, i); i++) {
    const json_t *row = compare_row(c, i), *points_of = json_object_get(row, "curve");
    size_t points = json_array_size(points_of);
    if (!points || n == MOST_ROWS) continue;
    add_line(page, row, &x, &y, n % COLOURS);
    const json_t *last = json_array_get(points_of, points - 1);
    names[n] = (name_place){json_string_value(json_object_get(row, "name")), place(&x, number_of(last, "seconds_per_sample")),
                            place(&y, number_of(last, "fid")), 0, n % COLOURS};
    n++;
  }
  add_names(page, names, n);
  text_add(page,
           "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">time per sample</text><text x=\"14\" y=\"%d\" transform=\"rotate(-90 14 "
           "%d)\" text-anchor=\"middle\">FID</text></svg>\n",
           (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, (TOP + HEIGHT - BOTTOM) / 2, (TOP + HEIGHT - BOTTOM) / 2);
}
