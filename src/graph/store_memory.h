// Stores of weights for use alone, whose values lie where they are: in the pages of a mapped file, which processes share. Nothing may write
// to them.
#ifndef GRAPH_STORE_MEMORY_H
#define GRAPH_STORE_MEMORY_H

#include "graph/store.h"

// The parameters of the graphs without values: store_lend or store_own gives each of them its own, before the store is used.
elbo_status store_create_unfilled(elbo_ctx *ctx, int n_graphs, elbo_graph *const *graphs, elbo_store **out);
// Parameter i has these values. mapped: they are clean pages of a file.
void store_lend(elbo_store *s, int i, const float *values, bool mapped);
// Memory of the store's own for parameter i, to be written; zeros.
elbo_status store_own(elbo_store *s, int i);
// Whose lent memory is: given back when the store is destroyed, and at once on failure.
elbo_status store_add_lender(elbo_store *s, void *lender, void (*give_back)(void *lender));
// ELBO_ERROR_INTERNAL, naming a parameter without values.
elbo_status store_check_filled(const elbo_store *s);
// The same parameters and values as elbo_store_create draws, in a file that has no name and ends with the store.
elbo_status store_create_in_file(elbo_ctx *ctx, int n_graphs, elbo_graph *const *graphs, uint64_t seed, elbo_store **out);

// Lets go of the pages of parameter i where it is mapped: for readers that have copied them.
void store_forget_pages(const elbo_store *s, int i);

// --- of store.c ---
// The parameters of graphs, each once, by kind and name; free() the list.
elbo_status store_collect(elbo_ctx *ctx, int n_graphs, elbo_graph *const *graphs, node ***out, int *n_out);
elbo_status store_new(elbo_ctx *ctx, int n, node *const *nodes, elbo_store **out);
void store_initialise(elbo_ctx *ctx, const node *leaf, uint64_t seed, float *to);
void store_release_memory(elbo_store *s);

#endif
