// The instructions of pickle protocols 2 to 5 (CPython's Lib/pickletools.py documents them), one function each.
#include "core/pickle_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

elbo_status pickle_damaged(const pickle_machine *m, const char *what) {
  return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: damaged pickle, byte %lld: %s", m->path, (long long)(m->at - m->begin), what);
}

const char *pickle_show(pickle_text text, char buffer[PICKLE_SHOWN]) {
  size_t n = text.length < PICKLE_SHOWN - 8 ? text.length : PICKLE_SHOWN - 8;
  for (size_t i = 0; i < n; i++) buffer[i] = text.at[i] >= 0x20 && text.at[i] < 0x7f ? text.at[i] : '?';
  snprintf(buffer + n, 8, "%s", n < text.length ? "..." : "");
  return buffer;
}

// Objects and items of containers alike: a short pickle could have a long list copied again and again.
static elbo_status count_value(pickle_machine *m) {
  if (++m->values <= PICKLE_VALUES_MAX) return ELBO_OK;
  return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: a pickle of more than %lld objects", m->path, (long long)PICKLE_VALUES_MAX);
}

elbo_status pickle_new(pickle_machine *m, pickle_kind kind, pickle_value **out) {
  *out = NULL;
  TRY(count_value(m));
  *out = arena_alloc(m->arena, sizeof **out);
  if (!*out) return fail_memory(m->ctx, sizeof **out, m->path);
  (*out)->kind = kind;
  return ELBO_OK;
}

elbo_status pickle_append(pickle_machine *m, pickle_list *list, pickle_value *value) {
  TRY(count_value(m));
  if (list->count == list->capacity) {
    int64_t capacity = list->capacity ? 2 * list->capacity : 4;
    pickle_value **grown = arena_alloc(m->arena, (size_t)capacity * sizeof *grown);
    if (!grown) return fail_memory(m->ctx, (size_t)capacity * sizeof *grown, m->path);
    if (list->count) memcpy(grown, list->at, (size_t)list->count * sizeof *grown);
    list->at = grown, list->capacity = capacity;
  }
  list->at[list->count++] = value;
  return ELBO_OK;
}

// --- reading, pushing, popping ---

static elbo_status take(pickle_machine *m, uint64_t n, const uint8_t **out) {
  *out = NULL;
  if (n > (uint64_t)(m->end - m->at)) return pickle_damaged(m, "it ends within an instruction");
  *out = m->at;
  m->at += n;
  return ELBO_OK;
}

static elbo_status take_number(pickle_machine *m, int bytes, uint64_t *out) {
  const uint8_t *p;
  *out = 0;
  TRY(take(m, (uint64_t)bytes, &p));
  for (int i = 0; i < bytes; i++) *out |= (uint64_t)p[i] << 8 * i;
  return ELBO_OK;
}

static elbo_status take_line(pickle_machine *m, pickle_text *out) {
  *out = (pickle_text){0};
  const uint8_t *newline = memchr(m->at, '\n', (size_t)(m->end - m->at));
  if (!newline) return pickle_damaged(m, "it ends within a line");
  *out = (pickle_text){(const char *)m->at, (size_t)(newline - m->at)};
  m->at = newline + 1;
  return ELBO_OK;
}

static elbo_status push(pickle_machine *m, pickle_value *value) {
  TRY(array_grow(m->ctx, &m->stack, &m->stack_capacity, m->depth + 1, sizeof *m->stack));
  m->stack[m->depth++] = value;
  return ELBO_OK;
}

static elbo_status push_new(pickle_machine *m, pickle_kind kind, pickle_value **out) {
  TRY(pickle_new(m, kind, out));
  return push(m, *out);
}

// How far the stack may be emptied: to the last mark.
static int64_t floor_of(const pickle_machine *m) { return m->n_marks ? m->marks[m->n_marks - 1] : 0; }

static elbo_status pop(pickle_machine *m, pickle_value **out) {
  *out = NULL;
  if (m->depth <= floor_of(m)) return pickle_damaged(m, "its stack is empty");
  *out = m->stack[--m->depth];
  return ELBO_OK;
}

static elbo_status top(pickle_machine *m, pickle_value **out) {
  *out = NULL;
  if (m->depth <= floor_of(m)) return pickle_damaged(m, "its stack is empty");
  *out = m->stack[m->depth - 1];
  return ELBO_OK;
}

