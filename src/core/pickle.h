// Files written by torch.save (.pth, .pt, .ckpt, .bin), read without executing anything: the zip of PyTorch 1.6 and later, and the row of
// pickles of earlier ones. Tensors and parameters of every float and integer type, views and shared storages included, in dicts, lists
// and tuples; a file that asks for anything else is refused with the name of what it asks for. Hardened as safetensors are: every length,
// offset and stride is checked, nothing is allocated beyond a small multiple of the file.
#ifndef CORE_PICKLE_H
#define CORE_PICKLE_H

#include <stdbool.h>

#include "core/safetensors.h"

typedef struct pickle pickle; // an open, mapped file: it must not be cut short by others meanwhile

// Tensors are found by the keys that lead to them, joined by dots: {"state_dict": {"conv.weight": t}} gives "state_dict.conv.weight"; items
// of lists and tuples are numbered from 0; a file that is one tensor calls it "tensor". What is no tensor is passed over.
elbo_status pickle_open(elbo_ctx *ctx, const char *path, pickle **out);
void pickle_close(pickle **file);
int64_t pickle_count(const pickle *file);
const tensor_view *pickle_at(const pickle *file, int64_t i); // in name order
const tensor_view *pickle_find(const pickle *file, const char *name);

// Whether a file that begins so may be one: a zip, or a binary pickle.
bool pickle_looks_like(const void *head, size_t size);

#endif
