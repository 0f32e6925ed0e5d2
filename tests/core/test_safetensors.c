// safetensors: what is written is read back, and what is broken is refused by name.
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"

static elbo_ctx *ctx;

static void test_round_trip(void **state) {
  (void)state;
  const char *path = test_path("model.safetensors");
  float weight[6] = {1, 2, 3, 4, 5, 6}, scalar = 7;
  uint8_t bytes[3] = {9, 8, 7};
  double wide[2] = {0.5, -0.5};
  int64_t step = 12;
  const tensor_view tensors[] = {
      {"unet.bytes", ELBO_U8, 1, {3}, bytes, 3},
      {"unet.weight", ELBO_F32, 2, {2, 3}, weight, 24},
      {"a\"quote\n\xc3\xa9", ELBO_F32, 0, {0}, &scalar, 4},
      {"wide", ELBO_F64, 3, {1, 2, 1}, wide, 16},
      {"step", ELBO_I64, 0, {0}, &step, 8},
      {"none", ELBO_BF16, 2, {0, 5}, NULL, 0},
  };
  const char *meta[] = {"format", "pt", "note", "a \"b\""};
  safetensors *file;
  assert_ok(ctx, safetensors_write(ctx, path, 6, tensors, 2, meta));
  assert_ok(ctx, safetensors_open(ctx, path, &file));
  assert_int_equal(safetensors_count(file), 6);
  for (int i = 0; i < 6; i++) {
    const tensor_view *v = safetensors_find(file, tensors[i].name), *w = &tensors[i];
    assert_non_null(v);
    assert_int_equal(v->dtype, w->dtype);
    assert_int_equal(v->rank, w->rank);
    for (int d = 0; d < v->rank; d++) assert_int_equal(v->dim[d], w->dim[d]);
    assert_int_equal(v->bytes, w->bytes);
    if (v->bytes) assert_memory_equal(v->data, w->data, v->bytes);
    if (v->dtype != ELBO_U8) assert_int_equal((uintptr_t)v->data % 2, 0);
  }
  assert_int_equal((uintptr_t)safetensors_find(file, "wide")->data % 8, 0);
  assert_int_equal((uintptr_t)safetensors_find(file, "unet.weight")->data % 4, 0);
  for (int i = 1; i < 6; i++) assert_true(strcmp(safetensors_at(file, i - 1)->name, safetensors_at(file, i)->name) < 0);
  assert_null(safetensors_at(file, 6));
  assert_null(safetensors_at(file, -1));
  assert_null(safetensors_find(file, "other"));
  assert_string_equal(safetensors_metadata(file, "format"), "pt");
  assert_string_equal(safetensors_metadata(file, "note"), "a \"b\"");
  assert_null(safetensors_metadata(file, "other"));
  safetensors_close(&file);
  assert_null(file);
  safetensors_close(&file);

  assert_ok(ctx, safetensors_write(ctx, path, 0, NULL, 0, NULL));
  assert_ok(ctx, safetensors_open(ctx, path, &file));
  assert_int_equal(safetensors_count(file), 0);
  assert_null(safetensors_find(file, "x"));
  assert_null(safetensors_metadata(file, "format"));
  safetensors_close(&file);
}

// All dtypes by a name of the format's.
static void test_dtypes(void **state) {
  (void)state;
  const char *path = test_path("dtypes.safetensors");
  static const size_t size[ELBO_DTYPE_COUNT] = {4, 8, 2, 2, 8, 4, 2, 1, 8, 4, 2, 1, 1};
  static const uint64_t data[8];
  tensor_view tensors[ELBO_DTYPE_COUNT];
  char names[ELBO_DTYPE_COUNT][8];
  safetensors *file;
  for (int d = 0; d < ELBO_DTYPE_COUNT; d++) {
    snprintf(names[d], sizeof names[d], "t%d", d);
    tensors[d] = (tensor_view){names[d], (elbo_dtype)d, 1, {5}, data, size[d] * 5};
  }
  assert_ok(ctx, safetensors_write(ctx, path, ELBO_DTYPE_COUNT, tensors, 0, NULL));
  assert_ok(ctx, safetensors_open(ctx, path, &file));
  for (int d = 0; d < ELBO_DTYPE_COUNT; d++) assert_int_equal(safetensors_find(file, names[d])->dtype, d);
  safetensors_close(&file);
}

