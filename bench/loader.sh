#!/bin/sh
# Whether loading keeps up: training steps on data as they lie on the disk beside the same steps on the same pixels in memory already (.npy),
# alternately in one run, and the seconds that opening takes; and steps of a latent prior, which draws its codes from means and deviations that
# were encoded once, beside steps of the same network on an array of codes.
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

report() { # NAME WHERE "MILLISECONDS ..." "MILLISECONDS ...": from there, from memory
  echo "$1 $2 $3 / $4" | awk '{
    for (i = 3; $i != "/"; i++) if (!d || $i < d) d = $i
    for (i++; i <= NF; i++) if (!m || $i < m) m = $i
    printf "%-28s %8.2f ms a step from %s, %8.2f ms from memory: ratio %.3f\n", $1, d, $2, m, m / d }'
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
  report "$1" disk "$disk" "$memory"
  echo "$began $ended" | awk '{printf "%-28s opening takes %.2f s\n", "", $2 - $1}'
  rm -f "$work/x.npy"
}

prior() { # FILE [LINE]: a network over 7x7x3 codes of 0.005 GFLOP a call, where loading would be seen soonest
  cat >"$work/$1" <<RECIPE
model:
  preset: ddpm
  ${2:-}
  network: unet
  unet: {block_out_channels: [16], layers_per_block: 1, down_block_types: [DownBlock2D], up_block_types: [UpBlock2D], norm_num_groups: 8}
data: {path: digits}
train: {steps: 1000, batch_size: 64, learning_rate: 1e-3, ema: 0}
RECIPE
}

compare_latents() {
  cat >"$work/ae.yaml" <<RECIPE
model: {preset: autoencoder, network: kl, kl: {in_channels: 1, out_channels: 1, latent_channels: 3, block_out_channels: [8, 8, 8],
        down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D],
        up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D], norm_num_groups: 4}}
data: {path: digits}
train: {steps: 5, batch_size: 32, learning_rate: 1e-3, ema: 0}
RECIPE
  prior cached.yaml "autoencoder: $work/ae"
  prior alone.yaml
  "$elbo" train "$work/ae.yaml" --out "$work/ae" >"$work/about" 2>"$work/log"
  "$elbo" encode "$work/ae" --data digits --split train --out "$work/codes.npy" >"$work/about" 2>"$work/log"
  disk= memory= round=0
  while [ $round -lt "$rounds" ]; do
    disk="$disk $(step "$work/cached.yaml")"
    memory="$memory $(step "$work/alone.yaml" --data "$work/codes.npy")"
    round=$((round + 1))
  done
  report latents codes "$disk" "$memory"
}

compare mnist-gz-dynamic mlp-vae "$mnist" data.binarize=dynamic
compare cifar10-tar-gz-flip conv-vae-cifar "$cifar" data.flip=true
compare_latents
