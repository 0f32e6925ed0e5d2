#!/bin/sh
# Training from the command line: runs, interruption, resuming, refusals.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
tiny >tiny.yaml

expect 0 "$ELBO" train --list
says "vae-digits"
expect 0 "$ELBO" train --list --json
says '"name": "vae-digits"'
expect 0 "$ELBO" train tiny.yaml --dry-run
says "parameters"
expect 0 "$ELBO" train tiny.yaml --dry-run --json
says '"planned_bytes": [1-9]'

expect 0 "$ELBO" train tiny.yaml --out run
says "60 steps"
complains "train 60/60"
is_file run/recipe.yaml
is_file run/metrics.jsonl
is_file run/checkpoints/step-60/model_index.json
[ -d run/checkpoints/step-30 ] || note_failure "keep: 2 should have kept step-30"

# The same again is the same to the byte.
expect 0 "$ELBO" train tiny.yaml --out again --json
says '"steps": 60'
for file in $(cd run/checkpoints/step-60 && find . -name '*.safetensors'); do same "run/checkpoints/step-60/$file" "again/checkpoints/step-60/$file"; done
expect 0 "$ELBO" train tiny.yaml --out other --seed 4
cmp -s run/checkpoints/step-60/training/state.safetensors other/checkpoints/step-60/training/state.safetensors &&
  note_failure "another seed should give other weights"

# A finished run, a run that is there, another recipe's run.
expect 0 "$ELBO" train tiny.yaml --out run --resume
complains "finished"
expect 0 "$ELBO" train --out run --resume
cp run/metrics.jsonl before.jsonl
expect 1 "$ELBO" train tiny.yaml --out run
complains "run"
same run/metrics.jsonl before.jsonl
expect 1 "$ELBO" train tiny.yaml --out run --resume model.latent.dim=5
same run/metrics.jsonl before.jsonl
grep -q 'init: ""' run/recipe.yaml || note_failure "recipe.yaml has no line for train.init"
sed -i '/init: ""/d' run/recipe.yaml # a run from before the key existed
expect 0 "$ELBO" train tiny.yaml --out run --resume
# What a start that failed has left does not stand in the way of the next one; no step was done.
expect 2 "$ELBO" train tiny.yaml --out failed 'train.freeze=[nothing]'
expect 1 "$ELBO" train tiny.yaml --out failed train.init=nowhere
expect 0 "$ELBO" train tiny.yaml --out failed train.steps=2
expect 1 "$ELBO" train tiny.yaml --out failed model.latent.dim=5
complains "another recipe"
mkdir full && echo mine >full/thesis.txt
expect 1 "$ELBO" train tiny.yaml --out full
is_file full/thesis.txt

# Interrupted twice, resumed between: the weights are those of a run that was not.
interrupt() { # SIGNAL [more arguments]
  signal=$1
  shift
  last_command="elbo train ... --out stopped $* & kill -$signal"
  : >"$work/err" # or the lines of the last command would be taken for its first progress, before its handler stands
  "$ELBO" train tiny.yaml --out stopped train.steps=100000000 train.checkpoint_every=0 --json "$@" >"$work/out" 2>"$work/err" </dev/null &
  child=$!
  for _ in $(seq 600); do
    grep -q '^train [1-9]' "$work/err" && break
    kill -0 $child 2>/dev/null || break
    sleep 0.1
  done
  kill -"$signal" $child
  got=0
  wait $child || got=$?
  [ "$got" = 130 ] || note_failure "exit status $got after SIG$signal, expected 130"
  says '"state": "interrupted"'
  complains "checkpoint"
}
interrupt INT
interrupt TERM --resume
steps=$(sed -n 's/.*"steps": \([0-9]*\).*/\1/p' "$work/out")
[ "${steps:-0}" -gt 1 ] || note_failure "steps after the second interruption: '$steps'"
expect 0 "$ELBO" train tiny.yaml --out straight train.steps="$steps" train.checkpoint_every=0
for file in $(cd "straight/checkpoints/step-$steps" && find . -name '*.safetensors' ! -path '*/training/*'); do
  same "straight/checkpoints/step-$steps/$file" "stopped/checkpoints/step-$steps/$file"
done

# Recipes that are not right: file, line and the nearest key.
bad() { # TEXT PATTERN
  printf '%s\n' "$1" >bad.yaml
  last_command="elbo train bad.yaml: $1"
  got=0
  "$ELBO" train bad.yaml --out bad >"$work/out" 2>"$work/err" </dev/null || got=$?
  { [ "$got" = 1 ] || [ "$got" = 2 ]; } || note_failure "exit status $got, expected 1 or 2"
  complains "$2"
  is_absent bad/recipe.yaml
}
bad 'train: {stepz: 3}' "stepz.*did you mean.*steps"
bad 'train: {steps: many}' "bad.yaml:1"
bad 'train: {steps: -5}' "steps"
bad 'train: {learning_rate: .nan}' "learning_rate"
bad 'train: [1, 2]' "train"
bad 'model: {encoder: {type: transformer}}' "mlp"
bad 'model: {preset: vae' "bad.yaml"
bad '&a [*a]' "bad.yaml"
bad 'data: {path: /no/such/data}' "/no/such/data"
bad "data: {path: \"$ELBO_SOURCE/share/digits\"}
model: {encoder: {channels: [8, 8, 8, 8]}}" "28"
bad "data: {path: \"$ELBO_SOURCE/share/digits\", limit: 50}
train: {batch_size: 4096}" "batch"
: >empty.yaml
expect 2 "$ELBO" train no-such-recipe --out bad
complains "no-such-recipe"
expect 2 "$ELBO" train tiny.yaml --out bad train.stepz=3
complains "did you mean"
is_absent bad

# Directories that cannot be written.
echo file >plain
expect 1 "$ELBO" train tiny.yaml --out plain/run
complains "plain"
mkdir locked && chmod 555 locked
if ! touch locked/probe 2>/dev/null; then
  expect 1 "$ELBO" train tiny.yaml --out locked/run
  complains "locked"
fi
# More threads than cores: a warning, and it works.
expect 0 "$ELBO" train tiny.yaml --out crowded --threads 64 --steps 3
complains "thread"
finish
