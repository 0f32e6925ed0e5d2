// The loader. A ring of batches; each worker takes the next batch of the order, which is laid down one batch at a time under a lock of its
// own and so depends on the seed alone, decodes it, and marks it ready. The reader takes them in order. Nobody spins: workers sleep while
// the ring is full, the reader while the next batch is not ready.
#include "data/loader.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/philox.h"
#include "data/dataset.h"

typedef struct loader_slot {
  data_batch batch;
  float *x;                // (B,H,W,C)
  int32_t *label;          // (B) or NULL
  float *condition;        // (B,D), (B,N,D) or NULL
  float *weight;           // (B)
  int64_t *sample_index;   // (B)
  int64_t *example;        // (B)
  encoded_sample *encoded; // (B), walked parts only
  bool ready, end;
  elbo_status status;
  char *message;
} loader_slot;

struct loader {
  elbo_ctx *ctx;
  elbo_dataset *ds;
  loader_config config;
  int64_t n;       // examples of an epoch
  int64_t *subset; // (n) of the split, NULL: all
  const split_view *view;
  const example_part *part;
  size_t elements, stored_bytes;

  loader_slot *slot;
  int64_t slots;
  void *block; // all slots' tensors
  size_t block_bytes;

  // the order, behind order_lock
  pthread_mutex_t order_lock;
  int64_t position;          // samples handed out to slots
  int64_t *perm, perm_epoch; // of the epoch that position is in; -1: none
  void *walk;                // walked parts
  int64_t walk_epoch;        // -1: none
  int64_t walk_given;        // samples given of that epoch
  bool walk_over;
  encoded_sample *buffer; // (shuffle_buffer)
  int64_t buffered, buffer_capacity, draws;
  int64_t *to_split;          // (part count): place in the epoch, -1: not in it
  atomic_llong encoded_bytes; // in the buffer and in slots

  // the ring, behind ring_lock
  pthread_mutex_t ring_lock;
  pthread_cond_t room, ready;
  int64_t next_ticket, next_out;
  bool borrowed, exhausted, quit;
  int started;
  pthread_t *thread;
  int threads;
};

// --- the order ---------------------------------------------------------------------------------------------------------------------

static int64_t split_index(const loader *l, int64_t i) { return l->subset ? l->subset[i] : i; }
static int64_t part_index(const loader *l, int64_t split_i) { return l->view->index ? l->view->index[split_i] : split_i; }

static uint32_t epoch_stream(const char *name, int64_t epoch) { return philox_stream(name) + (uint32_t)epoch; }

static void close_walk(loader *l) {
  if (l->walk) l->part->walk_ops->end(l->walk);
  l->walk = NULL, l->walk_epoch = -1;
  for (int64_t i = 0; i < l->buffered; i++) encoded_sample_free(&l->buffer[i]);
  l->buffered = 0;
  atomic_store(&l->encoded_bytes, 0);
}

static elbo_status open_walk(loader *l, int64_t epoch) {
  close_walk(l);
  l->walk_given = l->draws = 0, l->walk_over = false;
  TRY(l->part->walk_ops->begin(l->part->source, l->ctx, l->config.shuffle, l->config.seed, epoch, &l->walk));
  l->walk_epoch = epoch;
  return ELBO_OK;
}

// The next sample of the walk that belongs to the split.
static elbo_status walk_next(loader *l, encoded_sample *out) {
  while (!l->walk_over) {
    *out = (encoded_sample){.label = -1};
    TRY(l->part->walk_ops->next(l->walk, l->ctx, out, &l->walk_over));
    if (l->walk_over) break;
    if (out->index >= 0 && out->index < l->part->count && l->to_split[out->index] >= 0) {
      atomic_fetch_add(&l->encoded_bytes, (long long)out->size);
      return ELBO_OK;
    }
    encoded_sample_free(out);
  }
  return ELBO_OK;
}

// One sample of the epoch: of the buffer when shuffling, of the walk itself otherwise.
static elbo_status take_walked(loader *l, int64_t epoch, encoded_sample *out) {
  if (l->walk_epoch != epoch) TRY(open_walk(l, epoch));
  int64_t keep = l->config.shuffle ? l->ds->config.shuffle_buffer : 1;
  while (l->buffered < keep && !l->walk_over) {
    TRY(array_grow(l->ctx, &l->buffer, &l->buffer_capacity, l->buffered + 1, sizeof *l->buffer));
    TRY(walk_next(l, &l->buffer[l->buffered]));
    if (!l->walk_over) l->buffered++;
  }
  if (l->buffered == 0)
    return fail(l->ctx, ELBO_ERROR_IO, "%s: changed while it was read: %lld examples where there were %lld", l->ds->path,
                (long long)l->walk_given, (long long)l->n);
  int64_t j = 0;
  if (l->config.shuffle)
    j = (int64_t)philox_below(l->config.seed, epoch_stream("shuffle_buffer", epoch), (uint64_t)l->draws++, (uint64_t)l->buffered);
  *out = l->buffer[j];
  l->buffer[j] = l->buffer[--l->buffered];
  l->walk_given++;
  return ELBO_OK;
}

