#!/bin/sh
# elbo bench: single operations, checked against double precision.
set -u
. "$ELBO_SOURCE/tests/cli/lib.sh"

quick="--seconds 0 --steps 1"

# One object with the promised keys; every direction; what is said is what is measured.
expect 0 "$ELBO" bench --op conv2d:n=2,h=9,w=7,c=5,k=6,r=3,bias=1,dir=forward --json $quick
says '"op": "conv2d:n=2,h=9,w=7,c=5,k=6,r=3,bias=1,dir=forward", "ms": {"min": [0-9.e-]*, "median": [0-9.e-]*}, "gflops": [0-9]'
says '"kernel": "[a-z]*:[a-z_]*'
says '"max_error": [0-9.]*e-0[6-9], "checked": 756, "outputs": 756, "flops": 68040,'
for dir in backward backward_data backward_weights; do
  expect 0 "$ELBO" bench --op conv2d:h=5,c=3,k=4,stride=2,pad=2,dir=$dir conv_transpose2d:h=5,c=3,k=4,dir=$dir linear:n=3,c=5,silu=1,dir=$dir --json $quick
  says '^{"ops": \['
  says "conv_transpose2d:h=5,c=3,k=4,dir=$dir"
  says "linear:n=3,c=5,silu=1,dir=$dir.*\"max_error\": [0-9.e-]*, .*}]}"
done

# Every operation, as a list of its own names says, at a small size where it has one.
expect 2 "$ELBO" bench --op conv9d
complains "'conv9d': there is no such operation to measure; there are conv2d, conv_transpose2d, linear,"
specs=
for op in $(sed 's/.*there are //; s/,//g' "$work/err"); do
  case $op in
  conv*) specs="$specs $op:n=2,h=4,c=8" ;;
  linear | embedding) specs="$specs $op:n=3,c=8,k=5" ;;
  matmul) specs="$specs $op:n=2,m=3,c=5,k=7,transpose_a=1" ;;
  attention) specs="$specs $op:n=2,q=5,kv=7,heads=2,d=8" ;;
  group_norm) specs="$specs $op:n=2,h=4,c=8,groups=2,silu=1" ;;
  *) specs="$specs $op:n=2,h=4,c=8" ;;
  esac
done
expect 0 "$ELBO" bench --op $specs $quick
[ "$(wc -l <"$work/out")" -gt 55 ] || note_failure "fewer operations measured than there are"

# Large ones are checked at some places: of both convolutions and linear, by all that they can be differentiated by.
if [ -z "${ELBO_SANITIZE:-}" ]; then
  for op in conv2d:h=32,c=192,k=160,groups=2,stride=2,r=5,n=12 conv_transpose2d:h=24,c=96,k=160,bias=1,n=9 linear:n=1500,c=700,bias=1; do
    expect 0 "$ELBO" bench --op "$op,dir=backward" "$op" --json $quick
    [ "$(sed -n 's/.*"checked": \([0-9]*\), "outputs": \([0-9]*\),.*/\1 \2/p' "$work/out" | awk '$1 < $2 && $1 > 99' | wc -l)" = 2 ] ||
      note_failure "expected some of the elements of $op to be checked"
  done
fi

# Keys of the engine, before and behind the operations.
shape=conv2d:n=2,h=16,c=64,k=64,r=3
expect 0 "$ELBO" bench --op $shape --json $quick
says '"kernel": "own:winograd'
expect 0 "$ELBO" bench engine.winograd=off --op $shape --json $quick
grep -q winograd "$work/out" && note_failure "engine.winograd=off before --op is not heard"
expect 0 "$ELBO" bench --op $shape engine.winograd=off --json $quick
grep -q winograd "$work/out" && note_failure "engine.winograd=off behind --op is not heard"
expect 0 "$ELBO" bench --op linear:n=64,c=32,k=32 engine.precision=bfloat16-emulated --json $quick
says '"kernel": "own:gemm_bf16'
for dir in forward backward_data backward_weights; do # as many rows as a library's kernel is taken for otherwise
  expect 0 "$ELBO" bench --op linear:n=1024,c=64,k=64,constant=0,dir=$dir engine.precision=bfloat16-emulated --json $quick
  says '"kernel": "own:gemm_bf16'
