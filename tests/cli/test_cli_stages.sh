#!/bin/sh
# A recipe of two stages from the command line: dry run, training, interruption, the run as a model.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
{
  echo "stages:"
  tiny | sed 's/^/    /; 1s/^   /  - name: base\n   /'
  tiny | sed 's/^/    /; 1s/^   /  - name: fine\n   /; s/seed: 3/seed: 4, init: base, freeze: [encoder]/'
} >two.yaml

expect 0 "$ELBO" train two.yaml --dry-run
says "stage            1 base"
says "stage            2 fine"
expect 0 "$ELBO" train two.yaml --dry-run --json
says '"stages": \[{"name": "base", "params": [1-9]'
expect 2 "$ELBO" train two.yaml --out run stages.2.train.steps=1
complains "no such stage; expected 0 or base, 1 or fine"

expect 0 "$ELBO" train two.yaml --out run
complains "train base 60/60"
complains "train fine 60/60"
says "120 steps"
is_file run/recipe.yaml
is_file run/stages/1-base/metrics.jsonl
is_file run/stages/2-fine/checkpoints/step-60/model_index.json
same run/stages/1-base/checkpoints/step-60/encoder/diffusion_pytorch_model.safetensors \
  run/stages/2-fine/checkpoints/step-60/encoder/diffusion_pytorch_model.safetensors

# the run as a model is its last stage
expect 0 "$ELBO" sample run -n 4 --out whole.npy
expect 0 "$ELBO" sample run/stages/2-fine -n 4 --out fine.npy
expect 0 "$ELBO" sample run/stages/1-base -n 4 --out base.npy
same whole.npy fine.npy
cmp -s whole.npy base.npy && note_failure "the stages should draw differently"
expect 0 "$ELBO" eval run --metrics elbo --limit 20
says '^elbo '
expect 0 "$ELBO" report run --out page.html
expect 0 "$ELBO" info run
says "2-fine"
expect 2 "$ELBO" bench two.yaml
complains "is about one stage"

# interrupted in the second, resumed to the same bytes; a run knows its own recipe
last_command="elbo train two.yaml --out stopped & kill"
"$ELBO" train two.yaml --out stopped stages.fine.train.steps=100000000 train.checkpoint_every=0 --json >"$work/out" 2>"$work/err" </dev/null &
child=$!
for _ in $(seq 600); do
  grep -q '^train fine [1-9]' "$work/err" && break
  kill -0 $child 2>/dev/null || break
  sleep 0.1
done
kill -INT $child
got=0
wait $child || got=$?
[ "$got" = 130 ] || note_failure "exit status $got after SIGINT, expected 130"
steps=$(sed -n 's/.*"steps": \([0-9]*\).*/\1/p' "$work/out")
fine=$((steps - 60))
expect 0 "$ELBO" train --out stopped --resume stages.fine.train.steps=$((fine + 7))
expect 0 "$ELBO" train two.yaml --out straight stages.1.train.steps=$((fine + 7)) train.checkpoint_every=0
same "straight/stages/2-fine/checkpoints/step-$((fine + 7))/training/state.safetensors" \
  "stopped/stages/2-fine/checkpoints/step-$((fine + 7))/training/state.safetensors"
finish