static void test_write_refusals(void **state) {
  (void)state;
  const char *path = test_path("refused.safetensors");
  float x[4] = {0};
  tensor_view two[] = {{"x", ELBO_F32, 1, {4}, x, 16}, {"x", ELBO_F32, 1, {4}, x, 16}};
  tensor_view wrong_size = {"y", ELBO_F32, 1, {4}, x, 12}, negative = {"y", ELBO_F32, 1, {-4}, x, 16};
  tensor_view reserved = {"__metadata__", ELBO_F32, 1, {4}, x, 16}, not_utf8 = {"\xff", ELBO_F32, 1, {4}, x, 16};
  tensor_view huge = {"y", ELBO_F32, 3, {INT64_C(1) << 30, INT64_C(1) << 30, 16}, x, 16}, no_data = {"y", ELBO_F32, 1, {4}, NULL, 16};
  assert_status(ctx, safetensors_write(ctx, path, 2, two, 0, NULL), ELBO_ERROR_ARGUMENT, "two tensors called 'x'");
  assert_status(ctx, safetensors_write(ctx, path, 1, &wrong_size, 0, NULL), ELBO_ERROR_ARGUMENT,
                "'y': 12 bytes of data; its shape and dtype need 16");
  assert_status(ctx, safetensors_write(ctx, path, 1, &negative, 0, NULL), ELBO_ERROR_ARGUMENT, "'y': impossible shape");
  assert_status(ctx, safetensors_write(ctx, path, 1, &huge, 0, NULL), ELBO_ERROR_ARGUMENT, "'y': impossible shape");
  assert_status(ctx, safetensors_write(ctx, path, 1, &no_data, 0, NULL), ELBO_ERROR_ARGUMENT, "'y'");
  assert_status(ctx, safetensors_write(ctx, path, 1, &reserved, 0, NULL), ELBO_ERROR_ARGUMENT, "__metadata__");
  assert_status(ctx, safetensors_write(ctx, path, 1, &not_utf8, 0, NULL), ELBO_ERROR_ARGUMENT, "UTF-8");
  assert_false(file_exists(path));
  assert_status(ctx, safetensors_write(ctx, "/dev/full", 1, two, 0, NULL), ELBO_ERROR_IO, "No space left");
}

// A file of this header and so many bytes of data; `claimed` is the length it says that its header has (-1: the true one).
static const char *make_file(const char *header, size_t data, int64_t claimed) {
  const char *path = test_path("hostile.safetensors");
  uint64_t length = claimed < 0 ? strlen(header) : (uint64_t)claimed;
  uint8_t prefix[8];
  static const char zeros[4096];
  for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)(length >> 8 * i);
  assert_true(data <= sizeof zeros);
  file_part parts[] = {{prefix, 8}, {header, strlen(header)}, {zeros, data}};
  assert_ok(ctx, file_write_parts(ctx, path, 3, parts));
  return path;
}

