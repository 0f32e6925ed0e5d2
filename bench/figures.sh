#!/bin/sh
# Trains the recipes whose figures are written in their heads and measures those figures again, by the same protocol: every choice from the
# held-out part, the test set once, two models by the paired difference over images.
#   bench/figures.sh OUT [NAME ...]       default: all. OUT keeps the runs; what is interrupted goes on when it is called again.
# NAMES: vae-digits vae-mnist-mlp iwae-mnist vae-mnist lvae-mnist vae-cifar10 vae-shapes. About two hours in all on two quiet cores.
# THREADS (default: all cores), MNIST and CIFAR (default: ../shared/data/...) and SEEDS of iwae-mnist (default: "0 1 2") can be set.
set -eu
cd "$(dirname "$0")/.."
elbo=${ELBO:-build/elbo}
[ -x "$elbo" ] || { echo "bench/figures.sh: $elbo is not built; run make" >&2; exit 1; }
[ $# -gt 0 ] || { echo "usage: bench/figures.sh OUT [NAME ...]" >&2; exit 2; }
out=$1
shift
[ $# -gt 0 ] || set -- vae-digits vae-mnist-mlp iwae-mnist vae-mnist lvae-mnist vae-cifar10 vae-shapes
threads=${THREADS:-$(nproc)} mnist=${MNIST:-../shared/data/mnist} cifar=${CIFAR:-../shared/data/cifar10}
mkdir -p "$out"

train() { # RUN RECIPE [argument ...]
  run=$1 recipe=$2
  shift 2
  began=$(date +%s)
  "$elbo" train "recipes/$recipe.yaml" --out "$out/$run" --threads "$threads" --resume "$@" >>"$out/$run.log" 2>&1
  seconds=$(($(date +%s) - began))
}

score() { # RUN METRICS FILE [argument ...]: JSON into OUT/RUN.FILE.json, unless it is there: the test set is used once
  run=$1 metrics=$2 file=$1.$3
  shift 3
  [ -s "$out/$file.json" ] ||
    { "$elbo" eval "$out/$run" --metrics "$metrics" --threads "$threads" --json "$@" >"$out/$file.json.new" 2>>"$out/$run.log" &&
      mv "$out/$file.json.new" "$out/$file.json"; }
}

value() { # FILE METRIC: "value +- standard error"
  tr -d ' \n' <"$out/$1.json" | sed -n "s/.*\"$2\":{\([^}]*\)}.*/\1/p" | tr ',' '\n' |
    awk -F: '/"value"/ {v = $2} /"stderr"/ {e = $2} END {printf "%.3f +- %.3f", v, e}'
}

numbers() { # FILE.npy of float64: one a line
  header=$(od -An -t u2 -j8 -N2 "$1")
  od -An -v -t f8 -w8 -j$((10 + header)) "$1"
}

paired() { # A B: mean and standard error of A - B over the images of OUT/A.npy and OUT/B.npy
  numbers "$out/$1.npy" >"$out/a.txt"
  numbers "$out/$2.npy" >"$out/b.txt"
  paste "$out/a.txt" "$out/b.txt" | awk '{d = $1 - $2; s += d; q += d * d; n++}
    END {m = s / n; printf "%.3f +- %.3f over %d images", m, sqrt((q / n - m * m) / (n - 1)), n}'
  rm -f "$out/a.txt" "$out/b.txt"
}

say() { echo "$1: $2 (trained $seconds s in this call)"; }

for name in "$@"; do
  case $name in
    vae-digits)
      train $name $name
      score $name elbo test
      say $name "test ELBO $(value $name.test elbo)"
      ;;
    vae-mnist-mlp)
      train $name $name --data "$mnist"
      score $name elbo,kl test --data "$mnist"
      say $name "test ELBO $(value $name.test elbo), KL $(value $name.test kl)"
      ;;
    iwae-mnist)
      for seed in ${SEEDS:-0 1 2}; do
        for recipe in vae-mnist-mlp iwae-mnist; do
          train $recipe-seed$seed $recipe --data "$mnist" --seed "$seed"
          score $recipe-seed$seed elbo elbo --data "$mnist" --limit 1000
          score $recipe-seed$seed iwae iwae --data "$mnist" --samples 5000 --limit 1000 --per-image "$out/$recipe-seed$seed.npy"
          say "$recipe, seed $seed" "log p at k = 5,000 $(value $recipe-seed$seed.iwae iwae), one-sample ELBO $(value $recipe-seed$seed.elbo elbo)"
        done
        echo "seed $seed: iwae-mnist above vae-mnist-mlp by $(paired iwae-mnist-seed$seed vae-mnist-mlp-seed$seed)"
      done
      ;;
    vae-mnist | lvae-mnist)
      train $name $name --data "$mnist"
      bound=$name # the run that was trained by the bound alone
      [ $name = lvae-mnist ] || bound=$name-bound
      [ $name = lvae-mnist ] || ln -sfn "$name/stages/1-vae" "$out/$bound"
      score $bound elbo,kl elbo --data "$mnist" --per-image "$out/$name.npy"
      score $name nll nll --data "$mnist" --samples 1000
      say $name "-log p at most $(value $name.nll nll), test ELBO of $bound $(value $bound.elbo elbo)"
      tr -d ' \n' <"$out/$bound.elbo.json" | sed -n 's/.*"kl_per_group":\(\[[^]]*\]\).*/KL of each group: \1\n/p'
      if [ -s "$out/vae-mnist.npy" ] && [ -s "$out/lvae-mnist.npy" ]; then
        echo "ELBO of lvae-mnist above vae-mnist's first stage by $(paired lvae-mnist vae-mnist)"
      fi
      ;;
    vae-cifar10)
      train $name $name --data "$cifar"
      score $name elbo,bits_per_dim test --data "$cifar"
      say $name "bits/dim at most $(value $name.test bits_per_dim)"
      "$elbo" data "$cifar" --hash | sed -n '/^decoder/p; /^hash/p'
      ;;
    vae-shapes)
      train $name $name
      score $name psnr,kl test --limit 2000
      say $name "PSNR $(value $name.test psnr) dB, KL $(value $name.test kl)"
      ;;
    *) echo "bench/figures.sh: no figure is known of '$name'" >&2; exit 2 ;;
  esac
done
