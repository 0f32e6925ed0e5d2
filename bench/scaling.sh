#!/bin/sh
# The steps of workloads on one thread and on more, alternately: the shortest step of each, and how many times faster the latter is.
#   bench/scaling.sh [WORKLOAD ...] [key=value ...]       default: those of recipes/bench that train a convolutional model
# THREADS (default: all cores, at least 2), SECONDS_EACH (of timed steps a round, default 4) and ROUNDS (default 3) can be set.
set -eu
cd "$(dirname "$0")/.."
elbo=${ELBO:-build/elbo}
[ -x "$elbo" ] || { echo "bench/scaling.sh: $elbo is not built; run make" >&2; exit 1; }
threads=${THREADS:-$(nproc)}
[ "$threads" -gt 1 ] || threads=2
workloads= keys=
for argument in "$@"; do
  case $argument in
    *=*) keys="$keys $argument" ;;
    *) workloads="$workloads $argument" ;;
  esac
done
step() { # WORKLOAD THREADS: the shortest step in ms
  # shellcheck disable=SC2086 # keys have no blanks
  "$elbo" bench "$1" $keys --threads "$2" --seconds "${SECONDS_EACH:-4}" --steps 3 --json 2>/dev/null |
    sed -n 's/.*"step_ms": {"min": \([0-9.e+-]*\),.*/\1/p'
}
printf '%-26s %14s %14s %8s\n' workload "1 thread, ms" "$threads threads, ms" ratio
for workload in ${workloads:-conv-vae-mnist conv-vae-cifar ddpm-small}; do
  one= many= round=0
  while [ $round -lt "${ROUNDS:-3}" ]; do
    one="$one $(step "$workload" 1)"
    many="$many $(step "$workload" "$threads")"
    round=$((round + 1))
  done
  printf '%s\n' "$workload;$one;$many" | awk -F ';' '
    function least(text, n, part, i, best) { n = split(text, part, " "); best = part[1]; for (i = 2; i <= n; i++) if (part[i] + 0 < best + 0) best = part[i]; return best }
    { one = least($2); many = least($3); if (!(one > 0) || !(many > 0)) { print $1 ": not measured"; exit 1 }
      printf "%-26s %14.2f %14.2f %8.2f\n", $1, one, many, one / many }'
done
