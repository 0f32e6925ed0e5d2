// What a pickle may name and call: one table. The functions of that name are never run; what they would give is made here, from their
// arguments alone.
#include <string.h>

#include "core/pickle_machine.h"

typedef enum call_role {
  ROLE_NAME,      // may be named, not called
  ROLE_PLAIN,     // gives something harmless that holds no tensor
  ROLE_DICT,      // of nothing, of a dict, of pairs; a defaultdict's factory is passed over
  ROLE_LIST,      // of nothing or of one sequence
  ROLE_TENSOR,    // storage, offset, size, stride, ...
  ROLE_TYPED,     // the same with a dtype as the seventh
  ROLE_PARAMETER, // tensor, ...
  ROLE_SUBCLASS,  // function, type, arguments, state
  ROLE_BYTES,     // text whose letters are the bytes
  ROLE_STORAGE,   // a kind of storage
  ROLE_DTYPE
} call_role;

struct pickle_global {
  const char *module, *name;
  call_role role;
  int dtype; // of storages and dtypes; -1: untyped
};

static const pickle_global GLOBALS[] = {
    {"torch._utils", "_rebuild_tensor", ROLE_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v2", ROLE_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v3", ROLE_TYPED, 0},
    {"torch._utils", "_rebuild_parameter", ROLE_PARAMETER, 0},
    {"torch._utils", "_rebuild_parameter_with_state", ROLE_PARAMETER, 0},
    {"torch._tensor", "_rebuild_from_type_v2", ROLE_SUBCLASS, 0},
    {"torch", "Tensor", ROLE_NAME, 0},
    {"torch.nn.parameter", "Parameter", ROLE_NAME, 0},
    {"torch", "FloatStorage", ROLE_STORAGE, ELBO_F32},
    {"torch", "DoubleStorage", ROLE_STORAGE, ELBO_F64},
    {"torch", "HalfStorage", ROLE_STORAGE, ELBO_F16},
    {"torch", "BFloat16Storage", ROLE_STORAGE, ELBO_BF16},
    {"torch", "LongStorage", ROLE_STORAGE, ELBO_I64},
    {"torch", "IntStorage", ROLE_STORAGE, ELBO_I32},
    {"torch", "ShortStorage", ROLE_STORAGE, ELBO_I16},
    {"torch", "CharStorage", ROLE_STORAGE, ELBO_I8},
    {"torch", "ByteStorage", ROLE_STORAGE, ELBO_U8},
    {"torch", "BoolStorage", ROLE_STORAGE, ELBO_BOOL},
    {"torch.storage", "UntypedStorage", ROLE_STORAGE, -1},
    {"torch", "float32", ROLE_DTYPE, ELBO_F32},
    {"torch", "float64", ROLE_DTYPE, ELBO_F64},
    {"torch", "float16", ROLE_DTYPE, ELBO_F16},
    {"torch", "bfloat16", ROLE_DTYPE, ELBO_BF16},
    {"torch", "int64", ROLE_DTYPE, ELBO_I64},
    {"torch", "int32", ROLE_DTYPE, ELBO_I32},
    {"torch", "int16", ROLE_DTYPE, ELBO_I16},
    {"torch", "int8", ROLE_DTYPE, ELBO_I8},
    {"torch", "uint64", ROLE_DTYPE, ELBO_U64},
    {"torch", "uint32", ROLE_DTYPE, ELBO_U32},
    {"torch", "uint16", ROLE_DTYPE, ELBO_U16},
    {"torch", "uint8", ROLE_DTYPE, ELBO_U8},
    {"torch", "bool", ROLE_DTYPE, ELBO_BOOL},
    {"torch", "Size", ROLE_LIST, 0},
    {"torch", "device", ROLE_PLAIN, 0},
    {"collections", "OrderedDict", ROLE_DICT, 0},
    {"collections", "defaultdict", ROLE_DICT, 0},
    {"collections", "Counter", ROLE_DICT, 0},
    {"builtins", "dict", ROLE_DICT, 0},
    {"builtins", "list", ROLE_LIST, 0},
    {"builtins", "tuple", ROLE_LIST, 0},
    {"builtins", "set", ROLE_LIST, 0},
    {"builtins", "frozenset", ROLE_LIST, 0},
    {"builtins", "int", ROLE_NAME, 0},
    {"builtins", "float", ROLE_NAME, 0},
    {"builtins", "bool", ROLE_NAME, 0},
    {"builtins", "str", ROLE_NAME, 0},
    {"builtins", "bytes", ROLE_PLAIN, 0},
    {"builtins", "bytearray", ROLE_PLAIN, 0},
    {"builtins", "slice", ROLE_PLAIN, 0},
    {"builtins", "range", ROLE_PLAIN, 0},
    {"_codecs", "encode", ROLE_BYTES, 0},
    {"numpy", "dtype", ROLE_PLAIN, 0},
    {"numpy.core.multiarray", "scalar", ROLE_PLAIN, 0},
    {"numpy._core.multiarray", "scalar", ROLE_PLAIN, 0},
    // Lightning keys its callbacks' states by their classes: the name alone is harmless, and most published .ckpt files have this one
    {"pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", ROLE_NAME, 0},
};

