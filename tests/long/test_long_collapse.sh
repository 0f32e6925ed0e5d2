#!/bin/sh
# A recipe whose posterior collapses says so and names the knobs; the one that cures it keeps its code in use.
. "${0%/*}/lib.sh"
train sick collapse-on-purpose
grep -q "posterior collapse" log || failed "the collapse went unnoticed"
grep -q "kl_warmup_steps" log || failed "no knob was named"
at_most "active units of the collapsed model" "$(value sick active_units)" 2
cp log sick.log && : >log
train cured collapse-cured
grep -q "posterior collapse" log && failed "the cured run is said to collapse"
at_least "active units of the cured model" "$(value cured active_units)" 15
at_least "ELBO gained by the cure" "$(echo "$(value cured elbo) $(value sick elbo)" | awk '{print $1 - $2}')" 20
