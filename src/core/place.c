#include "core/place.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"

// The file that this code was loaded from.
static bool own_file(char path[PATH_MAX]) {
  static const char here; // any address of ours will do
  Dl_info info;
  if (dladdr(&here, &info) && info.dli_fname && strchr(info.dli_fname, '/') && realpath(info.dli_fname, path)) return true;
  return realpath("/proc/self/exe", path) != NULL; // a program found through PATH has no folder in its name
}

bool place_beside(const char *name, char *out, size_t size) {
  char path[PATH_MAX];
  if (!own_file(path)) return false;
  for (int up = 0; up < 4; up++) { // PREFIX/bin/elbo, PREFIX/lib/libelbo.so, PREFIX/lib/x86_64-linux-gnu/libelbo.so
    char *slash = strrchr(path, '/');
    if (!slash || slash == path) return false;
    *slash = 0;
    int n = snprintf(out, size, "%s/share/elbo/%s", path, name);
    if (n > 0 && (size_t)n < size && directory_exists(out)) return true;
  }
  return false;
}