// Lays down the examples of the next batch in `slot`.
static elbo_status assign_batch(loader *l, loader_slot *slot) {
  int64_t batch = l->config.batch_size;
  slot->end = false;
  slot->batch.count = 0;
  if (!l->config.shuffle && l->position >= l->n) {
    slot->end = true;
    return ELBO_OK;
  }
  for (int64_t b = 0; b < batch; b++) {
    bool padding = !l->config.shuffle && l->position >= l->n;
    int64_t epoch = l->position / l->n, at = l->position % l->n;
    slot->weight[b] = padding ? 0.0f : 1.0f;
    if (padding) {
      slot->sample_index[b] = slot->example[b] = -1;
      continue;
    }
    if (l->part->walk_ops) {
      TRY(take_walked(l, epoch, &slot->encoded[b]));
      slot->example[b] = l->to_split[slot->encoded[b].index];
    } else if (l->config.shuffle) {
      if (l->perm_epoch != epoch) {
        philox_permutation(l->config.seed, epoch_stream("epoch", epoch), l->n, l->perm);
        l->perm_epoch = epoch;
      }
      slot->example[b] = split_index(l, l->perm[at]);
    } else {
      slot->example[b] = split_index(l, at);
    }
    slot->sample_index[b] = l->config.shuffle ? l->position : slot->example[b];
    l->position++;
    slot->batch.count++;
  }
  return ELBO_OK;
}

// --- filling -----------------------------------------------------------------------------------------------------------------------

typedef struct fill_scratch {
  picture p, q;
  void *stored; // (H,W,C) as stored
} fill_scratch;

static elbo_status fill_one(loader *l, loader_slot *slot, int64_t b, fill_scratch *scratch) {
  float *x = slot->x + (size_t)b * l->elements;
  float *condition = slot->condition ? slot->condition + b * dataset_condition_size(l->ds) : NULL;
  if (slot->weight[b] == 0.0f) {
    memset(x, 0, l->elements * sizeof *x);
    if (slot->label) slot->label[b] = 0;
    if (condition) memset(condition, 0, (size_t)dataset_condition_size(l->ds) * sizeof *condition);
    return ELBO_OK;
  }
  const void *stored = scratch->stored;
  int32_t label = 0;
  int64_t index = part_index(l, slot->example[b]);
  if (condition) dataset_condition(l->ds, l->view->part, index, condition);
  if (l->part->walk_ops) {
    encoded_sample *s = &slot->encoded[b];
    label = l->part->label ? l->part->label[s->index] : 0;
    elbo_status status = dataset_decode(l->ds, s, &scratch->p, &scratch->q, scratch->stored);
    atomic_fetch_sub(&l->encoded_bytes, (long long)s->size);
    encoded_sample_free(s);
    if (status == ELBO_ERROR_FORMAT || status == ELBO_ERROR_UNSUPPORTED) { // an unreadable picture weighs nothing
      dataset_skip(l->ds, (elbo_split)l->view->part, index, elbo_ctx_message(l->ctx));
      TRY(dataset_check_skipped(l->ds, (elbo_split)l->view->part, l->part->count));
      memset(x, 0, l->elements * sizeof *x);
      slot->weight[b] = 0.0f;
      if (slot->label) slot->label[b] = 0;
      return ELBO_OK;
    }
    TRY(status);
  } else {
    TRY(dataset_stored(l->ds, l->view->part, index, scratch->stored, &stored, &label));
  }
  transform_draw draw = {.augment = l->config.augment, .seed = l->config.seed, .position = slot->sample_index[b], .index = index};
  transform_example(l->ds, stored, &draw, false, x);
  if (slot->label) slot->label[b] = label;
  return ELBO_OK;
}

