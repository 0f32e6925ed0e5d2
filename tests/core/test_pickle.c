// torch.save's files: what PyTorch writes is read bit for bit (tests/golden/make_pickles.py), and what would execute something, or is
// broken or hostile, is refused by name, without a crash, a hang or an absurd allocation.
#include "support/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/pickle.h"

static elbo_ctx *ctx;

static const char *golden(const char *name) {
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", test_repository_file("tests/golden/pickles"), name);
  return path;
}

static void test_golden(void **state) {
  (void)state;
  static const char *const names[] = {"protocol2.pth", "protocol3.pth", "protocol4.pth", "protocol5.pth", "legacy2.pth", "legacy4.pth"};
  safetensors *expected;
  assert_ok(ctx, safetensors_open(ctx, golden("pickles.safetensors"), &expected));
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    pickle *file;
    assert_ok(ctx, pickle_open(ctx, golden(names[i]), &file));
    assert_int_equal(pickle_count(file), safetensors_count(expected));
    for (int64_t k = 0; k < pickle_count(file); k++) {
      const tensor_view *a = pickle_at(file, k), *b = safetensors_at(expected, k);
      assert_string_equal(a->name, b->name);
      assert_ptr_equal(pickle_find(file, a->name), a);
      if (a->dtype != b->dtype || a->rank != b->rank || a->bytes != b->bytes) fail_msg("%s: %s", names[i], a->name);
      for (int d = 0; d < a->rank; d++) assert_int_equal(a->dim[d], b->dim[d]);
      if (a->bytes && memcmp(a->data, b->data, a->bytes) != 0) fail_msg("%s: %s has other numbers", names[i], a->name);
    }
    assert_null(pickle_find(file, "layer"));
    assert_null(pickle_at(file, -1));
    pickle_close(&file);
    assert_null(file);
  }
  safetensors_close(&expected);
}

static void refused_as(const char *path, elbo_status status, const char *part) {
  pickle *file = (pickle *)&file;
  assert_status(ctx, pickle_open(ctx, path, &file), status, part);
  assert_null(file);
}

static void test_refused(void **state) {
  (void)state;
  refused_as(golden("system.pth"), ELBO_ERROR_UNSUPPORTED, "posix.system");
  refused_as(golden("system.pth"), ELBO_ERROR_UNSUPPORTED, "would execute something");
  refused_as(golden("system_legacy.pth"), ELBO_ERROR_UNSUPPORTED, "posix.system");
  refused_as(golden("module.pth"), ELBO_ERROR_UNSUPPORTED, "torch.nn.modules.linear.Linear");
  refused_as(golden("array.pth"), ELBO_ERROR_UNSUPPORTED, "_reconstruct");
  refused_as(golden("complex.pth"), ELBO_ERROR_UNSUPPORTED, "torch.ComplexFloatStorage");
  refused_as(golden("sparse.pth"), ELBO_ERROR_UNSUPPORTED, "_rebuild_sparse_tensor");
  refused_as(golden("deep.pth"), ELBO_ERROR_FORMAT, "nested deeper than 64");
  refused_as(test_path("nowhere.pth"), ELBO_ERROR_IO, "nowhere.pth");
  refused_as(golden("pickles.safetensors"), ELBO_ERROR_FORMAT, "pickle");
}

// --- pickles by hand ---

typedef struct bytes {
  uint8_t at[1 << 16];
  size_t n;
} bytes;

static void put(bytes *b, const void *data, size_t n) {
  assert_true(b->n + n <= sizeof b->at);
  memcpy(b->at + b->n, data, n);
  b->n += n;
}
static void put_number(bytes *b, uint64_t value, int width) {
  for (int i = 0; i < width; i++) put(b, &(uint8_t){i < 8 ? (uint8_t)(value >> 8 * i) : 0}, 1);
}
static void put_code(bytes *b, const char *code) { put(b, code, strlen(code)); }
static void put_text(bytes *b, const char *text) {
  put_code(b, "X");
  put_number(b, strlen(text), 4);
  put_code(b, text);
}
static void put_long(bytes *b, int64_t value) {
  put_code(b, "\x8a\x08");
  put_number(b, (uint64_t)value, 8);
}
static void put_tuple(bytes *b, int n, const int64_t *values) {
  put_code(b, "(");
  for (int i = 0; i < n; i++) put_long(b, values[i]);
  put_code(b, "t");
}

typedef struct hand_tensor {
  const char *kind;
  int64_t count, offset;
  int rank;
  int64_t dim[9], stride[9];
} hand_tensor;