static void test_hostile(void **state) {
  (void)state;
  static const struct {
    const char *header;
    size_t data;
    int64_t claimed;
    elbo_status status;
    const char *message;
  } files[] = {
      {"{}", 0, 100 << 20, ELBO_ERROR_FORMAT, "cut off"},
      {"{}", 0, (100 << 20) + 1, ELBO_ERROR_FORMAT, "header of 104857601 bytes"},
      {"{}", 0, INT64_MAX, ELBO_ERROR_FORMAT, "header of 9223372036854775807 bytes"},
      {"{}", 0, 3, ELBO_ERROR_FORMAT, "cut off"},
      {"{}", 0, 0, ELBO_ERROR_FORMAT, "expected a JSON object"},
      {"[]", 0, -1, ELBO_ERROR_FORMAT, "expected a JSON object"},
      {"{\"a\":", 0, -1, ELBO_ERROR_FORMAT, "hostile.safetensors:1: not valid JSON"},
      {"{} x", 0, -1, ELBO_ERROR_FORMAT, "not valid JSON"},
      {"{}", 4, -1, ELBO_ERROR_FORMAT, "4 bytes behind the last tensor"},
      {"{\"a\":5}", 0, -1, ELBO_ERROR_FORMAT, "tensor 'a': expected an object"},
      {"{\"a\":{}}", 0, -1, ELBO_ERROR_FORMAT, "tensor 'a': dtype"},
      {"{\"a\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT, "tensor 'a': dtype"},
      {"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_UNSUPPORTED, "dtype 'F33'"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":5,\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT, "tensor 'a': shape"},
      {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT, "tensor 'a': shape"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT, "shape[0]"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,-1],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT, "shape[1]"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT, "not valid JSON"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT,
       "shape too large"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_UNSUPPORTED, "9 dimensions"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, -1, ELBO_ERROR_FORMAT, "tensor 'a': data_offsets"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, -1, ELBO_ERROR_FORMAT, "data_offsets"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, -1, ELBO_ERROR_FORMAT, "data_offsets"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[\"0\",4]}}", 4, -1, ELBO_ERROR_FORMAT, "data_offsets"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, -1, ELBO_ERROR_FORMAT, "data_offsets [-4, 0]"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, -1, ELBO_ERROR_FORMAT, "data_offsets [4, 0]"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 4, -1, ELBO_ERROR_FORMAT, "within the file's 4 bytes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,9223372036854775807]}}", 4, -1, ELBO_ERROR_FORMAT, "within"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT,
       "4 bytes of data; its shape and dtype need 8"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,3]}}", 4, -1, ELBO_ERROR_FORMAT, "3 bytes of data"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
       -1, ELBO_ERROR_FORMAT, "tensor 'b' overlaps 'a'"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
       12, -1, ELBO_ERROR_FORMAT, "a gap of 4 bytes before tensor 'b'"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
       -1, ELBO_ERROR_FORMAT, "duplicate object key"},
      {"{\"__metadata__\":5}", 0, -1, ELBO_ERROR_FORMAT, "__metadata__"},
      {"{\"__metadata__\":{\"a\":5}}", 0, -1, ELBO_ERROR_FORMAT, "__metadata__: 'a'"},
      {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT, "not valid JSON"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,9223372036854775807,9223372036854775807],\"data_offsets\":[0,4]}}", 4, -1, ELBO_ERROR_FORMAT,
       "shape too large"},
  };
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    safetensors *file;
    const char *path = make_file(files[i].header, files[i].data, files[i].claimed);
    elbo_status status = safetensors_open(ctx, path, &file);
    if (status != files[i].status) print_error("%s\n", files[i].header);
    assert_status(ctx, status, files[i].status, files[i].message);
    assert_null(file);
    assert_non_null(strstr(elbo_ctx_message(ctx), "hostile.safetensors"));
  }
}

// Nested too deep for any parser's stack, and a header that is one long list.
static void test_deep(void **state) {
  (void)state;
  safetensors *file;
  char *header = malloc(1000001);
  memset(header, '[', 1000000), header[1000000] = 0;
  memcpy(header, "{\"a\":", 5);
  assert_status(ctx, safetensors_open(ctx, make_file(header, 0, -1), &file), ELBO_ERROR_FORMAT, "deeper than 64");
  free(header);
}

// A good file cut at every length is refused, whatever is left.
static void test_truncated(void **state) {
  (void)state;
  const char *path = test_path("whole.safetensors");
  float x[8] = {1, 2, 3};
  tensor_view two[] = {{"x", ELBO_F32, 1, {8}, x, 32}, {"y", ELBO_U8, 1, {5}, x, 5}};
  char *data;
  size_t size;
  safetensors *file;
  assert_ok(ctx, safetensors_write(ctx, path, 2, two, 0, NULL));
  assert_ok(ctx, file_read(ctx, path, 4096, &data, &size));
  for (size_t n = 0; n < size; n++) {
    test_write_file(path, data, n);
    assert_status(ctx, safetensors_open(ctx, path, &file), ELBO_ERROR_FORMAT, "whole.safetensors: ");
  }
  free(data);
  assert_status(ctx, safetensors_open(ctx, test_directory(), &file), ELBO_ERROR_IO, "directory");
  assert_status(ctx, safetensors_open(ctx, test_path("absent"), &file), ELBO_ERROR_IO, "No such file");
}