// Everything above the last mark, which goes; valid until the next push. NULL where nothing was ever pushed.
static elbo_status pop_mark(pickle_machine *m, pickle_value ***items, int64_t *n) {
  *items = NULL, *n = 0;
  if (!m->n_marks) return pickle_damaged(m, "a mark is missing");
  int64_t from = m->marks[--m->n_marks];
  *items = m->stack ? m->stack + from : NULL, *n = m->depth - from;
  m->depth = from;
  return ELBO_OK;
}

static elbo_status refuse_instruction(pickle_machine *m, uint8_t code) {
  return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: pickle instruction 0x%02x at byte %lld; expected what torch.save writes (protocols 2 to 5)",
              m->path, code, (long long)(m->at - m->begin) - 1);
}

// --- numbers and texts ---

static elbo_status op_proto(pickle_machine *m, uint8_t code) {
  uint64_t version;
  (void)code;
  TRY(take_number(m, 1, &version));
  return version <= 5 ? ELBO_OK : pickle_damaged(m, "a protocol above 5");
}

// Frames only group instructions, so their length need not be trusted, but it must not lie outside.
static elbo_status op_frame(pickle_machine *m, uint8_t code) {
  uint64_t length;
  (void)code;
  TRY(take_number(m, 8, &length));
  return length <= (uint64_t)(m->end - m->at) ? ELBO_OK : pickle_damaged(m, "a frame longer than the file");
}

static elbo_status push_integer(pickle_machine *m, pickle_kind kind, int64_t value) {
  pickle_value *v;
  TRY(push_new(m, kind, &v));
  v->as.integer = value;
  return ELBO_OK;
}

static elbo_status op_constant(pickle_machine *m, uint8_t code) {
  return push_integer(m, code == 'N' ? PICKLE_NONE : PICKLE_BOOL, code == 0x88);
}

static elbo_status op_integer(pickle_machine *m, uint8_t code) {
  uint64_t value;
  TRY(take_number(m, code == 'J' ? 4 : code == 'M' ? 2 : 1, &value));
  return push_integer(m, PICKLE_INT, code == 'J' ? (int32_t)(uint32_t)value : (int64_t)value);
}

static elbo_status op_long(pickle_machine *m, uint8_t code) {
  uint64_t n, low = 0;
  const uint8_t *p;
  pickle_value *v;
  TRY(take_number(m, code == 0x8a ? 1 : 4, &n));
  TRY(take(m, n, &p));
  if (n > 8) {
    TRY(push_new(m, PICKLE_LONG, &v));
    v->as.text = (pickle_text){(const char *)p, (size_t)n};
    return ELBO_OK;
  }
  for (uint64_t i = 0; i < n; i++) low |= (uint64_t)p[i] << 8 * i;
  if (n > 0 && n < 8 && p[n - 1] & 0x80) low |= UINT64_MAX << 8 * n; // two's complement
  return push_integer(m, PICKLE_INT, (int64_t)low);
}

static elbo_status op_float(pickle_machine *m, uint8_t code) {
  const uint8_t *p;
  pickle_value *v;
  uint64_t bits = 0;
  (void)code;
  TRY(take(m, 8, &p));
  for (int i = 0; i < 8; i++) bits = bits << 8 | p[i];
  TRY(push_new(m, PICKLE_FLOAT, &v));
  memcpy(&v->as.real, &bits, sizeof bits);
  return ELBO_OK;
}

static elbo_status op_text(pickle_machine *m, uint8_t code) {
  bool unicode = code == 'X' || code == 0x8c || code == 0x8d;
  int width = code == 0x8c || code == 'U' || code == 'C' ? 1 : code == 'X' || code == 'T' || code == 'B' ? 4 : 8;
  uint64_t n;
  const uint8_t *p;
  pickle_value *v;
  TRY(take_number(m, width, &n));
  TRY(take(m, n, &p));
  TRY(push_new(m, unicode ? PICKLE_TEXT : PICKLE_BYTES, &v));
  v->as.text = (pickle_text){(const char *)p, (size_t)n};
  return ELBO_OK;
}

// --- stack and memo ---

static elbo_status op_mark(pickle_machine *m, uint8_t code) {
  (void)code;
  TRY(array_grow(m->ctx, &m->marks, &m->marks_capacity, m->n_marks + 1, sizeof *m->marks));
  m->marks[m->n_marks++] = m->depth;
  return ELBO_OK;
}

static elbo_status op_pop(pickle_machine *m, uint8_t code) {
  pickle_value *v, **items;
  int64_t n;
  if (code == '1' || (m->n_marks && m->depth == floor_of(m))) return pop_mark(m, &items, &n);
  return pop(m, &v);
}