static void put_tensor(bytes *b, const hand_tensor *t) {
  put_code(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
  put_text(b, "storage");
  put_code(b, "ctorch\n");
  put_code(b, t->kind);
  put_code(b, "\n");
  put_text(b, "0");
  put_text(b, "cpu");
  put_long(b, t->count);
  put_code(b, "tQ");
  put_long(b, t->offset);
  put_tuple(b, t->rank, t->dim);
  put_tuple(b, t->rank, t->stride);
  put_code(b, "\x89"
              "ccollections\nOrderedDict\n)RtR");
}

// --- zips by hand ---

typedef struct member {
  const char *name;
  const void *data;
  size_t size;
  int method;
  size_t claimed; // 0: size
} member;

static void make_zip(bytes *z, int n, const member *m, bool zip64) {
  size_t offset[8];
  for (int i = 0; i < n; i++) {
    offset[i] = z->n;
    put(z, "PK\3\4\0\0\0\0", 8);
    put_number(z, (uint64_t)m[i].method, 2);
    put_number(z, 0, 8); // time, date, crc
    put_number(z, m[i].size, 4);
    put_number(z, m[i].size, 4);
    put_number(z, strlen(m[i].name), 2);
    put_number(z, 0, 2);
    put_code(z, m[i].name);
    put(z, m[i].data, m[i].size);
  }
  size_t directory = z->n;
  for (int i = 0; i < n; i++) {
    size_t claimed = m[i].claimed ? m[i].claimed : m[i].size;
    put(z, "PK\1\2\0\0\0\0\0\0", 10);
    put_number(z, (uint64_t)m[i].method, 2);
    put_number(z, 0, 8);
    put_number(z, zip64 ? 0xffffffff : claimed, 4);
    put_number(z, zip64 ? 0xffffffff : claimed, 4);
    put_number(z, strlen(m[i].name), 2);
    put_number(z, zip64 ? 28 : 0, 2);
    put_number(z, 0, 10); // comment, disk, attributes
    put_number(z, zip64 ? 0xffffffff : offset[i], 4);
    put_code(z, m[i].name);
    if (!zip64) continue;
    put_number(z, 1 | 24 << 16, 4);
    put_number(z, claimed, 8);
    put_number(z, claimed, 8);
    put_number(z, offset[i], 8);
  }
  size_t length = z->n - directory, end64 = z->n;
  if (zip64) {
    put(z, "PK\6\6", 4);
    put_number(z, 44, 8);
    put_number(z, 0, 12);
    put_number(z, (uint64_t)n, 8);
    put_number(z, (uint64_t)n, 8);
    put_number(z, length, 8);
    put_number(z, directory, 8);
    put(z, "PK\6\7\0\0\0\0", 8);
    put_number(z, end64, 8);
    put_number(z, 1, 4);
  }
  put(z, "PK\5\6\0\0\0\0", 8);
  put_number(z, zip64 ? 0xffff : (uint64_t)n, 2);
  put_number(z, zip64 ? 0xffff : (uint64_t)n, 2);
  put_number(z, zip64 ? 0xffffffff : length, 4);
  put_number(z, zip64 ? 0xffffffff : directory, 4);
  put_number(z, 0, 2);
}

static const float numbers[6] = {1, 2, 3, 4, 5, 6};

static const char *write_zip(const bytes *data, int n, const member *more, bool zip64) {
  static bytes z;
  member m[8] = {{"archive/data.pkl", data->at, data->n, 0, 0}};
  z.n = 0;
  for (int i = 0; i < n; i++) m[i + 1] = more[i];
  make_zip(&z, n + 1, m, zip64);
  const char *path = test_path("hand.pth");
  test_write_file(path, z.at, z.n);
  return path;
}

static const member storage = {"archive/data/0", numbers, sizeof numbers, 0, 0};
static const hand_tensor plain = {"FloatStorage", 6, 0, 2, {2, 3}, {3, 1}};

// {"w": tensor}
static const bytes *dict_of(const hand_tensor *t) {
  static bytes b;
  b.n = 0;
  put_code(&b, "\x80\x02}");
  put_text(&b, "w");
  put_tensor(&b, t);
  put_code(&b, "s.");
  return &b;
}

static void test_zips(void **state) {
  (void)state;
  pickle *file;
  for (int zip64 = 0; zip64 < 2; zip64++) {
    assert_ok(ctx, pickle_open(ctx, write_zip(dict_of(&plain), 1, &storage, zip64), &file));
    assert_int_equal(pickle_count(file), 1);
    assert_string_equal(pickle_at(file, 0)->name, "w");
    assert_memory_equal(pickle_at(file, 0)->data, numbers, sizeof numbers);
    pickle_close(&file);
  }
  member m = storage;
  refused_as(write_zip(dict_of(&plain), 0, NULL, false), ELBO_ERROR_FORMAT, "storage 'archive/data/0' is missing");
  m.size = 20;
  refused_as(write_zip(dict_of(&plain), 1, &m, false), ELBO_ERROR_FORMAT, "holds 20 bytes; expected 24");
  m = storage, m.method = 8;
  refused_as(write_zip(dict_of(&plain), 1, &m, false), ELBO_ERROR_UNSUPPORTED, "compressed");
  m = storage, m.claimed = 1 << 20;
  refused_as(write_zip(dict_of(&plain), 1, &m, false), ELBO_ERROR_FORMAT, "the file ends before");
  m.claimed = SIZE_MAX - 64;
  refused_as(write_zip(dict_of(&plain), 1, &m, true), ELBO_ERROR_FORMAT, "the file ends before");
  static const char *const names[] = {"/etc/passwd", "archive/../../x", "..", "", "a\\b"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    m = storage, m.name = names[i];
    refused_as(write_zip(dict_of(&plain), 1, &m, false), ELBO_ERROR_FORMAT, "expected a relative path");
  }
  const member twice[] = {storage, storage};
  refused_as(write_zip(dict_of(&plain), 2, twice, false), ELBO_ERROR_FORMAT, "two members called 'archive/data/0'");
  const member roots[] = {storage, {"other/data.pkl", "N.", 2, 0, 0}};
  refused_as(write_zip(dict_of(&plain), 2, roots, false), ELBO_ERROR_FORMAT, "expected one");
  const member big[] = {storage, {"archive/byteorder", "big", 3, 0, 0}};
  refused_as(write_zip(dict_of(&plain), 2, big, false), ELBO_ERROR_UNSUPPORTED, "byte order 'big'");
  const member script[] = {storage, {"archive/constants.pkl", "N.", 2, 0, 0}};
  refused_as(write_zip(dict_of(&plain), 2, script, false), ELBO_ERROR_UNSUPPORTED, "TorchScript");
}

static void refused_tensor(const hand_tensor *t, elbo_status status, const char *part) {
  refused_as(write_zip(dict_of(t), 1, &storage, false), status, part);
}

static void test_tensors(void **state) {
  (void)state;
  refused_tensor(&(hand_tensor){"FloatStorage", 6, 1, 2, {2, 3}, {3, 1}}, ELBO_ERROR_FORMAT, "beyond its storage '0' of 6");
  refused_tensor(&(hand_tensor){"FloatStorage", 6, 0, 2, {2, 3}, {INT64_MAX, 1}}, ELBO_ERROR_FORMAT, "beyond its storage");
  refused_tensor(&(hand_tensor){"FloatStorage", 6, 0, 2, {3, 3}, {INT64_MAX / 2, 1}}, ELBO_ERROR_FORMAT, "beyond its storage");
  refused_tensor(&(hand_tensor){"FloatStorage", 6, 0, 1, {6}, {-1}}, ELBO_ERROR_FORMAT, "0 or more");
  refused_tensor(&(hand_tensor){"FloatStorage", 6, -1, 1, {6}, {1}}, ELBO_ERROR_FORMAT, "0 or more");
  refused_tensor(&(hand_tensor){"FloatStorage", INT64_MAX, 0, 1, {6}, {1}}, ELBO_ERROR_FORMAT, "impossible size");
  refused_tensor(&(hand_tensor){"FloatStorage", 1LL << 40, 0, 1, {6}, {1}}, ELBO_ERROR_FORMAT, "holds 24 bytes");
  refused_tensor(&(hand_tensor){"DoubleStorage", 6, 0, 1, {6}, {1}}, ELBO_ERROR_FORMAT, "expected 48");
  // a small storage spread over a terabyte, and over more than there are numbers for
  refused_tensor(&(hand_tensor){"FloatStorage", 6, 0, 2, {1 << 20, 1 << 18}, {0, 0}}, ELBO_ERROR_FORMAT, "its strides make more");
  refused_tensor(&(hand_tensor){"FloatStorage", 6, 0, 3, {1LL << 40, 1LL << 40, 2}, {0, 0, 1}}, ELBO_ERROR_FORMAT, "its strides make more");
  refused_tensor(&(hand_tensor){"FloatStorage", 6, 0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1}}, ELBO_ERROR_UNSUPPORTED, "9 dimensions");
}