static elbo_status fill_batch(loader *l, loader_slot *slot, fill_scratch *scratch) {
  elbo_status status = ELBO_OK;
  for (int64_t b = 0; b < l->config.batch_size && status == ELBO_OK; b++) status = fill_one(l, slot, b, scratch);
  for (int64_t b = 0; slot->encoded && b < l->config.batch_size; b++) encoded_sample_free(&slot->encoded[b]);
  return status;
}

static void *work(void *arg) {
  loader *l = arg;
  fill_scratch scratch = {.stored = calloc(1, l->stored_bytes)};
  for (;;) {
    pthread_mutex_lock(&l->order_lock);
    pthread_mutex_lock(&l->ring_lock);
    while (!l->quit && (l->exhausted || l->next_ticket - l->next_out >= l->slots)) pthread_cond_wait(&l->room, &l->ring_lock);
    bool quit = l->quit;
    loader_slot *slot = quit ? NULL : &l->slot[l->next_ticket++ % l->slots];
    pthread_mutex_unlock(&l->ring_lock);
    if (quit) {
      pthread_mutex_unlock(&l->order_lock);
      break;
    }
    elbo_status status = scratch.stored ? assign_batch(l, slot) : fail_memory(l->ctx, l->stored_bytes, "example");
    bool last = status != ELBO_OK || slot->end;
    if (last) { // before another worker can take a ticket
      pthread_mutex_lock(&l->ring_lock);
      l->exhausted = true;
      pthread_mutex_unlock(&l->ring_lock);
    }
    pthread_mutex_unlock(&l->order_lock);
    if (!last) status = fill_batch(l, slot, &scratch);
    char *message = status != ELBO_OK ? string_copy(elbo_ctx_message(l->ctx)) : NULL;
    pthread_mutex_lock(&l->ring_lock);
    slot->status = status, slot->message = message, slot->ready = true;
    pthread_cond_signal(&l->ready);
    pthread_mutex_unlock(&l->ring_lock);
  }
  picture_free(&scratch.p), picture_free(&scratch.q), free(scratch.stored);
  return NULL;
}

static elbo_status start_threads(loader *l) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); // signals are the program's business, not a worker's
  int code = 0;
  while (l->started < l->threads && code == 0) {
    code = pthread_create(&l->thread[l->started], NULL, work, l);
    l->started += code == 0;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (l->started == 0) return fail(l->ctx, ELBO_ERROR_MEMORY, "starting a loader thread: %s", strerror(code));
  return ELBO_OK;
}

static void stop_threads(loader *l) {
  pthread_mutex_lock(&l->ring_lock);
  l->quit = true;
  pthread_cond_broadcast(&l->room);
  pthread_mutex_unlock(&l->ring_lock);
  for (int i = 0; i < l->started; i++) pthread_join(l->thread[i], NULL);
  l->started = 0, l->quit = false;
}

// --- the calls ---------------------------------------------------------------------------------------------------------------------

static void add_field(loader_slot *slot, const char *name, elbo_dtype dtype, int rank, const int64_t *dim, void *data) {
  batch_field *f = &slot->batch.field[slot->batch.n_fields++];
  *f = (batch_field){.name = name, .dtype = dtype, .rank = rank, .data = data};
  memcpy(f->dim, dim, (size_t)rank * sizeof *dim);
}

