// Progress on standard error: a bar that is redrawn on a terminal, a plain line every few seconds otherwise.
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

static struct {
  char what[64];
  double began, shown; // seconds
  int64_t first;       // where this piece of work was when it was first heard of
  bool drawn;          // a bar stands on the terminal's last line
} bar;

double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void clear_progress(void) {
  if (bar.drawn) fputs("\r\033[K", stderr);
  bar.drawn = false;
}

static void time_left(double seconds, char *out, size_t size) {
  long s = seconds < 360000 ? (long)(seconds + 0.5) : 360000;
  if (s >= 3600)
    snprintf(out, size, "%ld:%02ld:%02ld left", s / 3600, s / 60 % 60, s % 60);
  else
    snprintf(out, size, "%ld:%02ld left", s / 60, s % 60);
}

static void draw_bar(const char *what, int64_t done, int64_t total, const char *text, const char *left) {
  struct winsize window;
  int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 20 ? window.ws_col : 80;
  char line[1024], cells[41];
  int width = columns >= 110 ? 30 : columns >= 90 ? 20 : 10;
  int full = total > 0 ? (int)((double)width * (double)done / (double)total) : 0;
  for (int i = 0; i < width; i++) cells[i] = i < full ? '#' : '.';
  cells[width] = 0;
  int n = total > 0 ? snprintf(line, sizeof line, "%s %lld/%lld [%s] %s  %s", what, (long long)done, (long long)total, cells, left, text)
                    : snprintf(line, sizeof line, "%s %lld  %s", what, (long long)done, text);
  if (n > columns - 1) line[columns - 1] = 0;
  fprintf(stderr, "\r%s\033[K", line);
  fflush(stderr);
  bar.drawn = true;
}

int show_progress(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)user;
  bool terminal = isatty(STDERR_FILENO) && !(getenv("TERM") && !strcmp(getenv("TERM"), "dumb"));
  double now = seconds_now();
  bool fresh = strcmp(bar.what, what) != 0;
  if (fresh) {
    clear_progress();
    snprintf(bar.what, sizeof bar.what, "%s", what);
    bar.began = now, bar.shown = 0, bar.first = done;
  }
  bool last = total > 0 && done >= total;
  if (now - bar.shown >= (terminal ? 0.1 : 5.0) || last || interrupted()) {
    char left[32] = "";
    if (total > 0 && done > bar.first && !last)
      time_left((now - bar.began) / (double)(done - bar.first) * (double)(total - done), left, sizeof left);
    bar.shown = now;
    if (terminal)
      draw_bar(what, done, total, text, left);
    else if (total > 0)
      fprintf(stderr, "%s %lld/%lld  %s%s%s\n", what, (long long)done, (long long)total, text, left[0] ? "  " : "", left);
    else
      fprintf(stderr, "%s %lld  %s\n", what, (long long)done, text);
  }
  if (last && terminal && bar.drawn) fputc('\n', stderr), bar.drawn = false; // the last state stays on the screen
  if (last) bar.what[0] = 0;
  return !interrupted();
}
