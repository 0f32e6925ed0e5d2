// Attributes of examples: which there are, what their values are called, and who reads them.
#ifndef TASKS_EDIT_ATTRIBUTES_H
#define TASKS_EDIT_ATTRIBUTES_H

#include <stdbool.h>

#include <elbo/dataset.h>
#include <elbo/edit.h>

enum { MOST_VALUES = 1000 };

typedef struct attribute {
  const char *name;
  int values;
} attribute;

typedef struct attribute_set {
  bool shapes; // read from pictures by shape_read; else the labels of the data are all there is
  int n;
  attribute at[ELBO_EDIT_ATTRIBUTES];
  const char *const *class_names; // borrowed of the data; NULL
  int classes;
} attribute_set;

// Of the data; refuses those that have none.
elbo_status attributes_of_data(elbo_ctx *ctx, const elbo_dataset *data, attribute_set *out);
// -1, with the message set: no such attribute, no such value.
int attribute_find(elbo_ctx *ctx, const attribute_set *set, const char *name);
int attribute_value(elbo_ctx *ctx, const attribute_set *set, int which, const char *text);
void attribute_value_name(const attribute_set *set, int which, int value, char *out, size_t size);

// The values of each attribute of pictures x (n,H,W,C) in 0..1: values (n, set->n), -1 where nothing was read. label (n): the data's, or
// NULL: then a class is -1.
elbo_status attributes_read(elbo_ctx *ctx, const attribute_set *set, const elbo_array *x, const elbo_array *label, int16_t *values);

#endif
