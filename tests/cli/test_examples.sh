#!/bin/sh
# The examples, as a user would run them.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
expect 0 "$ELBO_BUILD/examples/network"
right=$(sed -n 's/^\([0-9]*\)\..*/\1/p' out)
[ "${right:-0}" -ge 88 ] || note_failure "only '$right' per cent right"
expect 0 "$ELBO_BUILD/examples/train" run 20
says "20 steps"
is_file samples.png
expect 0 "$ELBO_BUILD/examples/sample" run grid.png x.npy
says "25 samples of 28 x 28 x 1"
is_file grid.png
expect 1 "$ELBO_BUILD/examples/sample" nothing grid2.png y.npy
complains "nothing"
is_absent grid2.png
finish
