#!/bin/sh
# Single 3x3 convolution layers, elbo beside ncnn: forward, backward data, backward weights, batch 1 and 16, as a table of ratios.
#   bench/conv_layers.sh [SHAPE ...] [--option ...]       SHAPE: 128->128@32; bench/ncnn_layers.py --help lists the options
# PYTHON names an interpreter that has bench/requirements.txt installed (default: python3); without ncnn there, elbo alone is measured.
# THREADS (default: all cores), SECONDS_EACH (of timed runs a layer, direction and round, default 0.5) and ROUNDS (default 2) can be set.
set -eu
cd "$(dirname "$0")/.."
elbo=${ELBO:-build/elbo}
[ -x "$elbo" ] || { echo "bench/conv_layers.sh: $elbo is not built; run make" >&2; exit 1; }
exec "${PYTHON:-python3}" bench/ncnn_layers.py --elbo "$elbo" --threads "${THREADS:-$(nproc)}" --seconds "${SECONDS_EACH:-0.5}" \
  --rounds "${ROUNDS:-2}" "$@"
