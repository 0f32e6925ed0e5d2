// HTML of a report: escaped text, SVG curves and bars, pictures as data URIs. Nothing points outside of the page.
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "tasks/report.h"

const char html_head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, "
    "initial-scale=1\">\n"
    "<style>\n"
    ":root{--ink:#1d2126;--soft:#68707a;--rule:#e3e6ea;--ground:#fff;--mark:#2f6fb3;--pale:#c5d6e8}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--soft:#98a1ab;--rule:#31373e;--ground:#16191d;--mark:#6ea8e0;--pale:#33475c}}\n"
    "body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,sans-serif}\n"
    "main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}\n"
    "h1{font-size:1.7rem;font-weight:600;margin:0}h2{font-size:1.1rem;font-weight:600;margin:2.75rem 0 .4rem}\n"
    "p{margin:.3rem 0 .9rem;max-width:44rem}.soft{color:var(--soft)}\n"
    "img{max-width:100%;height:auto;width:100%;image-rendering:pixelated;border-radius:3px;display:block}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.25rem 1.4rem .25rem 0;text-align:left;font-weight:400;"
    "vertical-align:top}tr+tr{border-top:1px solid var(--rule)}th{color:var(--soft)}td.n{text-align:right;white-space:nowrap}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:1.2rem 1.6rem}figure{margin:0}\n"
    "figcaption{display:flex;justify-content:space-between;font-size:.9rem}\n"
    "svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font:11px system-ui,sans-serif}\n"
    ".line{fill:none;stroke:var(--mark);stroke-width:1.6;stroke-linejoin:round}.axis{stroke:var(--rule)}.bar{fill:var(--mark)}.low{fill:"
    "var(--pale)}\n"
    "pre{background:color-mix(in srgb,var(--ink) 5%,transparent);padding:1rem;overflow-x:auto;font:13px/1.5 "
    "ui-monospace,monospace;border-radius:3px}\n"
    "details summary{cursor:pointer;color:var(--soft)}\n"
    "</style>\n";

void html_add_text(text_buffer *out, const char *text) {
  for (; *text; text++) {
    if (*text == '&')
      text_add(out, "&amp;");
    else if (*text == '<')
      text_add(out, "&lt;");
    else if (*text == '>')
      text_add(out, "&gt;");
    else if (*text == '"')
      text_add(out, "&quot;");
    else
      text_add(out, "%c", *text);
  }
}

// --- drawings ---

enum { CHART_W = 320, CHART_H = 150, CHART_LEFT = 44, CHART_BOTTOM = 18, CHART_TOP = 8, MOST_POINTS = 300 };

void html_add_curve(text_buffer *out, const curve *c) {
  double low = INFINITY, high = -INFINITY, last = NAN;
  int64_t settled = c->n > 20 ? c->n / 50 : 0; // the first points, far off, would press the rest flat
  for (int64_t i = settled; i < c->n; i++) {
    if (!isfinite(c->y[i])) continue;
    low = fmin(low, c->y[i]), high = fmax(high, c->y[i]), last = c->y[i];
  }
  if (!isfinite(low)) return;
  if (low == high && c->n > 2) return; // a setting that never moved
  double x0 = c->x[0], x1 = c->x[c->n - 1], pad = high > low ? 0.04 * (high - low) : fmax(1e-9, 0.1 * fabs(low));
  double bottom = low - pad, top = high + pad;
  if (fabs(low) < 1e-6 * fabs(high)) low = 0; // as it is written, not as it is drawn
  if (fabs(last) < 1e-6 * fabs(high)) last = 0;
  text_add(out, "<figure><figcaption><span>");
  html_add_text(out, c->name);
  text_add(out, "</span><span class=\"soft\">%.5g ", last);
  html_add_text(out, c->unit ? c->unit : "");
  text_add(out, "</span></figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\">", CHART_W, CHART_H);
  int floor = CHART_H - CHART_BOTTOM;
  text_add(out, "<path class=\"axis\" fill=\"none\" d=\"M%d %dV%dH%d\"/>", CHART_LEFT, CHART_TOP, floor, CHART_W);
  text_add(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3g</text><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3g</text>",
           CHART_LEFT - 5, CHART_TOP + 8, high, CHART_LEFT - 5, floor, low);
  text_add(out, "<text x=\"%d\" y=\"%d\">%.6g</text><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s %.7g</text>", CHART_LEFT, CHART_H - 4,
           x0, CHART_W, CHART_H - 4, c->x_name ? c->x_name : "step", x1);
  text_add(out, "<path class=\"line\" d=\"");
  int64_t each = (c->n + MOST_POINTS - 1) / MOST_POINTS; // points averaged into one
  bool pen = false;
  for (int64_t i = 0; i < c->n; i += each) {
    double sum = 0, at = 0;
    int64_t count = 0;
    for (int64_t j = i; j < i + each && j < c->n; j++)
      if (isfinite(c->y[j])) sum += c->y[j], at += c->x[j], count++;
    if (!count) {
      pen = false;
      continue;
    }
    double px = CHART_LEFT + (x1 > x0 ? (at / (double)count - x0) / (x1 - x0) : 0.5) * (CHART_W - CHART_LEFT);
    double py = CHART_TOP + (top - fmin(fmax(sum / (double)count, bottom), top)) / (top - bottom) * (floor - CHART_TOP);
    text_add(out, "%c%.1f %.1f", pen ? 'L' : 'M', px, py);
    pen = true;
  }
  text_add(out, "\"/></svg></figure>\n");
}