static elbo_status op_dup(pickle_machine *m, uint8_t code) {
  pickle_value *v;
  (void)code;
  TRY(top(m, &v));
  return push(m, v);
}

static elbo_status memo_index(pickle_machine *m, uint8_t code, uint64_t *index) {
  if (code == 'g' || code == 'p') {
    pickle_text line;
    TRY(take_line(m, &line));
    *index = 0;
    for (size_t i = 0; i < line.length; i++) {
      if (line.at[i] < '0' || line.at[i] > '9' || i > 8) return pickle_damaged(m, "a memo index");
      *index = *index * 10 + (uint64_t)(line.at[i] - '0');
    }
    return line.length ? ELBO_OK : pickle_damaged(m, "a memo index");
  }
  return take_number(m, code == 'h' || code == 'q' ? 1 : 4, index);
}

static elbo_status op_put(pickle_machine *m, uint8_t code) {
  pickle_value *v;
  uint64_t index = (uint64_t)m->memo_count;
  if (code != 0x94) TRY(memo_index(m, code, &index));
  // picklers count up; an index beyond the bytes that could have filled it is there to take memory
  if (index > (uint64_t)(m->at - m->begin)) return pickle_damaged(m, "a memo index beyond its length");
  TRY(top(m, &v));
  TRY(array_grow(m->ctx, &m->memo, &m->memo_capacity, (int64_t)index + 1, sizeof *m->memo));
  m->memo[index] = v;
  if ((int64_t)index >= m->memo_count) m->memo_count = (int64_t)index + 1;
  return ELBO_OK;
}

static elbo_status op_get(pickle_machine *m, uint8_t code) {
  uint64_t index;
  TRY(memo_index(m, code, &index));
  if (index >= (uint64_t)m->memo_count || !m->memo[index]) return pickle_damaged(m, "a memo entry that was never made");
  return push(m, m->memo[index]);
}

// --- containers ---

static elbo_status op_empty(pickle_machine *m, uint8_t code) {
  pickle_value *v;
  return push_new(m, code == ')' ? PICKLE_TUPLE : code == ']' ? PICKLE_LIST : code == '}' ? PICKLE_DICT : PICKLE_SET, &v);
}

static elbo_status push_items(pickle_machine *m, pickle_kind kind, int64_t n, pickle_value **items) {
  pickle_value *v;
  TRY(pickle_new(m, kind, &v));
  for (int64_t i = 0; i < n; i++) TRY(pickle_append(m, &v->as.list, items[i]));
  return push(m, v);
}

static elbo_status op_marked(pickle_machine *m, uint8_t code) {
  pickle_value **items;
  int64_t n;
  TRY(pop_mark(m, &items, &n));
  if (code == 'd' && n % 2) return pickle_damaged(m, "a key without a value");
  return push_items(m, code == 't' ? PICKLE_TUPLE : code == 'l' ? PICKLE_LIST : code == 'd' ? PICKLE_DICT : PICKLE_SET, n, items);
}

static elbo_status op_short_tuple(pickle_machine *m, uint8_t code) {
  int64_t n = code - 0x84;
  if (m->depth - floor_of(m) < n) return pickle_damaged(m, "its stack is empty");
  m->depth -= n;
  return push_items(m, PICKLE_TUPLE, n, m->stack + m->depth);
}

// Puts the n items into the container below them; `what` it must be.
static elbo_status extend(pickle_machine *m, pickle_kind kind, int64_t n, pickle_value **items) {
  pickle_value *v;
  TRY(top(m, &v));
  if (v->kind != kind) return pickle_damaged(m, "an item for something that holds none");
  if (kind == PICKLE_DICT && n % 2) return pickle_damaged(m, "a key without a value");
  for (int64_t i = 0; i < n; i++) TRY(pickle_append(m, &v->as.list, items[i]));
  return ELBO_OK;
}

static elbo_status op_extend(pickle_machine *m, uint8_t code) {
  pickle_value **items;
  int64_t n;
  TRY(pop_mark(m, &items, &n));
  return extend(m, code == 'e' ? PICKLE_LIST : code == 'u' ? PICKLE_DICT : PICKLE_SET, n, items);
}

static elbo_status op_append(pickle_machine *m, uint8_t code) {
  pickle_value *items[2];
  int64_t n = code == 's' ? 2 : 1;
  for (int64_t i = n; i-- > 0;) TRY(pop(m, &items[i]));
  return extend(m, code == 's' ? PICKLE_DICT : PICKLE_LIST, n, items);
}

// --- what would be imported and called ---

