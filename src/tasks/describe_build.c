// elbo_describe_build: how the library was built and what it found on this machine.
#include <elbo/model.h>

#include <png.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <webp/decode.h>
#include <yaml.h>
#include <zlib.h>

#include <archive.h>

#include "backend/onednn.h"
#include "backend/openblas.h"
#include "core/ctx.h"
#include "data/picture.h"
#include "ops/op.h"
#include "tasks/describe.h"

static void processor_name(char *name, size_t size) {
  snprintf(name, size, "unknown");
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[512];
  while (file && fgets(line, sizeof line, file)) {
    char *value = strchr(line, ':');
    if (!value || (strncmp(line, "model name", 10) && strncmp(line, "Model", 5))) continue;
    value += 1 + strspn(value + 1, " ");
    value[strcspn(value, "\n")] = 0;
    snprintf(name, size, "%s", value);
    break;
  }
  if (file) fclose(file);
}

static json_t *version_json(const char *name, const char *version) {
  json_t *row = json_object();
  json_object_set_new(row, "name", json_string(name));
  json_object_set_new(row, "version", json_string(version));
  return row;
}

elbo_status elbo_describe_build(elbo_ctx *ctx, int json, char **out) {
  char text[256];
  json_t *object = json_object(), *libraries = json_array(), *machine = json_object();
  json_object_set_new(object, "version", json_string(elbo_version()));
  json_object_set_new(object, "compiler",
                      json_string(
#ifdef __clang__
                          "clang " __clang_version__
#else
                          "gcc " __VERSION__
#endif
                          ));
  json_object_set_new(object, "build_type", json_string(ELBO_BUILD_TYPE));
  json_object_set_new(object, "sanitizers", json_string(ELBO_SANITIZE[0] ? ELBO_SANITIZE : "none"));
  json_object_set_new(object, "backends", json_pack("[ss]", backend_cpu.name, backend_reference.name));
  json_object_set_new(object, "operations", json_integer(op_count()));
  json_object_set_new(object, "kernel_variants",
#ifdef ELBO_HAVE_X86_VARIANTS
                      json_pack("[sss]", "v2", "v3", "v4")
#else
                      json_pack("[s]", "base")
#endif
  );
  const char *onednn = onednn_version(), *archive = archive_version_string(); // its details would be allocated anew by each call, for good
  json_array_append_new(libraries, version_json("oneDNN", onednn ? onednn : "not found: own kernels alone"));
  const char *openblas = openblas_version();
  json_array_append_new(libraries, version_json("OpenBLAS", openblas ? openblas : "not found: no FID, KID, precision or recall"));
  json_array_append_new(libraries, version_json("jansson", JANSSON_VERSION));
  json_array_append_new(libraries, version_json("libyaml", yaml_get_version_string()));
  json_array_append_new(libraries, version_json("libjpeg", jpeg_decoder_name()));
  json_array_append_new(libraries, version_json("libpng", PNG_LIBPNG_VER_STRING));
  int webp = WebPGetDecoderVersion();
  snprintf(text, sizeof text, "%d.%d.%d", webp >> 16, (webp >> 8) & 255, webp & 255);
  json_array_append_new(libraries, version_json("libwebp", text));
  json_array_append_new(libraries, version_json("zlib", zlibVersion()));
  json_array_append_new(libraries, version_json("libarchive", strncmp(archive, "libarchive ", 11) ? archive : archive + 11));
  json_object_set_new(object, "libraries", libraries);
  processor_name(text, sizeof text);
  json_object_set_new(machine, "processor", json_string(text));
  json_object_set_new(machine, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
  json_object_set_new(machine, "memory_bytes", json_integer((json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE)));
  json_object_set_new(machine, "threads", json_integer(elbo_ctx_threads(ctx)));
  json_object_set_new(machine, "kernels_in_use", json_string(elbo_ctx_isa(ctx)));
  json_object_set_new(object, "machine", machine);
  elbo_status status = json_describe(ctx, object, json, out);
  json_decref(object);
  return status;
}