done
expect 0 "$ELBO" bench --op conv2d:n=1,h=16,c=64,k=64,r=3 engine.keep_transformed=0 --json $quick
expect 2 "$ELBO" bench --op $shape engine.keep_transformed=lots
complains "keep_transformed: 'lots'; expected a size such as 0, 256MiB or 1GB"
expect 2 "$ELBO" bench --op $shape engine.winograd=on
complains "'engine.winograd=on': expected auto or off"

# Instruction sets and kernels by name.
expect 0 "$ELBO" bench --op conv2d:c=8 --kernel patch_gemm --isa v2 --json $quick
says '"kernel": "own:patch_gemm.base"'
says '"isa": "v2"'
expect 2 "$ELBO" bench --op conv2d --kernel patch
complains "there is no convolution kernel 'patch'; there are patch_gemm, "
expect 2 "$ELBO" bench --op conv2d:dir=backward_weights --kernel patch_gemm
complains "kernel 'patch_gemm' does not do this convolution; those that do: patch_gemm_weight"
expect 2 "$ELBO" bench --op linear --kernel patch_gemm
complains "convolutions alone"
expect 2 "$ELBO" bench mlp-vae --kernel patch_gemm
complains "expected --op beside it"
expect 2 "$ELBO" bench --op conv2d --isa v9
complains "no variant is called 'v9'"

# What is wrong, and what would be right.
expect 2 "$ELBO" bench --op conv2d:hh=3
complains "there is no key 'hh'; conv2d has (with defaults) n=1,h=32,.* and dir=forward"
expect 2 "$ELBO" bench --op conv2d:h=3x
complains "h=3x: expected a whole number from 1"
expect 2 "$ELBO" bench --op conv2d:h=0
complains "h=0: expected a whole number from 1"
expect 2 "$ELBO" bench --op conv2d:dir=up
complains "dir=up: expected forward, backward, backward_data, backward_weights"
expect 2 "$ELBO" bench --op cast:dir=backward
complains "dir=backward: expected forward$"
expect 2 "$ELBO" bench --op conv2d:c=3,groups=2
complains "2 groups"
expect 2 "$ELBO" bench mlp-vae --op conv2d
complains "neither a recipe"
silent

# A profile has time, rates, bytes and share of roofline by operation; a trace is one step of it.
expect 0 "$ELBO" bench conv-vae-mnist train.batch_size=4 --profile --trace "$work/trace.json" --json $quick
says '"moved_bytes": [0-9]*, "least_bytes": [0-9]*, "bandwidth_gbytes": [0-9.]*, "profile": \['
says '"op": "conv2d", "name": "[^"]*", "kernel": "[^"]*", "ms": [0-9.e-]*, "share": [0-9.e-]*, "gflops": [0-9.e+-]*, "gbytes": [0-9.e+-]*, "flops": [0-9]*, "bytes": [0-9]*, "roofline": [0-9.e-]*}'
awk 'match($0, /"moved_bytes": [0-9]*/) { moved = substr($0, RSTART + 15, RLENGTH - 15) }
     match($0, /"least_bytes": [0-9]*/) { least = substr($0, RSTART + 15, RLENGTH - 15) }
     END { exit !(least + 0 > 0 && moved + 0 > least + 0) }' "$work/out" || note_failure "bytes moved should be more than the least"
is_file "$work/trace.json"
for part in '"traceEvents": \[' '"name": "step"' '"name": "conv2d_weight_grad"' '"ph": "X"' '"kernel": "' '"flops": [0-9]' '"share of roofline"' '"dur": [0-9]'; do
  grep -q -e "$part" "$work/trace.json" || note_failure "the trace lacks $part"
