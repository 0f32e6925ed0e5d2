#!/bin/sh
# elbo beside PyTorch on the workloads of recipes/bench: the same threads, data, batch, precision and architecture, alternately in one run.
#   bench/run.sh [WORKLOAD ...]       default: all three
# PYTHON names an interpreter that has bench/requirements.txt installed (default: python3); without PyTorch there, elbo alone is measured.
# THREADS (default: all cores) and SECONDS_EACH (of timed steps a round and program, default 4) can be set.
set -eu
cd "$(dirname "$0")/.."
elbo=${ELBO:-build/elbo}
[ -x "$elbo" ] || { echo "bench/run.sh: $elbo is not built; run make" >&2; exit 1; }
[ $# -gt 0 ] || set -- mlp-vae conv-vae-mnist conv-vae-cifar
threads=${THREADS:-$(nproc)}
python=${PYTHON:-python3}
if "$python" -c 'import torch, numpy' 2>/dev/null; then
  exec "$python" bench/torch_vae.py --elbo "$elbo" --threads "$threads" --seconds "${SECONDS_EACH:-4}" "$@"
fi
echo "bench/run.sh: $python has no PyTorch (bench/requirements.txt); measuring elbo alone" >&2
for workload in "$@"; do
  echo "== $workload"
  "$elbo" bench "$workload" --threads "$threads" --seconds "${SECONDS_EACH:-4}"
done
