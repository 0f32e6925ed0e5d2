#!/bin/sh
# elbo beside PyTorch, and for calls of a network OpenVINO, on the workloads of recipes/bench: the same threads, data, batch, precision and architecture, alternately in one run.
#   bench/run.sh [WORKLOAD ...]       default: all
# PYTHON names an interpreter that has bench/requirements.txt installed (default: python3); without PyTorch there, elbo alone is measured.
# AVX2=1 keeps both sides to AVX2 on a processor that has more (without OpenVINO, which cannot be kept).
# THREADS (default: all cores), SECONDS_EACH (of timed steps a round and program, default 4) and ROUNDS (default 3) can be set.
set -eu
cd "$(dirname "$0")/.."
elbo=${ELBO:-build/elbo}
[ -x "$elbo" ] || { echo "bench/run.sh: $elbo is not built; run make" >&2; exit 1; }
[ $# -gt 0 ] || set -- mlp-vae conv-vae-mnist conv-vae-cifar ddpm-small ddpm-cifar10 ddpm-cifar10-forward-b1 ddpm-cifar10-forward-b16 akl-64 sd15-unet sd15-vae-decode
threads=${THREADS:-$(nproc)}
seconds=${SECONDS_EACH:-4}
python=${PYTHON:-python3}
vae=
ddpm=
sd=
akl=
for workload in "$@"; do
  case $workload in
    ddpm*) ddpm="$ddpm $workload" ;;
    sd*) sd="$sd $workload" ;;
    akl*) akl="$akl $workload" ;;
    *) vae="$vae $workload" ;;
  esac
done
alone=
compare() { # SCRIPT MODULES WORKLOAD ...
  script=$1 modules=$2
  shift 2
  [ $# -gt 0 ] || return 0
  if "$python" -c "import $modules" 2>/dev/null; then
    "$python" "bench/$script" --elbo "$elbo" --threads "$threads" --seconds "$seconds" --rounds "${ROUNDS:-3}" ${AVX2:+--avx2} "$@"
  else
    echo "bench/run.sh: $python lacks one of $modules (bench/requirements.txt); measuring elbo alone" >&2
    alone="$alone $*"
  fi
}
# shellcheck disable=SC2086 # names of workloads have no blanks
compare torch_vae.py "torch, numpy" $vae
# shellcheck disable=SC2086
compare torch_ddpm.py "torch, numpy, diffusers" $ddpm
# shellcheck disable=SC2086
compare torch_akl.py "torch, numpy, diffusers" $akl
# shellcheck disable=SC2086
compare torch_sd.py "torch, numpy, diffusers" $sd
for workload in $alone; do
  echo "== $workload"
  "$elbo" bench "$workload" --threads "$threads" --seconds "$seconds"
done