done
[ "$(grep -c '"cat": "operation"' "$work/trace.json")" = "$(grep -o '"op": "' "$work/out" | awk 'END { print NR - 1 }')" ] ||
  note_failure "the trace should have as many operations as the profile"
expect 0 "$ELBO" bench conv-vae-mnist train.batch_size=4 bench.forward=true --profile $quick
says 'GFLOP/s .* MiB roofline  *operation'
says 'times the least'
expect 0 "$ELBO" bench $quick # every operation alone: of no step
says '^ *ms  *GFLOP/s  *GB/s  *MiB  operation'
says ' conv2d  *own:[a-z0-9_.]*  *conv2d 3x3$'
expect 1 "$ELBO" bench mlp-vae --trace "$work/no/trace.json"
complains "$work/no"
expect 2 "$ELBO" bench --trace "$work/trace.json"
complains "a recipe is needed"

# engine.winograd: a key of recipes, resolved in the run; what uses the run follows it, or takes it for this once.
tiny >"$work/tiny.yaml"
expect 0 "$ELBO" train "$work/tiny.yaml" --out "$work/run" engine.winograd=off
grep -A1 '^engine:' "$work/run/recipe.yaml" | grep -q 'winograd: off' || note_failure "engine.winograd is not in the run's recipe"
is_file "$work/run/checkpoints/step-60/training/kernels.json"
grep -q 'own:gemm' "$work/run/checkpoints/step-60/training/kernels.json" || note_failure "the kernels are not in the checkpoint"
expect 0 "$ELBO" train "$work/tiny.yaml" --out "$work/run" --resume engine.winograd=auto train.steps=65 # how it is computed is free to change
sed '/^engine:/,/keep_transformed/d' "$work/run/recipe.yaml" >"$work/older.yaml"
cp "$work/older.yaml" "$work/run/recipe.yaml"
expect 0 "$ELBO" train "$work/tiny.yaml" --out "$work/run" --resume train.steps=70 # a run of before the key
expect 0 "$ELBO" sample "$work/run" -n 2 --out "$work/x.npy" engine.winograd=off
expect 0 "$ELBO" eval "$work/run" --data "$ELBO_SOURCE/share/digits" --limit 64 --json engine.winograd=auto
expect 2 "$ELBO" sample "$work/run" -n 2 --out "$work/y.npy" engine.winograd=on
complains "'engine.winograd=on': expected auto or off"
expect 2 "$ELBO" sample "$work/run" -n 2 --out "$work/y.npy" engine.winogrd=off
complains "'engine.winogrd=off': expected engine.winograd=auto|off"
expect 2 "$ELBO" train "$work/tiny.yaml" --out "$work/other" engine.winogrd=off
complains "did you mean 'winograd'"
expect 2 "$ELBO" sample "$work/run" -n 2 --out "$work/y.npy" engine.precision=half
complains "precision: 'half'; one of float32, bfloat16, bfloat16-emulated was expected"
expect 0 "$ELBO" sample "$work/run" -n 2 --out "$work/x.npy" engine.precision=bfloat16-emulated
expect 1 "$ELBO" bench --op linear:n=4,c=64,k=64 --isa v2 $quick engine.precision=bfloat16
complains "engine.precision: bfloat16 needs a processor with AVX512_BF16"
expect 0 "$ELBO" bench --op linear:n=4,c=64,k=64 --json $quick engine.precision=bfloat16-emulated
grep -q gemm_bf16 "$work/out" || note_failure "engine.precision=bfloat16-emulated did not reach the kernel"
expect 0 "$ELBO" bench --op conv2d:n=1,h=32,c=64 conv2d:h=32,c=64,dir=backward --json $quick engine.winograd=off
grep -qi winograd "$work/out" && note_failure "engine.winograd=off did not keep Winograd's kernels out"

finish
