#!/bin/sh
# The demo's model on the digits that come with the project (measured: -97.07 +- 0.62), and the page about it.
. "${0%/*}/lib.sh"
train run vae-digits
at_least "test ELBO" "$(value run elbo)" -99
"$ELBO" report run --out report.html >>log 2>&1 || failed "elbo report"
grep -q "not made" report.html && failed "the report lacks a picture"
exit 0