// The format's own Python package reads what we write and writes what we read, where there is one.
static void test_python(void **state) {
  (void)state;
  const char *python = getenv("ELBO_TEST_PYTHON");
  char command[9000], *output;
  snprintf(command, sizeof command, "%s -c 'import safetensors.numpy'", python ? python : "python3");
  if (test_run(command, NULL) != 0) {
    print_message("skipped: no Python with the safetensors package (ELBO_TEST_PYTHON names one)\n");
    skip();
  }
  float x[6] = {1.5f, 2, 3, 4, 5, 6};
  uint8_t odd[3] = {1, 2, 3};
  tensor_view two[] = {{"odd", ELBO_U8, 1, {3}, odd, 3}, {"x", ELBO_F32, 2, {2, 3}, x, 24}};
  const char *meta[] = {"format", "pt"}, *path = test_path("ours.safetensors"), *theirs = test_path("theirs.safetensors");
  safetensors *file;
  assert_ok(ctx, safetensors_write(ctx, path, 2, two, 1, meta));
  snprintf(command, sizeof command,
           "%s -c 'import sys, safetensors.numpy as s; t = s.load_file(sys.argv[1]); assert t[\"x\"].tolist() == [[1.5, 2, 3], [4, 5, 6]]; "
           "assert t[\"odd\"].tolist() == [1, 2, 3]; s.save_file(t, sys.argv[2])' '%s' '%s'",
           python ? python : "python3", path, theirs);
  int status = test_run(command, &output);
  if (status != 0) print_error("%s\n", output);
  free(output);
  assert_int_equal(status, 0);
  assert_ok(ctx, safetensors_open(ctx, theirs, &file));
  assert_memory_equal(safetensors_find(file, "x")->data, x, 24);
  assert_memory_equal(safetensors_find(file, "odd")->data, odd, 3);
  safetensors_close(&file);
}

static void test_json(void **state) {
  (void)state;
  const char *path = test_path("a.json");
  json_t *json, *back;
  json = json_pack("{s:o, s:o, s:[i, i], s:s}", "loss", json_number(0.1), "bad", json_number(0.0 / 0.0), "list", 1, 2, "a", "\xc3\xa9");
  assert_non_null(json);
  assert_ok(ctx, json_write(ctx, path, json));
  assert_ok(ctx, json_read(ctx, path, 1000, &back));
  assert_true(json_equal(json, back));
  assert_true(json_is_null(json_object_get(back, "bad")));
  json_decref(json);
  json_decref(back);
  assert_status(ctx, json_read(ctx, path, 10, &back), ELBO_ERROR_FORMAT, "a.json: too large");
  assert_null(back);
  test_write_file(path, "{\n\"a\": 1,\n}", 11);
  assert_status(ctx, json_read(ctx, path, 1000, &back), ELBO_ERROR_FORMAT, "a.json:3: not valid JSON");
  test_write_file(path, "", 0);
  assert_status(ctx, json_read(ctx, path, 1000, &back), ELBO_ERROR_FORMAT, "a.json:1: not valid JSON");
  test_write_file(path, "{\"a\": 1, \"a\": 2}", 16);
  assert_status(ctx, json_read(ctx, path, 1000, &back), ELBO_ERROR_FORMAT, "duplicate");
  // Brackets in strings do not count as depth; 64 levels pass, 65 do not.
  char text[300] = "[\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]";
  assert_ok(ctx, json_parse(ctx, "text", text, strlen(text), &back));
  json_decref(back);
  memset(text, '[', 65), memset(text + 65, ']', 65);
  assert_ok(ctx, json_parse(ctx, "text", text + 1, 128, &back));
  json_decref(back);
  assert_status(ctx, json_parse(ctx, "text", text, 130, &back), ELBO_ERROR_FORMAT, "text: JSON nested deeper");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip), cmocka_unit_test(test_dtypes), cmocka_unit_test(test_write_refusals),
      cmocka_unit_test(test_hostile),    cmocka_unit_test(test_deep),   cmocka_unit_test(test_truncated),
      cmocka_unit_test(test_python),     cmocka_unit_test(test_json),
  };
  ctx = test_ctx(1);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
