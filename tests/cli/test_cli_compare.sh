#!/bin/sh
# A comparison from the command line: recipes and a run side by side, interrupted and taken up again, JSON, the commands beside the numbers.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
tiny | sed 's/bernoulli/discretized_logistic/; s/binarize: dynamic, //' >grey.yaml
{
  echo 'model: {preset: classifier, network: {channels: [8], stem: 2, features: 8}}'
  echo "data: {path: \"$ELBO_SOURCE/share/digits\", limit: 500, holdout: 100}"
  echo 'train: {steps: 20, batch_size: 32, checkpoint_every: 0}'
} >features.yaml
expect 0 "$ELBO" train grey.yaml --out "given run" --steps 30

# Interrupted in a training, it goes on where it was.
last_command="elbo compare & kill"
"$ELBO" compare grey.yaml "given run" --out page.html --steps 100000000 >"$work/out" 2>"$work/err" </dev/null &
child=$!
for _ in $(seq 600); do
  grep -q '^grey: train [1-9]' "$work/err" && break
  kill -0 $child 2>/dev/null || break
  sleep 0.1
done
kill -INT $child
got=0
wait $child || got=$?
[ "$got" = 130 ] || note_failure "exit status $got after SIGINT, expected 130"
complains "goes on where it was"
is_absent page.html
expect 0 "$ELBO" compare grey.yaml --out page.html --steps 40
is_file page.html
grep -q "another budget" page.html || note_failure "another budget should be refused in a row of the page"
rm -r page.html.runs

expect 0 "$ELBO" compare grey.yaml "given run" --out page.html --steps 40 --features features.yaml -n 100 --seeds 2 --limit 30 --json
says '"label": "one-sample bound"'
says '"steps": 40'
says '"page": "page.html"'
is_file page.html.runs/grey/checkpoints/step-40/model_index.json
is_file page.html.runs/features-network/recipe.yaml
is_absent "page.html.runs/given run"
is_file "page.html.runs/given run.json"
grep -q "<th scope=\"row\">given run" page.html || note_failure "the page lacks a row"
grep -qE '(src|href)="(http|/|[a-z]+\.)' page.html && note_failure "the page points outside"

# What stands beside a number makes it, to the digit; a name with a space comes quoted.
grep -o "<code>elbo eval [^<]*fid,kid[^<]*" page.html | sed "s/<code>//" | grep "given run" | grep -v -e "--draw" | head -n 1 >command
grep -q "^elbo eval 'given run' " command || note_failure "no command for the given run"
last_command=$(cat command)
(eval "$(sed 's/^elbo /"$ELBO" /' command) --json") >again.json 2>err
fid=$(sed -n '/"fid": {/,/}/s/.*"value": \([0-9.]*\).*/\1/p' again.json)
[ -n "$fid" ] || note_failure "the command gives no fid"
grep -q "\"value\": $fid" "page.html.runs/given run.json" || note_failure "the command gives $fid, which is not the page's"

# Nothing is trained or measured twice; the page is the same but for what it says of nothing new.
expect 0 "$ELBO" compare grey.yaml "given run" --out page.html --steps 40 --features features.yaml -n 100 --seeds 2 --limit 30
says "^page.html$"
grep -q ': train\|: features' err && note_failure "something was trained or judged a second time"

expect 0 "$ELBO" compare none.yaml --out other.html
grep -q "not compared: none.yaml" other.html || note_failure "a recipe that is not there should be a row that says so"
expect 2 "$ELBO" compare grey.yaml --out page.html --features grey.yaml
complains "classifier was expected"
expect 1 "$ELBO" compare grey.yaml --out page.html --features nothing
complains "nothing: not there"
expect 1 "$ELBO" compare grey.yaml --out no/such/page.html
complains "no/such"
finish
