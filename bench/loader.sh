#!/bin/sh
# Whether loading keeps up: training steps on data as they lie on the disk beside the same steps on the same pixels in memory already (.npy),
# alternately in one run, and the seconds that opening takes.
#   bench/loader.sh [MNIST] [CIFAR]       folders of the IDX .gz files and of the .tar.gz shards of JPEG (default: ../shared/data/...)
# ROUNDS (default 5), SECONDS_EACH (of timed steps, default 3) and THREADS (default: all cores) can be set. Wanted: at least 0.97.
set -eu
cd "$(dirname "$0")/.."
elbo=${ELBO:-build/elbo}
[ -x "$elbo" ] || { echo "bench/loader.sh: $elbo is not built; run make" >&2; exit 1; }
mnist=${1:-../shared/data/mnist} cifar=${2:-../shared/data/cifar10}
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-3} threads=${THREADS:-$(nproc)}
work=$(mktemp -d "${TMPDIR:-/tmp}/elbo-loader.XXXXXX")
trap 'rm -rf "$work"' EXIT

step() { # RECIPE DATA [key=value]: median milliseconds of a step
  "$elbo" bench "$@" --threads "$threads" --seconds "$seconds" --json 2>"$work/log" | tr -d ' \n' | sed 's/.*"median":\([0-9.e+-]*\).*/\1/'
}

compare() { # NAME RECIPE DATA KEY=VALUE
  began=$(date +%s.%N)
  "$elbo" data "$3" >"$work/about"
  ended=$(date +%s.%N)
  "$elbo" data "$3" -n 1000000 --split train --out "$work/x.npy" >"$work/about" 2>"$work/log"
  disk= memory= round=0
  while [ $round -lt "$rounds" ]; do # the first is whichever is fresh: they take turns
    disk="$disk $(step "$2" --data "$3" "$4")"
    memory="$memory $(step "$2" --data "$work/x.npy" data.binarize=none)"
    round=$((round + 1))
  done
  echo "$1 $began $ended $disk /$memory" | awk '{
    for (i = 4; $i != "/"; i++) if (!d || $i < d) d = $i
    for (i++; i <= NF; i++) if (!m || $i < m) m = $i
    printf "%-28s %8.2f ms a step from disk, %8.2f ms from memory: ratio %.3f; opening takes %.2f s\n", $1, d, m, m / d, $3 - $2 }'
  rm -f "$work/x.npy"
}

compare mnist-gz-dynamic mlp-vae "$mnist" data.binarize=dynamic
compare cifar10-tar-gz-flip conv-vae-cifar "$cifar" data.flip=true
