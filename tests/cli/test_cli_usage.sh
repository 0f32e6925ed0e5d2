#!/bin/sh
# Help, wrong usage, exit statuses.
. "$(dirname "$0")/lib.sh"

expect 0 "$ELBO" --help
says "usage: elbo COMMAND"
expect 0 "$ELBO" --version
says "^elbo [0-9]"
expect 2 "$ELBO"
silent
for command in train sample reconstruct interpolate encode decode eval report compare apply convert info data bench; do
  expect 0 "$ELBO" $command --help
  says "^example:"
  says "elbo $command"
  says "--json"
  expect 2 "$ELBO" $command --no-such-option
  silent
  complains "unknown option"
  expect 2 "$ELBO" $command --threads 0
  complains "--threads 0"
  expect 2 "$ELBO" $command --threads
  complains "expected N"
  expect 2 "$ELBO" $command --seed -1
  complains "--seed"
done
expect 2 "$ELBO" trian
complains "did you mean 'train'"
expect 2 "$ELBO" frobnicate
complains "unknown command"
expect 2 "$ELBO" sample run --sed 3 --out x.npy
complains "did you mean --seed"
expect 2 "$ELBO" sample run -n 0 --out x.npy
complains "from 1 to"
expect 2 "$ELBO" sample run -n many --out x.npy
complains "expected a whole number"
expect 2 "$ELBO" sample run -n 4 -n 5 --out x.npy
complains "twice"
expect 2 "$ELBO" sample run
complains "--out is missing"
expect 2 "$ELBO" sample run --out x.gif
complains "expected .png"
expect 2 "$ELBO" sample a b --out x.npy
complains "expected one RUN"
expect 2 "$ELBO" train
complains "usage: elbo train"
expect 2 "$ELBO" train vae-digits
complains "--out RUN is missing"
expect 2 "$ELBO" train a b --out "$work/run"
complains "one recipe is already given"
expect 2 "$ELBO" train --steps 0 vae-digits --out "$work/run"
complains "--steps 0"
expect 2 "$ELBO" eval run --split best
complains "train|valid|test"
expect 2 "$ELBO" decode run --out x.npy
complains "--codes is missing"
expect 2 "$ELBO" apply run --in x --out y=y.npy
complains "expected name=x.npy"
expect 2 "$ELBO" interpolate run a.png --out w.png
complains "two pictures"
expect 2 "$ELBO" encode run --out codes.txt
complains "ends in .npy"
expect 2 "$ELBO" info
expect 2 "$ELBO" info --build something

expect 2 "$ELBO" compare --out r.html
complains "no recipe and no run"
expect 2 "$ELBO" compare vae
complains "--out is missing"
expect 2 "$ELBO" compare vae --out r.html --budget soon
complains "expected a time"
expect 2 "$ELBO" compare vae --out r.html --flops 0
complains "above 0"
expect 2 "$ELBO" compare vae --out r.html --budget 10m --steps 5
complains "one budget"
expect 2 "$ELBO" compare vae --out r.html --curve 5,x
complains "numbers of calls"

# What is not there is named; nothing is left behind.
for command in "sample $work/none --out $work/x.npy" "eval $work/none --data $work/none" "report $work/none --out $work/r.html" \
  "info $work/none" "data $work/none" "encode $work/none --data $work/none --out $work/c.npy"; do
  expect 1 "$ELBO" $command
  silent
  complains "none"
done
is_absent "$work/x.npy"
is_absent "$work/r.html"
expect 1 "$ELBO" sample run --out "$work/no/such/grid.png"
complains "no/such"
expect 0 "$ELBO" info --build
says "kernels_in_use"
says "oneDNN *[0-9n]"

# The keys that benchmarks promise; the dry run, which plans what is then allocated.
expect 0 "$ELBO" bench mlp-vae train.batch_size=32 --json --steps 2 --seconds 0
for key in params flops_per_step step_ms min median gflops peak_gflops share_of_peak planned_bytes peak_rss_bytes first_step_s; do
  says "\"$key\": *[0-9{]"
done
planned=$(sed -n 's/.*"planned_bytes": \([0-9]*\).*/\1/p' "$work/out")
resident=$(sed -n 's/.*"peak_rss_bytes": \([0-9]*\).*/\1/p' "$work/out")
expect 0 "$ELBO" train mlp-vae train.batch_size=32 --dry-run --json
says "\"planned_bytes\": $planned"
says '"params": 652824'
if [ -z "${ELBO_SANITIZE:-}" ] && [ $((resident - planned)) -gt $((64 << 20)) ]; then
  note_failure "$resident bytes resident where $planned are planned"
fi

# One call of a network in place of a training step; weights are packed once and counted once.
for recipe in ddpm-small mlp-vae classifier-mnist; do
  expect 0 "$ELBO" bench "$recipe" bench.forward=true train.batch_size=2 --json --steps 2 --seconds 0 --profile
  says '"forward": true'
  says '"batch_size": 2,'
  says '"op": "between operations"'
  planned=$(sed -n 's/.*"planned_bytes": \([0-9]*\).*/\1/p' "$work/out")
  resident=$(sed -n 's/.*"peak_rss_bytes": \([0-9]*\).*/\1/p' "$work/out")
  if [ -z "${ELBO_SANITIZE:-}" ] && [ $((resident - planned)) -gt $((64 << 20)) ]; then
    note_failure "$resident bytes resident where $planned are planned"
  fi
done
expect 2 "$ELBO" bench ddpm-small bench.forwards=true
complains "did you mean 'forward'"

# Standard output that cannot be written is a failure.
if [ -w /dev/full ]; then
  got=0
  "$ELBO" --help >/dev/full 2>"$work/err" || got=$?
  last_command="elbo --help >/dev/full"
  [ "$got" = 1 ] || note_failure "exit status $got, expected 1"
fi
finish
