// The page of a comparison: what was compared and how, the table, the plot, the pictures, the commands, the machine.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "tasks/compare.h"
#include "tasks/report.h"

static const char style[] =
    "<style>\n"
    "main{max-width:92rem}.wide{overflow-x:auto;margin:1rem 0}\n"
    "table.compare{font-size:.8rem;line-height:1.35;white-space:nowrap}\n"
    "table.compare td,table.compare th{padding:.45rem .5rem .45rem 0;text-align:right}table.compare .first{padding-left:.75rem}\n"
    "table.compare thead th{color:var(--soft);vertical-align:bottom;border:0}table.compare thead tr{border:0}\n"
    "table.compare thead tr:first-child th{text-align:left;padding-left:.75rem;border-bottom:1px solid var(--rule)}\n"
    "table.compare tbody{border-top:1px solid var(--rule)}table.compare tbody th{color:var(--ink);font-weight:600;text-align:left;"
    "padding-right:1.2rem;position:sticky;left:0;background:var(--ground)}\n"
    "table.compare .again{border-top:0}table.compare .again th{font-weight:400;padding-left:.9rem}\n"
    "table.compare small{display:block;color:var(--soft);font-size:.75rem;font-weight:400}table.compare b{font-weight:700}\n"
    ".label{white-space:normal;max-width:5.5rem;margin-left:auto}table.compare .stages,table.compare "
    "td.failed{text-align:left;padding-left:.75rem}td.failed{white-space:normal;color:var(--soft)}\n"
    "table.values{font-size:.85rem;margin:.6rem 0 1.2rem}table.values tr.made{border-top:0}table.values td{padding:.2rem 1rem .2rem 0}\n"
    ".plot{max-width:56rem}.curve{fill:none;stroke:currentColor;stroke-width:1.6}.plot circle{fill:currentColor}.plot .name{fill:"
    "currentColor;font-weight:600}.real{stroke:var(--soft);stroke-dasharray:2 4}.plot .axis{fill:none}\n"
    ".c0{color:#2f6fb3}.c1{color:#b4552d}.c2{color:#3c8a5b}.c3{color:#8a5aa8}.c4{color:#a8862a}.c5{color:#2b8c94}.c6{color:#b0436f}.c7{"
    "color:#68707a}@media(prefers-color-scheme:dark){.c0{color:#6ea8e0}.c1{color:#e0905f}.c2{color:#74c296}.c3{color:#c096dd}.c4{color:"
    "#d9bb62}.c5{color:#67c3cb}.c6{color:#e183a9}.c7{color:#98a1ab}}\n"
    ".charts img{margin-top:.3rem}.strips{display:grid;grid-template-columns:minmax(5rem,max-content) minmax(0,56rem);gap:.3rem "
    "1rem;align-items:center;font-size:.9rem;margin-bottom:1.2rem}\n"
    "code{font:12px/1.5 ui-monospace,monospace;color:var(--soft);overflow-wrap:anywhere}details{margin:.4rem 0}\n"
    "</style>\n";

static void add_budget(const comparison *c, text_buffer *page) {
  const elbo_compare_config *o = &c->config;
  if (o->budget_seconds > 0)
    text_add(page, "Each recipe was trained for %.4g s of steps and preparations, all of its stages, adversaries and priors included",
             o->budget_seconds);
  else if (o->budget_steps > 0)
    text_add(page, "Each recipe was trained for %lld steps, all of its stages together", (long long)o->budget_steps);
  else if (o->budget_flops > 0)
    text_add(page, "Each recipe was trained for %.4g FLOPs, all of its stages, adversaries and priors included", o->budget_flops);
  else
    text_add(page, "Each recipe was trained for as long as it says");
  text_add(page, "; sampling and evaluation are outside of that and timed separately. Runs that were given are as they are. ");
}

// The hash's first digits are enough to the eye; all of them are in the tip, and beside each number below.
static void add_network(text_buffer *page, const char *what, const char *named) {
  const char *hash = strstr(named, "sha256 ");
  if (!hash) return;
  text_add(page, " %s: <span title=\"", what);
  html_add_text(page, named);
  text_add(page, "\">%.*s…</span>", (int)(hash - named) + 23, named);
}

// One sentence for whatever is the same for all models.
static void add_introduction(const comparison *c, text_buffer *page) {
  static const char *const splits[] = {"training", "held-out", "test"};
  const elbo_compare_config *o = &c->config;
  text_add(page, "<title>Models compared</title></head><body><main>\n<h1>Models compared</h1><p class=\"soft\">");
  add_budget(c, page);
  text_add(page, "All are judged on the same 8-bit pixels, those of the %s pictures of ", splits[c->split]);
  html_add_text(page, o->data ? o->data : "the data that their recipes name");
  text_add(page, ".</p>\n<p class=\"soft\">± is one standard error: of samples over ");
  text_add(page, o->seeds > 1 ? "%d drawings" : "parts of one drawing", o->seeds);
  text_add(
      page,
      ", of likelihood and reconstruction over %lld pictures, of speed over repetitions. Figures without it are counted, or clocked once. "
      "The best of a column is bold, with what its error does not tell from it; likelihoods are ranked only within their label.",
      (long long)o->limit);
  add_network(page, "Features", c->features);
  add_network(page, "Judge of obedience", c->judge);
  text_add(page, "</p>\n");
}

// What real pictures come to: the least that FID can be asked to be.
static void add_floor(const comparison *c, text_buffer *page) {
  for (int i = 0; compare_row(c, i); i++) {
    const json_t *values = json_object_get(compare_row(c, i), "values"), *fid = json_object_get(values, "fid_floor");
    if (!json_is_number(json_object_get(fid, "value"))) continue;
    text_add(page,
             "<p class=\"soft\">Other real pictures against the same reference: FID %.3g, KID %.3g, precision %.3f, recall %.3f, at "
             "n = %lld.</p>\n",
             json_number_value(json_object_get(fid, "value")),
             json_number_value(json_object_get(json_object_get(values, "kid_floor"), "value")),
             json_number_value(json_object_get(json_object_get(values, "precision_floor"), "value")),
             json_number_value(json_object_get(json_object_get(values, "recall_floor"), "value")),
             (long long)json_integer_value(json_object_get(fid, "n")));
    return;
  }
}

elbo_status compare_write_page(comparison *c) {
  text_buffer page = {0};
  char *machine = NULL;
  text_add(&page, "%s%s", html_head, style);
  add_introduction(c, &page);
  compare_add_table(c, &page);
  add_floor(c, &page);
  compare_add_plot(c, &page);
  elbo_status status = compare_add_pictures(c, &page);
  compare_add_commands(c, &page);
  if (elbo_describe_build(c->ctx, 0, &machine) == ELBO_OK) {
    text_add(&page, "<h2>Machine</h2><pre>");
    html_add_text(&page, machine);
    text_add(&page, "</pre>\n");
  }
  free(machine);
  text_add(&page, "</main></body></html>\n");
  if (status == ELBO_OK && page.failed) status = fail(c->ctx, ELBO_ERROR_MEMORY, "out of memory for a page");
  if (status == ELBO_OK) status = file_write(c->ctx, c->config.out, page.at, page.length);
  free(text_take(&page));
  return status;
}