// Python 3 writes these for Python 2 up to protocol 2.
static const struct { const char *old, *name; } RENAMED[] = {{"long", "int"}, {"unicode", "str"}, {"xrange", "range"}};

static bool text_is(pickle_text text, const char *word) { return text.length == strlen(word) && !memcmp(text.at, word, text.length); }

static pickle_text text_of(const char *word) { return (pickle_text){word, strlen(word)}; }

static elbo_status refuse_call(const pickle_machine *m, pickle_text module, pickle_text name) {
  char a[PICKLE_SHOWN], b[PICKLE_SHOWN];
  return fail(m->ctx, ELBO_ERROR_UNSUPPORTED,
              "%s: refused: its pickle asks for %s.%s, which would execute something; only tensors, parameters and plain containers (dict, "
              "OrderedDict, list, tuple, set, numbers, text) are read: save a state_dict() of the model",
              m->path, pickle_show(module, a), pickle_show(name, b));
}

static elbo_status refuse_global(const pickle_machine *m, const pickle_global *g) {
  return refuse_call(m, text_of(g->module), text_of(g->name));
}

elbo_status pickle_find_global(pickle_machine *m, pickle_text module, pickle_text name, pickle_value **out) {
  pickle_text wanted = name;
  if (text_is(module, "__builtin__")) {
    module = text_of("builtins");
    for (size_t i = 0; i < sizeof RENAMED / sizeof RENAMED[0]; i++)
      if (text_is(name, RENAMED[i].old)) wanted = text_of(RENAMED[i].name);
  }
  for (size_t i = 0; i < sizeof GLOBALS / sizeof GLOBALS[0]; i++) {
    if (!text_is(module, GLOBALS[i].module) || !text_is(wanted, GLOBALS[i].name)) continue;
    TRY(pickle_new(m, PICKLE_GLOBAL, out));
    (*out)->as.global = &GLOBALS[i];
    return ELBO_OK;
  }
  return refuse_call(m, module, name);
}

// Argument i of a call, NULL when there is none.
static pickle_value *argument(const pickle_value *arguments, int64_t i) {
  return i < arguments->as.list.count ? arguments->as.list.at[i] : NULL;
}

static elbo_status wrong_arguments(const pickle_machine *m, const pickle_global *g, const char *what) {
  return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: damaged pickle, byte %lld: %s.%s: %s", m->path, (long long)(m->at - m->begin), g->module,
              g->name, what);
}

static bool is_sequence(const pickle_value *v) { return v && (v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST || v->kind == PICKLE_SET); }

// --- tensors ---

static elbo_status read_axes(const pickle_machine *m, const pickle_global *g, const pickle_value *v, int64_t axes[PICKLE_RANK_MAX],
                             int *rank) {
  if (!is_sequence(v)) return wrong_arguments(m, g, "size and stride must be tuples");
  if (v->as.list.count > PICKLE_RANK_MAX)
    return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "%s: a tensor of %lld dimensions; expected at most %d", m->path,
                (long long)v->as.list.count, PICKLE_RANK_MAX);
  *rank = (int)v->as.list.count;
  for (int i = 0; i < *rank; i++) {
    const pickle_value *axis = v->as.list.at[i];
    if (axis->kind != PICKLE_INT || axis->as.integer < 0) return wrong_arguments(m, g, "size and stride must be whole numbers, 0 or more");
    axes[i] = axis->as.integer;
  }
  return ELBO_OK;
}

// Whether the elements lie within `count` of the storage.
static bool tensor_fits(const pickle_tensor *t, int64_t count) {
  int64_t last = t->offset;
  for (int i = 0; i < t->rank; i++) {
    int64_t step;
    if (t->dim[i] == 0) return t->offset <= count;
    if (!checked_mul(t->dim[i] - 1, t->stride[i], &step) || !checked_add(last, step, &last)) return false;
  }
  return last < count;
}