// A pickle of codes alone; `n` for those with zeros inside.
static void refused_codes(const char *codes, size_t n, elbo_status status, const char *part) {
  bytes b = {.n = 0};
  put(&b, codes, n);
  refused_as(write_zip(&b, 1, &storage, false), status, part);
}
#define REFUSED(codes, status, part) refused_codes(codes, sizeof(codes) - 1, status, part)

static void test_machine(void **state) {
  (void)state;
  REFUSED("cos\nsystem\n(X\2\0\0\0lstR.", ELBO_ERROR_UNSUPPORTED, "os.system");
  REFUSED("\x80\x04\x8c\x02os\x8c\x06system\x93.", ELBO_ERROR_UNSUPPORTED, "os.system");
  REFUSED("(ios\nsystem\n.", ELBO_ERROR_UNSUPPORTED, "os.system");
  REFUSED("cbuiltins\neval\n.", ELBO_ERROR_UNSUPPORTED, "builtins.eval");
  REFUSED("c__builtin__\nexec\n.", ELBO_ERROR_UNSUPPORTED, "builtins.exec");
  REFUSED("ctorch.storage\n_load_from_bytes\n.", ELBO_ERROR_UNSUPPORTED, "torch.storage._load_from_bytes");
  REFUSED("cposix\nsy\033[2Jstem\n.", ELBO_ERROR_UNSUPPORTED, "posix.sy?[2Jstem");
  REFUSED("ctorch\nTensor\n)R.", ELBO_ERROR_UNSUPPORTED, "torch.Tensor"); // may be named, not called
  REFUSED("cbuiltins\nint\n)\x81.", ELBO_ERROR_UNSUPPORTED, "builtins.int");
  REFUSED("K\1)R.", ELBO_ERROR_FORMAT, "no function");
  REFUSED("ccollections\nOrderedDict\nK\1R.", ELBO_ERROR_FORMAT, "no tuple");
  REFUSED("K\1}b.", ELBO_ERROR_FORMAT, "a state");
  REFUSED(".", ELBO_ERROR_FORMAT, "stack is empty");
  REFUSED("K\1(.", ELBO_ERROR_FORMAT, "stack is empty"); // what lies below a mark is out of reach
  REFUSED("(1.", ELBO_ERROR_FORMAT, "stack is empty");   // a mark before anything was pushed
  REFUSED("(t0.", ELBO_ERROR_FORMAT, "stack is empty");
  REFUSED("N", ELBO_ERROR_FORMAT, "without an end");
  REFUSED("t.", ELBO_ERROR_FORMAT, "mark is missing");
  REFUSED("K\1\x87.", ELBO_ERROR_FORMAT, "stack is empty");
  REFUSED("(K\1d.", ELBO_ERROR_FORMAT, "without a value");
  REFUSED("K\1K\2a.", ELBO_ERROR_FORMAT, "holds none");
  REFUSED("h\0.", ELBO_ERROR_FORMAT, "never made");
  REFUSED("Nr\xff\xff\xff\xff.", ELBO_ERROR_FORMAT, "memo index");
  REFUSED("X\xff\xff\xff\xff.", ELBO_ERROR_FORMAT, "within an instruction");
  REFUSED("\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", ELBO_ERROR_FORMAT, "within an instruction");
  REFUSED("\x80\x63N.", ELBO_ERROR_FORMAT, "protocol");
  REFUSED("\x95\xff\xff\0\0\0\0\0\0N.", ELBO_ERROR_FORMAT, "frame");
  REFUSED("\x82\1.", ELBO_ERROR_FORMAT, "instruction 0x82"); // the extension registry
  REFUSED("S'text'\n.", ELBO_ERROR_FORMAT, "instruction 0x53");
  REFUSED("\x97.", ELBO_ERROR_FORMAT, "instruction 0x97"); // out-of-band buffers
  REFUSED("K\1Q.", ELBO_ERROR_FORMAT, "no storage");
  REFUSED("]q\0h\0a.", ELBO_ERROR_FORMAT, "nested deeper"); // a list that holds itself
}

