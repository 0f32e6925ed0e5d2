# Shared by the long tests: a scratch directory, trainings of whole recipes, and numbers that must be reached. Nothing here is timed.
# ELBO and ELBO_SOURCE come from ctest.
: "${ELBO:?the command under test}" "${ELBO_SOURCE:?}"
work=$(mktemp -d "${TMPDIR:-/tmp}/elbo-long.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

failed() {
  echo "FAILED: $1"
  tail -n 20 log 2>/dev/null | sed 's/^/  log: /'
  exit 1
}

# train RUN RECIPE [argument ...]
train() {
  run=$1
  shift
  "$ELBO" train "$@" --out "$run" >>log 2>&1 </dev/null || failed "elbo train $*"
}

# value RUN METRIC [argument ...]: prints the metric's value on the test split
value() {
  run=$1 metric=$2
  shift 2
  "$ELBO" eval "$run" --metrics "$metric" "$@" --json >eval.json 2>>log </dev/null || failed "elbo eval $run"
  tr -d ' \n' <eval.json | sed -n "s/.*\"$metric\":{[^}]*\"value\":\([-0-9.e+]*\).*/\1/p"
}

# at_least WHAT NUMBER LIMIT: what is no number fails
at_least() {
  echo "$1: $2 (at least $3)"
  awk -v a="$2" -v b="$3" 'BEGIN { exit !(a ~ /^-?[0-9]/ && a + 0 >= b + 0) }' || failed "$1 is '$2'; at least $3 was expected"
}
at_most() {
  echo "$1: $2 (at most $3)"
  awk -v a="$2" -v b="$3" 'BEGIN { exit !(a ~ /^-?[0-9]/ && a + 0 <= b + 0) }' || failed "$1 is '$2'; at most $3 was expected"
}

# The folder of a data set beside the repository; skips the test where it is not.
shared() {
  [ -d "$ELBO_SOURCE/../shared/data/$1" ] && echo "$ELBO_SOURCE/../shared/data/$1" && return
  return 77
}