static elbo_status op_global(pickle_machine *m, uint8_t code) {
  pickle_text module, name;
  pickle_value *v, *part[2];
  if (code == 0x93) { // from the stack
    TRY(pop(m, &part[1]));
    TRY(pop(m, &part[0]));
    if (part[0]->kind != PICKLE_TEXT || part[1]->kind != PICKLE_TEXT) return pickle_damaged(m, "a name that is no text");
    module = part[0]->as.text, name = part[1]->as.text;
  } else {
    TRY(take_line(m, &module));
    TRY(take_line(m, &name));
  }
  TRY(pickle_find_global(m, module, name, &v));
  return code == 'i' ? refuse_instruction(m, code) : push(m, v);
}

static elbo_status op_call(pickle_machine *m, uint8_t code) {
  pickle_value *function, *arguments, *v;
  (void)code;
  TRY(pop(m, &arguments));
  TRY(pop(m, &function));
  if (arguments->kind != PICKLE_TUPLE) return pickle_damaged(m, "arguments that are no tuple");
  TRY(pickle_call(m, function, arguments, &v));
  return push(m, v);
}

static elbo_status op_build(pickle_machine *m, uint8_t code) {
  pickle_value *state, *object;
  (void)code;
  TRY(pop(m, &state));
  TRY(top(m, &object));
  return pickle_set_state(m, object);
}

static elbo_status op_persistent(pickle_machine *m, uint8_t code) {
  pickle_value *id, *v;
  (void)code;
  TRY(pop(m, &id));
  TRY(pickle_load_persistent(m, id, &v));
  return push(m, v);
}

typedef elbo_status (*instruction)(pickle_machine *m, uint8_t code);
static const instruction INSTRUCTIONS[256] = {
    [0x80] = op_proto,  [0x95] = op_frame,  ['N'] = op_constant, [0x88] = op_constant,    [0x89] = op_constant,    ['J'] = op_integer,
    ['K'] = op_integer, ['M'] = op_integer, [0x8a] = op_long,    [0x8b] = op_long,        ['G'] = op_float,        ['X'] = op_text,
    [0x8c] = op_text,   [0x8d] = op_text,   ['U'] = op_text,     ['T'] = op_text,         ['C'] = op_text,         ['B'] = op_text,
    [0x8e] = op_text,   [0x96] = op_text,   ['('] = op_mark,     ['0'] = op_pop,          ['1'] = op_pop,          ['2'] = op_dup,
    ['p'] = op_put,     ['q'] = op_put,     ['r'] = op_put,      [0x94] = op_put,         ['g'] = op_get,          ['h'] = op_get,
    ['j'] = op_get,     [')'] = op_empty,   [']'] = op_empty,    ['}'] = op_empty,        [0x8f] = op_empty,       ['t'] = op_marked,
    ['l'] = op_marked,  ['d'] = op_marked,  [0x91] = op_marked,  [0x85] = op_short_tuple, [0x86] = op_short_tuple, [0x87] = op_short_tuple,
    ['e'] = op_extend,  ['u'] = op_extend,  [0x90] = op_extend,  ['a'] = op_append,       ['s'] = op_append,       ['c'] = op_global,
    [0x93] = op_global, ['i'] = op_global,  ['R'] = op_call,     [0x81] = op_call,        ['b'] = op_build,        ['Q'] = op_persistent,
};

elbo_status pickle_run(elbo_ctx *ctx, const char *path, arena *a, const void *bytes, size_t size, pickle_value **out, size_t *used) {
  size_t shown = size < PICKLE_BYTES_MAX ? size : PICKLE_BYTES_MAX;
  pickle_machine m = {.ctx = ctx, .path = path, .arena = a, .begin = bytes, .at = bytes, .end = (const uint8_t *)bytes + shown};
  elbo_status status = ELBO_OK;
  *out = NULL;
  while (status == ELBO_OK) {
    if (m.at == m.end) {
      status = shown < size ? fail(ctx, ELBO_ERROR_FORMAT, "%s: a pickle of more than %zu bytes", path, PICKLE_BYTES_MAX)
                            : pickle_damaged(&m, "it ends without an end");
      break;
    }
    uint8_t code = *m.at++;
    if (code == '.') {
      status = pop(&m, out);
      break;
    }
    status = INSTRUCTIONS[code] ? INSTRUCTIONS[code](&m, code) : refuse_instruction(&m, code);
  }
  *used = (size_t)(m.at - m.begin);
  free(m.stack);
  free(m.memo);
  free(m.marks);
  return status;
}