// Each list holds the one before it twice: 2^60 things in 400 bytes.
static void test_doubling(void **state) {
  (void)state;
  bytes b = {.n = 0};
  put_code(&b, "]q");
  put_number(&b, 0, 1);
  for (int i = 1; i < 60; i++) {
    uint8_t codes[] = {']', 'q', (uint8_t)i, '(', 'h', (uint8_t)(i - 1), 'h', (uint8_t)(i - 1), 'e'};
    put(&b, codes, sizeof codes);
  }
  put_code(&b, ".");
  refused_as(write_zip(&b, 1, &storage, false), ELBO_ERROR_FORMAT, "hold more than");
}

// A list of 20,000 copied 2,000 times.
static void test_copying(void **state) {
  (void)state;
  static bytes b;
  b.n = 0;
  put(&b, "]q\0(", 4);
  for (int i = 0; i < 20000; i++) put_code(&b, "K\1");
  put_code(&b, "e0cbuiltins\nlist\nq\1");
  for (int i = 0; i < 2000; i++) put(&b, "h\1h\0\x85R", 6);
  put_code(&b, ".");
  refused_as(write_zip(&b, 1, &storage, false), ELBO_ERROR_FORMAT, "more than 8388608 objects");
}

static void test_names(void **state) {
  (void)state;
  bytes b = {.n = 0};
  put_code(&b, "\x80\x02}");
  for (int i = 0; i < 2; i++) {
    put_text(&b, "w");
    put_tensor(&b, &plain);
    put_code(&b, "s");
  }
  put_code(&b, ".");
  refused_as(write_zip(&b, 1, &storage, false), ELBO_ERROR_FORMAT, "two tensors called 'w'");
  b.n = 0;
  put_code(&b, "\x80\x02}");
  put_text(&b, "\xff\xfe");
  put_tensor(&b, &plain);
  put_code(&b, "s.");
  refused_as(write_zip(&b, 1, &storage, false), ELBO_ERROR_UNSUPPORTED, "neither text nor a whole number");
  b.n = 0;
  put_code(&b, "\x80\x02}N");
  put_tensor(&b, &plain);
  put_code(&b, "s.");
  refused_as(write_zip(&b, 1, &storage, false), ELBO_ERROR_UNSUPPORTED, "neither text nor a whole number");
  char name[600];
  memset(name, 'n', sizeof name - 1), name[sizeof name - 1] = 0;
  b.n = 0;
  put_code(&b, "\x80\x02}");
  put_text(&b, name);
  put_tensor(&b, &plain);
  put_code(&b, "s.");
  refused_as(write_zip(&b, 1, &storage, false), ELBO_ERROR_FORMAT, "names of more than");
  b.n = 0; // a tensor alone
  put_code(&b, "\x80\x02");
  put_tensor(&b, &plain);
  put_code(&b, ".");
  pickle *file;
  assert_ok(ctx, pickle_open(ctx, write_zip(&b, 1, &storage, false), &file));
  assert_non_null(pickle_find(file, "tensor"));
  pickle_close(&file);
}