static int descending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x < y) - (x > y);
}

void html_add_bars(text_buffer *out, int64_t n, const double *values, const char *unit, double threshold) {
  double *sorted = n > 0 ? malloc((size_t)n * sizeof *sorted) : NULL;
  if (!sorted) return;
  memcpy(sorted, values, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, descending);
  double high = sorted[0] > 0 ? sorted[0] : 1, width = n < 32 ? 20 : 640.0 / (double)n;
  text_add(out, "<svg viewBox=\"0 0 680 170\" role=\"img\"><path class=\"axis\" fill=\"none\" d=\"M36 8V150H680\"/>");
  text_add(out, "<text x=\"31\" y=\"16\" text-anchor=\"end\">%.3g</text><text x=\"31\" y=\"150\" text-anchor=\"end\">0</text>", high);
  text_add(out, "<text x=\"36\" y=\"166\">dimensions, the largest first; ");
  html_add_text(out, unit);
  text_add(out, "</text>");
  for (int64_t i = 0; i < n; i++) {
    double h = isfinite(sorted[i]) && sorted[i] > 0 ? 140 * sorted[i] / high : 0;
    text_add(out, "<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"><title>%.4g</title></rect>",
             sorted[i] >= threshold ? "bar" : "low", 38 + (double)i * width, 150 - h, width > 3 ? width - 1.5 : width * 0.8, h, sorted[i]);
  }
  text_add(out, "</svg>\n");
  free(sorted);
}

// --- pictures ---

static void add_base64(text_buffer *out, const unsigned char *data, size_t n) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  char line[4 * 256 + 1];
  for (size_t i = 0; i < n;) {
    size_t at = 0;
    for (; at < sizeof line - 1 && i < n; i += 3) {
      unsigned block = (unsigned)data[i] << 16 | (i + 1 < n ? (unsigned)data[i + 1] << 8 : 0) | (i + 2 < n ? data[i + 2] : 0);
      line[at++] = digits[block >> 18], line[at++] = digits[block >> 12 & 63];
      line[at++] = i + 1 < n ? digits[block >> 6 & 63] : '=', line[at++] = i + 2 < n ? digits[block & 63] : '=';
    }
    line[at] = 0;
    text_add(out, "%s", line);
  }
}

elbo_status html_add_picture(elbo_ctx *ctx, text_buffer *out, const elbo_array *picture, const char *description) {
  static const png_uint_32 formats[] = {0, PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB, PNG_FORMAT_RGBA};
  if (picture->rank != 3 || picture->dtype != ELBO_U8 || picture->dim[2] < 1 || picture->dim[2] > 4)
    return fail(ctx, ELBO_ERROR_INTERNAL, "a picture of a report has %d axes", picture->rank);
  png_image image = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)picture->dim[1],
                     .height = (png_uint_32)picture->dim[0],
                     .format = formats[picture->dim[2]]};
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image); // zlib's worst case
  void *memory;
  TRY(array_new(ctx, 1, size, "a picture of a report", &memory));
  elbo_status status = ELBO_OK;
  if (!png_image_write_to_memory(&image, memory, &size, 0, picture->data, 0, NULL))
    status = fail(ctx, ELBO_ERROR_INTERNAL, "a picture of a report: %s", image.message);
  else {
    text_add(out, "<img width=\"%lld\" height=\"%lld\" alt=\"", (long long)picture->dim[1], (long long)picture->dim[0]);
    html_add_text(out, description);
    text_add(out, "\" src=\"data:image/png;base64,");
    add_base64(out, memory, size);
    text_add(out, "\">\n");
  }
  free(memory);
  return status;
}