static size_t rounded(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

static elbo_status make_slots(loader *l) {
  int h, w, c;
  dataset_output_shape(l->ds, &h, &w, &c);
  int64_t batch = l->config.batch_size, bytes;
  l->elements = (size_t)h * (size_t)w * (size_t)c;
  l->stored_bytes = dataset_example_bytes(l->ds);
  if (!checked_mul(batch, (int64_t)(l->elements * sizeof(float) + 64), &bytes) || !checked_mul(bytes, l->slots, &bytes))
    return fail(l->ctx, ELBO_ERROR_ARGUMENT, "batch_size %lld is too large", (long long)batch);
  size_t x_bytes = rounded((size_t)batch * l->elements * sizeof(float)), small = rounded((size_t)batch * 4),
         large = rounded((size_t)batch * 8);
  size_t vectors = rounded((size_t)batch * (size_t)dataset_condition_size(l->ds) * sizeof(float));
  l->block_bytes = (x_bytes + vectors + 2 * small + 2 * large) * (size_t)l->slots;
  TRY(aligned_new(l->ctx, l->block_bytes, "batches", &l->block));
  TRY(array_new(l->ctx, (size_t)l->slots, sizeof *l->slot, "batches", (void **)&l->slot));
  char *at = l->block;
  for (int64_t s = 0; s < l->slots; s++) {
    loader_slot *slot = &l->slot[s];
    slot->x = (float *)(void *)at, at += x_bytes;
    if (vectors) slot->condition = (float *)(void *)at;
    at += vectors;
    slot->weight = (float *)(void *)at, at += small;
    if (l->ds->labels) slot->label = (int32_t *)(void *)at;
    at += small;
    slot->sample_index = (int64_t *)(void *)at, at += large;
    slot->example = (int64_t *)(void *)at, at += large;
    add_field(slot, "x", ELBO_F32, 4, (int64_t[]){batch, h, w, c}, slot->x);
    if (slot->label) add_field(slot, "label", ELBO_I32, 1, &batch, slot->label);
    if (l->ds->condition_tokens)
      add_field(slot, "condition", ELBO_F32, 3, (int64_t[]){batch, l->ds->condition_tokens, l->ds->condition_dim}, slot->condition);
    else if (vectors)
      add_field(slot, "condition", ELBO_F32, 2, (int64_t[]){batch, l->ds->condition_dim}, slot->condition);
    add_field(slot, "weight", ELBO_F32, 1, &batch, slot->weight);
    add_field(slot, "sample_index", ELBO_I64, 1, &batch, slot->sample_index);
    add_field(slot, "example", ELBO_I64, 1, &batch, slot->example);
    if (l->part->walk_ops) TRY(array_new(l->ctx, (size_t)batch, sizeof *slot->encoded, "batches", (void **)&slot->encoded));
  }
  return ELBO_OK;
}

static elbo_status prepare_order(loader *l) {
  if (l->n < l->view->count) { // a random subset, in the order of the split
    int64_t *perm;
    TRY(array_new(l->ctx, (size_t)l->view->count, sizeof *perm, "subset", (void **)&perm));
    char *in = calloc(1, (size_t)l->view->count);
    elbo_status status =
        in ? array_new(l->ctx, (size_t)l->n, sizeof *l->subset, "subset", (void **)&l->subset) : fail_memory(l->ctx, 0, "subset");
    if (status == ELBO_OK) {
      philox_permutation(l->config.seed, philox_stream("limit"), l->view->count, perm);
      for (int64_t i = 0; i < l->n; i++) in[perm[i]] = 1;
      for (int64_t i = 0, k = 0; i < l->view->count; i++)
        if (in[i]) l->subset[k++] = i;
    }
    free(perm), free(in);
    TRY(status);
  }
  if (l->part->walk_ops) {
    TRY(array_new(l->ctx, (size_t)l->part->count, sizeof *l->to_split, "order", (void **)&l->to_split));
    for (int64_t i = 0; i < l->part->count; i++) l->to_split[i] = -1;
    for (int64_t i = 0; i < l->n; i++) l->to_split[part_index(l, split_index(l, i))] = split_index(l, i);
  } else if (l->config.shuffle) {
    TRY(array_new(l->ctx, (size_t)l->n, sizeof *l->perm, "order", (void **)&l->perm));
  }
  return ELBO_OK;
}

elbo_status loader_create(elbo_ctx *ctx, elbo_dataset *ds, const loader_config *config, loader **out) {
  static const char *const NAMES[] = {"train", "valid", "test"};
  *out = NULL;
  if ((unsigned)config->split > ELBO_SPLIT_TEST) return fail(ctx, ELBO_ERROR_ARGUMENT, "loader: split %d", (int)config->split);
  const split_view *view = &ds->view[config->split];
  if (view->count == 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: no examples in its %s part%s", ds->path, NAMES[config->split],
                config->split == ELBO_SPLIT_TRAIN ? "" : "; set data.holdout or choose another split");
  int64_t n = config->limit > 0 && config->limit < view->count ? config->limit : view->count;
  if (config->batch_size < 1) return fail(ctx, ELBO_ERROR_ARGUMENT, "batch_size %lld; expected at least 1", (long long)config->batch_size);
  if (config->shuffle && config->batch_size > n)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "batch_size %lld is larger than the %lld examples of the %s part of %s",
                (long long)config->batch_size, (long long)n, NAMES[config->split], ds->path);
  loader *l = calloc(1, sizeof *l);
  if (!l) return fail_memory(ctx, sizeof *l, "loader");
  l->ctx = ctx, l->ds = ds, l->config = *config, l->n = n, l->view = view, l->part = &ds->part[view->part];
  l->perm_epoch = l->walk_epoch = -1;
  l->slots = (config->prefetch > 0 ? config->prefetch : 2) + 1;
  l->threads = config->threads > 0 ? config->threads : pool_threads(&ctx->pool) / 2;
  if (l->threads < 1) l->threads = 1;
  if (l->threads > l->slots) l->threads = (int)l->slots;
  pthread_mutex_init(&l->order_lock, NULL), pthread_mutex_init(&l->ring_lock, NULL);
  pthread_cond_init(&l->room, NULL), pthread_cond_init(&l->ready, NULL);
  elbo_status status = make_slots(l);
  if (status == ELBO_OK) status = prepare_order(l);
  if (status == ELBO_OK) status = array_new(ctx, (size_t)l->threads, sizeof *l->thread, "loader threads", (void **)&l->thread);
  if (status != ELBO_OK) loader_destroy(&l);
  *out = l;
  return status;
}