// Cut off anywhere they are refused; with any one byte changed they are read or refused, and whatever is read lies within the file.
static void test_damage(void **state) {
  (void)state;
  static const char *const names[] = {"lightning.ckpt", "legacy4.pth"};
  for (int i = 0; i < 2; i++) {
    char *data;
    size_t size;
    uint64_t sum = 0;
    assert_ok(ctx, file_read(ctx, golden(names[i]), 1 << 20, &data, &size));
    const char *path = test_path("damaged.pth");
    pickle *file;
    test_write_file(path, data, size);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    for (size_t n = 0; n < size; n++) {
      uint8_t changed = (uint8_t)(data[n] ^ 1 << n % 8);
      assert_int_equal(pwrite(fd, &changed, 1, (off_t)n), 1);
      if (pickle_open(ctx, path, &file) == ELBO_OK) {
        for (int64_t k = 0; k < pickle_count(file); k++)
          for (size_t b = 0; b < pickle_at(file, k)->bytes; b++) sum += ((const uint8_t *)pickle_at(file, k)->data)[b];
        pickle_close(&file);
      }
      assert_int_equal(pwrite(fd, &data[n], 1, (off_t)n), 1);
    }
    for (size_t n = size; n > 0; n -= 1 + n / 64) {
      assert_int_equal(ftruncate(fd, (off_t)n - 1), 0);
      if (pickle_open(ctx, path, &file) == ELBO_OK) fail_msg("%s cut off at %zu of %zu was read", names[i], n - 1, size);
      assert_null(file);
    }
    close(fd);
    assert_true(sum > 0);
    free(data);
  }
}

static int setup(void **state) {
  (void)state;
  ctx = test_ctx(1);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  elbo_ctx_destroy(&ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden),  cmocka_unit_test(test_refused), cmocka_unit_test(test_zips),
      cmocka_unit_test(test_tensors), cmocka_unit_test(test_machine), cmocka_unit_test(test_doubling),
      cmocka_unit_test(test_copying), cmocka_unit_test(test_names),   cmocka_unit_test(test_damage),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
