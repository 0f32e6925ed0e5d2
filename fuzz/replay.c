// Stands in for libFuzzer where there is none: feeds every file of the directories and files named on the command line to the target
// once, and a few inputs that need no file.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return 1;
  if (fseek(file, 0, SEEK_END)) return fclose(file), 1;
  long size = ftell(file);
  rewind(file);
  uint8_t *data = size >= 0 ? malloc((size_t)size + 1) : NULL; // exact bytes matter to the sanitizers; + 1 for an empty file
  int bad = !data || fread(data, 1, (size_t)size, file) != (size_t)size;
  fclose(file);
  if (!bad) LLVMFuzzerTestOneInput(data, (size_t)size);
  free(data);
  return bad;
}

int main(int argc, char **argv) {
  static const uint8_t few[] = {0, 0, 8, 3, 0, 0, 0, 1, 255, 255, 255, 255, '{', '}', '[', 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
  int bad = 0, count = 0;
  for (size_t n = 0; n <= sizeof few; n++) LLVMFuzzerTestOneInput(few, n);
  for (int i = 1; i < argc; i++) {
    struct stat status;
    if (stat(argv[i], &status)) continue; // a target without seeds
    DIR *directory = S_ISDIR(status.st_mode) ? opendir(argv[i]) : NULL;
    if (!directory) bad |= replay_file(argv[i]), count++;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
      char path[4096];
      if (entry->d_name[0] == '.' || snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name) >= (int)sizeof path) continue;
      bad |= replay_file(path), count++;
    }
    if (directory) closedir(directory);
  }
  printf("%d seeds\n", count);
  return bad;
}