static elbo_status rebuild_tensor(pickle_machine *m, const pickle_global *g, const pickle_value *arguments, pickle_value **out) {
  const pickle_value *storage = argument(arguments, 0), *offset = argument(arguments, 1), *dtype = argument(arguments, 6),
                     *metadata = argument(arguments, g->role == ROLE_TYPED ? 7 : 6);
  if (!storage || storage->kind != PICKLE_STORAGE) return wrong_arguments(m, g, "the first argument must be a storage");
  if (!offset || offset->kind != PICKLE_INT || offset->as.integer < 0) return wrong_arguments(m, g, "a storage offset, 0 or more");
  if (metadata && (metadata->kind != PICKLE_DICT || metadata->as.list.count))
    return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "%s: a tensor with a conjugate or negative bit; expected plain numbers", m->path);
  pickle_tensor *t = arena_alloc(m->arena, sizeof *t);
  if (!t) return fail_memory(m->ctx, sizeof *t, m->path);
  int rank;
  t->storage = storage->as.storage, t->offset = offset->as.integer;
  TRY(read_axes(m, g, argument(arguments, 2), t->dim, &t->rank));
  TRY(read_axes(m, g, argument(arguments, 3), t->stride, &rank));
  if (rank != t->rank) return wrong_arguments(m, g, "size and stride of unlike lengths");
  t->dtype = t->storage->dtype;
  int64_t count = t->storage->count;
  if (g->role == ROLE_TYPED) {
    if (!dtype || dtype->kind != PICKLE_GLOBAL || dtype->as.global->role != ROLE_DTYPE) return wrong_arguments(m, g, "a dtype");
    t->dtype = (elbo_dtype)dtype->as.global->dtype;
    count = count * (int64_t)elbo_dtype_size(t->storage->dtype) / (int64_t)elbo_dtype_size(t->dtype); // its bytes are known to fit
  } else if (t->storage->untyped) {
    return wrong_arguments(m, g, "a storage of no type");
  }
  if (!tensor_fits(t, count)) {
    char key[PICKLE_SHOWN];
    return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: a tensor reaches beyond its storage '%s' of %lld elements", m->path,
                pickle_show(t->storage->key, key), (long long)count);
  }
  TRY(pickle_new(m, PICKLE_TENSOR, out));
  (*out)->as.tensor = t;
  return ELBO_OK;
}

// ("storage", kind, key, place, elements), and in files before PyTorch 1.6 what part of another it is, None in all but the oldest.
elbo_status pickle_load_persistent(pickle_machine *m, const pickle_value *id, pickle_value **out) {
  const pickle_value *word = id->kind == PICKLE_TUPLE ? argument(id, 0) : NULL;
  if (word && word->kind == PICKLE_TEXT && text_is(word->as.text, "module"))
    return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "%s: refused: its pickle holds the source of a module; save a state_dict() of the model",
                m->path);
  if (!word || word->kind != PICKLE_TEXT || !text_is(word->as.text, "storage") || id->as.list.count < 5)
    return pickle_damaged(m, "a persistent object that is no storage");
  const pickle_value *kind = argument(id, 1), *key = argument(id, 2), *count = argument(id, 4), *view = argument(id, 5);
  if (kind->kind != PICKLE_GLOBAL || kind->as.global->role != ROLE_STORAGE) return pickle_damaged(m, "a storage of an unknown kind");
  if (key->kind != PICKLE_TEXT || count->kind != PICKLE_INT || count->as.integer < 0) return pickle_damaged(m, "a storage");
  if (view && view->kind != PICKLE_NONE)
    return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "%s: a storage that is part of another, as PyTorch before 0.4 wrote them", m->path);
  pickle_storage *s = arena_alloc(m->arena, sizeof *s);
  if (!s) return fail_memory(m->ctx, sizeof *s, m->path);
  int dtype = kind->as.global->dtype;
  s->key = key->as.text, s->untyped = dtype < 0, s->dtype = s->untyped ? ELBO_U8 : (elbo_dtype)dtype, s->count = count->as.integer;
  int64_t bytes;
  if (!checked_mul(s->count, (int64_t)elbo_dtype_size(s->dtype), &bytes)) return pickle_damaged(m, "an impossible size of a storage");
  TRY(pickle_new(m, PICKLE_STORAGE, out));
  (*out)->as.storage = s;
  return ELBO_OK;
}

// --- containers ---