void loader_destroy(loader **address) {
  loader *l = address ? *address : NULL;
  if (!l) return;
  stop_threads(l);
  if (l->part->walk_ops) close_walk(l);
  for (int64_t s = 0; l->slot && s < l->slots; s++) {
    for (int64_t b = 0; l->slot[s].encoded && b < l->config.batch_size; b++) encoded_sample_free(&l->slot[s].encoded[b]);
    free(l->slot[s].encoded), free(l->slot[s].message);
  }
  pthread_mutex_destroy(&l->order_lock), pthread_mutex_destroy(&l->ring_lock);
  pthread_cond_destroy(&l->room), pthread_cond_destroy(&l->ready);
  aligned_free(l->block);
  free(l->slot), free(l->subset), free(l->perm), free(l->buffer), free(l->to_split), free(l->thread);
  free(l);
  *address = NULL;
}

elbo_status loader_begin(loader *l) { return l->started || l->part->walk_ops ? ELBO_OK : start_threads(l); }

elbo_status loader_next(loader *l, const data_batch **out) {
  *out = NULL;
  if (!l->started) TRY(start_threads(l));
  pthread_mutex_lock(&l->ring_lock);
  if (l->borrowed) {
    loader_slot *slot = &l->slot[l->next_out % l->slots];
    slot->ready = false;
    l->borrowed = false;
    l->next_out++;
    pthread_cond_signal(&l->room);
  }
  loader_slot *slot = &l->slot[l->next_out % l->slots];
  while (!slot->ready) pthread_cond_wait(&l->ready, &l->ring_lock);
  elbo_status status = slot->status;
  bool end = slot->end;
  l->borrowed = status == ELBO_OK && !end; // an end or an error stays where it is
  pthread_mutex_unlock(&l->ring_lock);
  if (status != ELBO_OK) return fail(l->ctx, status, "%s", slot->message ? slot->message : "the loader failed");
  if (!end) *out = &slot->batch;
  return ELBO_OK;
}

elbo_status loader_seek(loader *l, int64_t samples) {
  if (samples < 0 || (!l->config.shuffle && samples > l->n))
    return fail(l->ctx, ELBO_ERROR_ARGUMENT, "loader: seeking to sample %lld of %lld", (long long)samples, (long long)l->n);
  stop_threads(l);
  for (int64_t s = 0; s < l->slots; s++) {
    loader_slot *slot = &l->slot[s];
    for (int64_t b = 0; slot->encoded && b < l->config.batch_size; b++) encoded_sample_free(&slot->encoded[b]);
    free(slot->message);
    slot->message = NULL, slot->ready = slot->end = false, slot->status = ELBO_OK;
  }
  l->next_ticket = l->next_out = 0;
  l->borrowed = l->exhausted = false;
  l->position = samples;
  if (!l->part->walk_ops) return ELBO_OK;
  close_walk(l); // the same draws again, up to there
  for (int64_t i = 0; i < samples % l->n; i++) {
    encoded_sample s;
    TRY(take_walked(l, samples / l->n, &s));
    encoded_sample_free(&s);
  }
  return ELBO_OK;
}

int64_t loader_bytes(const loader *l) {
  int64_t total = (int64_t)(sizeof *l + l->block_bytes) + l->slots * (int64_t)sizeof *l->slot;
  if (l->perm) total += l->n * (int64_t)sizeof *l->perm;
  if (l->subset) total += l->n * (int64_t)sizeof *l->subset;
  if (l->to_split) total += l->part->count * (int64_t)sizeof *l->to_split;
  total += l->threads * (int64_t)l->stored_bytes + l->buffer_capacity * (int64_t)sizeof *l->buffer +
           atomic_load(&((loader *)(uintptr_t)l)->encoded_bytes);
  return total + dataset_bytes(l->ds);
}
