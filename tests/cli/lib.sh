# Shared by the shell tests: a scratch directory, commands with their expected exit status, what they must and must not say.
# ELBO, ELBO_BUILD and ELBO_SOURCE come from ctest.
: "${ELBO:?the command under test}" "${ELBO_SOURCE:?}" "${ELBO_BUILD:?}"
work=$(mktemp -d "${TMPDIR:-/tmp}/elbo-test.XXXXXX")
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
failures=0
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:abort_on_error=0:exitcode=99" UBSAN_OPTIONS="${UBSAN_OPTIONS:-}:print_stacktrace=1"

note_failure() {
  failures=$((failures + 1))
  echo "FAILED: $1"
  echo "  command: $last_command"
  sed 's/^/  out: /' "$work/out" | head -n 20
  sed 's/^/  err: /' "$work/err" | tail -n 40
}

# expect STATUS command ...: output lands in $work/out and $work/err
expect() {
  wanted=$1
  shift
  last_command=$*
  got=0
  "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
  [ "$got" = "$wanted" ] || note_failure "exit status $got, expected $wanted"
}
says() { grep -q -e "$1" "$work/out" || note_failure "standard output lacks '$1'"; }
complains() { grep -q -e "$1" "$work/err" || note_failure "standard error lacks '$1'"; }
silent() { [ ! -s "$work/out" ] || note_failure "standard output should be empty"; }
is_file() { [ -s "$1" ] || note_failure "no file $1"; }
is_absent() { [ ! -e "$1" ] || note_failure "$1 should not be there"; }
same() { cmp -s "$1" "$2" || note_failure "$1 and $2 differ"; }

finish() {
  [ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
  exit 0
}

# A model small enough to train in a second.
tiny() {
  cat <<END
model: {preset: vae, latent: {dim: 4}, encoder: {type: mlp, hidden: [32]}, decoder: {type: mlp, hidden: [32], likelihood: bernoulli}}
data: {path: "$ELBO_SOURCE/share/digits", binarize: dynamic, limit: 500, holdout: 100}
train: {steps: 60, batch_size: 32, optimizer: adamw, learning_rate: 1e-3, ema: 0.99, checkpoint_every: 30, keep: 2, log_every: 10, seed: 3}
END
}
