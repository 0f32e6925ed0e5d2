#include "graph/store_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/file.h"
#include "core/memory.h"

struct store_memory {
  void *lender;
  void (*give_back)(void *lender);
  store_memory *next;
};

elbo_status store_add_lender(elbo_store *s, void *lender, void (*give_back)(void *lender)) {
  store_memory *m = arena_alloc(s->arena, sizeof *m);
  if (!m) {
    give_back(lender);
    return fail_memory(s->ctx, sizeof *m, "a store");
  }
  *m = (store_memory){lender, give_back, s->memory};
  s->memory = m;
  return ELBO_OK;
}

void store_release_memory(elbo_store *s) {
  for (store_memory *m = s->memory; m; m = m->next) m->give_back(m->lender);
  s->memory = NULL;
}

elbo_status store_create_unfilled(elbo_ctx *ctx, int n_graphs, elbo_graph *const *graphs, elbo_store **out) {
  *out = NULL;
  node **nodes = NULL;
  int n = 0;
  TRY(store_collect(ctx, n_graphs, graphs, &nodes, &n));
  elbo_status status = store_new(ctx, n, nodes, out);
  free(nodes);
  return status;
}

void store_lend(elbo_store *s, int i, const float *values, bool mapped) {
  s->entries[i].at = (float *)(uintptr_t)values; // a store lends them to plans, which read
  s->entries[i].mapped = mapped;
}

elbo_status store_own(elbo_store *s, int i) {
  void *memory;
  TRY(aligned_new(s->ctx, sizeof(float) * (size_t)s->entries[i].count, s->entries[i].name, &memory));
  TRY(store_add_lender(s, memory, aligned_free));
  s->entries[i].at = memory;
  return ELBO_OK;
}

elbo_status store_check_filled(const elbo_store *s) {
  for (int i = 0; i < s->n; i++)
    if (!s->entries[i].at) return fail(s->ctx, ELBO_ERROR_INTERNAL, "parameter %s was given no values", s->entries[i].name);
  return ELBO_OK;
}

void store_forget_pages(const elbo_store *s, int i) {
  const store_entry *e = &s->entries[i];
  if (!e->mapped) return;
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)e->at + page - 1) / page * page,
            end = (uintptr_t)(e->at + e->count) / page * page;
  if (end > begin) madvise((void *)begin, end - begin, MADV_DONTNEED); // a hint: it does not matter whether it is taken
}

// --- a file without a name ---

typedef struct nameless_file {
  void *map;
  size_t size;
} nameless_file;

static void unmap_nameless(void *lender) {
  nameless_file *f = lender;
  file_unmap(f->map, f->size);
  free(f);
}

static elbo_status map_nameless(elbo_ctx *ctx, size_t size, nameless_file **out) {
  nameless_file *f = calloc(1, sizeof *f);
  if (!f) return fail_memory(ctx, sizeof *f, "a file of weights");
  f->size = size;
  elbo_status status = file_map_nameless(ctx, NULL, size, &f->map);
  if (status != ELBO_OK)
    free(f);
  else
    *out = f;
  return status;
}

elbo_status store_create_in_file(elbo_ctx *ctx, int n_graphs, elbo_graph *const *graphs, uint64_t seed, elbo_store **out) {
  *out = NULL;
  node **nodes = NULL;
  int n = 0;
  elbo_store *s = NULL;
  nameless_file *file = NULL;
  elbo_status status;
  TRY(store_collect(ctx, n_graphs, graphs, &nodes, &n));
  TRY_GOTO(store_new(ctx, n, nodes, &s));
  int64_t at = 0, total = s->count[0] + s->count[1] + s->count[2];
  if (total) {
    TRY_GOTO(map_nameless(ctx, sizeof(float) * (size_t)total, &file));
    TRY_GOTO(store_add_lender(s, file, unmap_nameless));
  }
  for (int i = 0; i < n; i++) {
    float *values = (float *)file->map + at;
    store_initialise(ctx, nodes[i], seed, values);
    store_lend(s, i, values, true);
    store_forget_pages(s, i); // shared pages: what was written stays with the file
    at += (s->entries[i].count + 15) / 16 * 16;
  }
  *out = s, s = NULL;
fail:
  elbo_store_destroy(&s);
  free(nodes);
  return status;
}
