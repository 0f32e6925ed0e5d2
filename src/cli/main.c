// elbo: the command. The table of subcommands, and nothing else.
#include <string.h>

#include "cli/cli.h"

extern const command command_train, command_sample, command_reconstruct, command_interpolate, command_encode, command_decode, command_eval,
    command_edit, command_report, command_compare, command_apply, command_convert, command_info, command_data, command_bench;

const command *const commands[] = {&command_train,  &command_sample,  &command_reconstruct, &command_interpolate, &command_encode,
                                   &command_decode, &command_edit,    &command_eval,        &command_report,      &command_compare,
                                   &command_apply,  &command_convert, &command_info,        &command_data,        &command_bench};
const int n_commands = COUNT(commands);

static void print_usage(FILE *out) {
  fprintf(out, "elbo trains, judges and uses variational autoencoders and diffusion models.\n\nusage: elbo COMMAND ...\n\n");
  for (int i = 0; i < n_commands; i++) fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
  fprintf(out, "\n`elbo COMMAND --help` lists a command's options and gives an example; `elbo --version` prints the version.\n"
               "Exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.\n\nexample:\n"
               "  elbo train vae-digits --data digits --out run && elbo sample run -n 64 --out grid.png\n");
}

int main(int argc, char **argv) {
  if (argc < 2) return print_usage(stderr), STATUS_USAGE;
  if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return print_usage(stdout), finish(STATUS_DONE);
  if (!strcmp(argv[1], "--version")) return printf("elbo %s\n", elbo_version()), finish(STATUS_DONE);
  const char *names[COUNT(commands)];
  for (int i = 0; i < n_commands; i++) {
    if (!strcmp(argv[1], commands[i]->name)) {
      int status = commands[i]->run(commands[i], argc - 1, argv + 1);
      args_release();
      return finish(status);
    }
    names[i] = commands[i]->name;
  }
  const char *near = nearest_name(argv[1], names, n_commands);
  say("unknown command '%s'%s%s%s; `elbo --help` lists them", argv[1], near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
  return STATUS_USAGE;
}
