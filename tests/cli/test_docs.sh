#!/bin/sh
# Texts that must agree with the sources: references, the keys of recipes, public headers, house rules that a program can check.
. "$(dirname "$0")/lib.sh"
cd "$ELBO_SOURCE" || exit 1
: >"$work/out"
: >"$work/err"
last_command="test_docs"

for key in $(grep -rhoE '\[[A-Z][A-Za-z]+[0-9]{2}( [^]]*)?\]' src include --include='*.[ch]' | sed -E 's/^\[([A-Za-z]+[0-9]{2}).*/\1/' | sort -u); do
  grep -q "^| $key |" docs/references.md || note_failure "docs/references.md lacks $key"
done
expect 0 "$ELBO" train --keys
diff "$work/out" docs/recipes.md >"$work/err" || note_failure "docs/recipes.md is not what the tables say; run make docs"
for recipe in recipes/*.yaml recipes/bench/*.yaml recipes/compare/*.yaml recipes/compare/*/*.yaml; do
  expect 0 "$ELBO" info "$recipe"
  head -n 1 "$recipe" | grep -q '^# ' || note_failure "$recipe: the first line should say what it is"
done

# Each public header alone, as C11 and as C++17.
for header in include/elbo/*.h; do
  expect 0 ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -Iinclude -x c "$header"
  if command -v g++ >/dev/null 2>&1; then expect 0 g++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only -Iinclude -x c++ "$header"; fi
done
grep -rn '#include "' src/cli --include='*.[ch]' | grep -v '"cli/cli.h"' && note_failure "src/cli includes more than the public headers"
grep -rnE '^ *#pragma omp|<omp.h>' src include && note_failure "OpenMP outside of core/threads"
grep -rnE '\b(TODO|FIXME|XXX)\b' src include script bench examples docs README.md && note_failure "left open in the text"
grep -rnE '\b(exit|abort|printf|puts)\(' src --include='*.c' | grep -v '^src/cli/' | grep -vE 'snprintf|fprintf\(file|_exit|//' && note_failure "the library prints or exits"
finish
