#include "tasks/edit_attributes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "core/memory.h"
#include "data/shapes.h"

static const attribute of_shapes[] = {{"figure", SHAPE_KINDS},
                                      {"colour", SHAPE_COLORS},
                                      {"ground", SHAPE_BACKGROUNDS},
                                      {"size", SHAPE_SIZES},
                                      {"position", SHAPE_CELLS *SHAPE_CELLS}};
enum { FIGURE, COLOUR, GROUND, SIZE, POSITION, OF_SHAPES };

elbo_status attributes_of_data(elbo_ctx *ctx, const elbo_dataset *data, attribute_set *out) {
  elbo_dataset_info info;
  elbo_dataset_get_info(data, &info);
  *out = (attribute_set){0};
  if (strcmp(info.format, "shapes") == 0 && info.channels == 3 && info.height >= 16) {
    out->shapes = true, out->n = OF_SHAPES;
    memcpy(out->at, of_shapes, sizeof of_shapes);
    return ELBO_OK;
  }
  if (info.classes < 2)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "edit: the data have no attributes: labels, or the built-in shapes in colour, were expected");
  out->n = 1, out->at[0] = (attribute){"class", info.classes};
  out->class_names = info.class_names, out->classes = info.classes;
  return ELBO_OK;
}

int attribute_find(elbo_ctx *ctx, const attribute_set *set, const char *name) {
  char all[256] = "";
  size_t used = 0;
  for (int i = 0; i < set->n; i++) {
    if (name && strcmp(name, set->at[i].name) == 0) return i;
    used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", set->at[i].name);
  }
  (void)fail(ctx, ELBO_ERROR_ARGUMENT, "edit: attribute '%s': the data have %s", name ? name : "", all);
  return -1;
}

void attribute_value_name(const attribute_set *set, int which, int value, char *out, size_t size) {
  const char *name = NULL;
  if (!set->shapes)
    name = set->class_names ? set->class_names[value] : NULL;
  else if (which == POSITION) { // "at the top left", "in the middle"
    name = SHAPE_PLACE_NAMES[value / SHAPE_CELLS][value % SHAPE_CELLS];
    name += strncmp(name, "at the ", 7) == 0 || strncmp(name, "in the ", 7) == 0 ? 7 : 0;
  } else {
    name = which == FIGURE   ? SHAPE_KIND_NAMES[value]
           : which == COLOUR ? SHAPE_COLOR_NAMES[value]
           : which == GROUND ? SHAPE_BACKGROUND_NAMES[value]
                             : SHAPE_SIZE_NAMES[value];
  }
  if (name)
    snprintf(out, size, "%s", name);
  else
    snprintf(out, size, "%d", value);
}

int attribute_value(elbo_ctx *ctx, const attribute_set *set, int which, const char *text) {
  char name[64], all[512] = "", *end;
  size_t used = 0;
  long number = strtol(text, &end, 10);
  if (end != text && !*end && number >= 0 && number < set->at[which].values) return (int)number;
  for (int v = 0; v < set->at[which].values; v++) {
    attribute_value_name(set, which, v, name, sizeof name);
    if (strcmp(name, text) == 0) return v;
    if (used < sizeof all) used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", v ? ", " : "", name);
  }
  (void)fail(ctx, ELBO_ERROR_ARGUMENT, "edit: %s '%s': one of %s was expected", set->at[which].name, text, all);
  return -1;
}

typedef struct reading {
  const elbo_array *x;
  int16_t *values;
  float *scratch; // (threads, 2 side side)
  uint8_t *bytes; // (threads, side side 3)
} reading;

static void read_part(void *arg, int id, int count) {
  const reading *r = arg;
  const int64_t side = r->x->dim[1], size = side * side * 3;
  int64_t begin, end;
  uint8_t *rgb = r->bytes + id * size;
  split_range(r->x->dim[0], id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    const float *v = (const float *)r->x->data + i * size;
    int16_t *to = r->values + i * OF_SHAPES;
    shape_scene scene;
    for (int64_t k = 0; k < size; k++) rgb[k] = (uint8_t)lrint(255 * fmin(1, fmax(0, (double)v[k])));
    bool found = shape_read(rgb, (int)side, 0, r->scratch + id * 2 * side * side, &scene);
    to[FIGURE] = (int16_t)(found ? scene.kind : -1), to[COLOUR] = (int16_t)(found ? scene.color : -1);
    to[GROUND] = (int16_t)(found ? scene.background : -1), to[SIZE] = (int16_t)(found ? scene.size : -1);
    to[POSITION] = (int16_t)(found ? scene.row * SHAPE_CELLS + scene.column : -1);
  }
}

elbo_status attributes_read(elbo_ctx *ctx, const attribute_set *set, const elbo_array *x, const elbo_array *label, int16_t *values) {
  if (!set->shapes) {
    for (int64_t i = 0; i < x->dim[0]; i++) values[i] = (int16_t)(label ? ((const int32_t *)label->data)[i] : -1);
    return ELBO_OK;
  }
  const size_t threads = (size_t)pool_threads(&ctx->pool), pixels = (size_t)(x->dim[1] * x->dim[2]);
  reading r = {.x = x, .values = values};
  elbo_status status;
  TRY_GOTO(array_new(ctx, threads * pixels * 2, sizeof(float), "reading shapes", (void **)&r.scratch));
  TRY_GOTO(array_new(ctx, threads * pixels * 3, 1, "reading shapes", (void **)&r.bytes));
  parallel_run(&ctx->pool, read_part, &r);
fail:
  free(r.scratch);
  free(r.bytes);
  return status;
}