static elbo_status make_dict(pickle_machine *m, const pickle_global *g, const pickle_value *arguments, pickle_value **out) {
  const pickle_value *from = argument(arguments, 0);
  TRY(pickle_new(m, PICKLE_DICT, out));
  if (!from || from->kind == PICKLE_GLOBAL || from->kind == PICKLE_NONE) return ELBO_OK; // nothing, or a defaultdict's factory
  pickle_list *list = &(*out)->as.list;
  if (from->kind == PICKLE_DICT) {
    for (int64_t i = 0; i < from->as.list.count; i++) TRY(pickle_append(m, list, from->as.list.at[i]));
    return ELBO_OK;
  }
  if (!is_sequence(from)) return wrong_arguments(m, g, "expected a dict or pairs");
  for (int64_t i = 0; i < from->as.list.count; i++) {
    const pickle_value *pair = from->as.list.at[i];
    if (!is_sequence(pair) || pair->as.list.count != 2) return wrong_arguments(m, g, "expected a dict or pairs");
    for (int k = 0; k < 2; k++) TRY(pickle_append(m, list, pair->as.list.at[k]));
  }
  return ELBO_OK;
}

static elbo_status make_list(pickle_machine *m, const pickle_global *g, const pickle_value *arguments, pickle_value **out) {
  const pickle_value *from = argument(arguments, 0);
  TRY(pickle_new(m, strcmp(g->name, "list") ? PICKLE_TUPLE : PICKLE_LIST, out));
  if (!strcmp(g->name, "set")) (*out)->kind = PICKLE_SET;
  if (!from) return ELBO_OK;
  if (!is_sequence(from)) return wrong_arguments(m, g, "expected a sequence");
  for (int64_t i = 0; i < from->as.list.count; i++) TRY(pickle_append(m, &(*out)->as.list, from->as.list.at[i]));
  return ELBO_OK;
}

// torch._tensor._rebuild_from_type_v2(function, type, arguments, state): a tensor with attributes of its own, which are dropped.
static elbo_status rebuild_subclass(pickle_machine *m, const pickle_global *g, const pickle_value *arguments, pickle_value **out) {
  const pickle_value *function = argument(arguments, 0);
  pickle_value *inner = argument(arguments, 2);
  bool fits = function && function->kind == PICKLE_GLOBAL && inner && inner->kind == PICKLE_TUPLE;
  if (!fits ||
      (function->as.global->role != ROLE_TENSOR && function->as.global->role != ROLE_TYPED && function->as.global->role != ROLE_PARAMETER))
    return wrong_arguments(m, g, "expected a function that makes a tensor, and its arguments");
  return pickle_call(m, function, inner, out);
}

elbo_status pickle_call(pickle_machine *m, const pickle_value *function, pickle_value *arguments, pickle_value **out) {
  if (function->kind != PICKLE_GLOBAL) return pickle_damaged(m, "a call of something that is no function");
  const pickle_global *g = function->as.global;
  const pickle_value *first = argument(arguments, 0);
  switch (g->role) {
  case ROLE_TENSOR:
  case ROLE_TYPED: return rebuild_tensor(m, g, arguments, out);
  case ROLE_SUBCLASS: return rebuild_subclass(m, g, arguments, out);
  case ROLE_DICT: return make_dict(m, g, arguments, out);
  case ROLE_LIST: return make_list(m, g, arguments, out);
  case ROLE_PLAIN: return pickle_new(m, PICKLE_PLAIN, out);
  case ROLE_PARAMETER:
    if (!first || first->kind != PICKLE_TENSOR) return wrong_arguments(m, g, "the first argument must be a tensor");
    *out = arguments->as.list.at[0];
    return ELBO_OK;
  case ROLE_BYTES:
    if (!first || first->kind != PICKLE_TEXT) return wrong_arguments(m, g, "the first argument must be text");
    TRY(pickle_new(m, PICKLE_BYTES, out));
    (*out)->as.text = first->as.text;
    return ELBO_OK;
  case ROLE_NAME:
  case ROLE_STORAGE:
  case ROLE_DTYPE: break;
  }
  return refuse_global(m, g);
}

// Attributes: a state_dict() has one (_metadata), and nothing of what is read here needs any.
elbo_status pickle_set_state(pickle_machine *m, const pickle_value *object) {
  if (object->kind == PICKLE_DICT || object->kind == PICKLE_PLAIN || object->kind == PICKLE_SET) return ELBO_OK;
  return pickle_damaged(m, "a state for something that has none");
}
