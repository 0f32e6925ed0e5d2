#!/bin/sh
# Everything that is done with a trained model, on real digits.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
tiny >tiny.yaml
digits=$ELBO_SOURCE/share/digits
expect 0 "$ELBO" train tiny.yaml --out run

expect 0 "$ELBO" info run
says "latent_dim *4"
expect 0 "$ELBO" info run --json
says '"type": "run"'
expect 0 "$ELBO" info run/checkpoints/step-60
says "model"
expect 0 "$ELBO" info "$(find run/checkpoints/step-60 -name '*.safetensors' | head -n 1)"
says "float32"
expect 0 "$ELBO" info run/checkpoints/step-60/decoder
says "network"
says "ElboDecoder"
expect 0 "$ELBO" info "$digits"
says "idx"
expect 0 "$ELBO" info tiny.yaml
says "recipe"

# Samples: pictures, arrays, directories; the same seed, the same bytes; not a function of how many.
expect 0 "$ELBO" sample run -n 16 --seed 1 --out grid.png
is_file grid.png
expect 0 "$ELBO" info grid.png
says "picture"
expect 0 "$ELBO" sample run -n 16 --seed 1 --out a.npy
expect 0 "$ELBO" sample run -n 16 --seed 1 --out b.npy --threads 1
expect 0 "$ELBO" sample run -n 16 --seed 2 --out c.npy
expect 0 "$ELBO" sample run -n 16 --seed 1 --out d.npy --threads 1
same b.npy d.npy
cmp -s a.npy c.npy && note_failure "another seed should give other samples"
expect 0 "$ELBO" info a.npy
says "16, 28, 28, 1"
expect 0 "$ELBO" sample run -n 5 --out nchw.npy --layout nchw --uint8
expect 0 "$ELBO" info nchw.npy
says "5, 1, 28, 28"
says "uint8"
expect 0 "$ELBO" sample run -n 5 --out pictures --json
says '"n": 5'
is_file pictures/00004.png
expect 1 "$ELBO" sample run -n 5 --out pictures
complains "not empty"
expect 0 "$ELBO" sample run -n 4 --ema raw --checkpoint 30 --out raw.npy --json
says '"weights": "raw"'
expect 2 "$ELBO" sample run -n 4 --ema cooked --out cooked.npy
complains "--ema 'cooked': expected raw or the decay of an average"
expect 2 "$ELBO" sample run -n 4 --ema 0.5 --out other.npy
complains "no average of decay 0.5"
cp -r run/checkpoints/step-60 exported && rm -r exported/training
expect 2 "$ELBO" sample exported -n 4 --ema raw --out other.npy
complains "exported: has one set of weights"
expect 2 "$ELBO" sample run -n 4 --checkpoint 31 --out raw31.npy
expect 0 "$ELBO" sample run/checkpoints/step-60 -n 4 --out model.npy

expect 0 "$ELBO" reconstruct run --data "$digits" -n 32 --out pairs.png
is_file pairs.png
expect 0 "$ELBO" reconstruct run -n 8 --out own.npy
expect 0 "$ELBO" data "$digits" --split test --class 3 -n 1 --out three.png
expect 0 "$ELBO" data "$digits" --split test --class 8 -n 1 --out eight.png
expect 0 "$ELBO" info three.png
says "28, 28, 1"
expect 0 "$ELBO" interpolate run three.png eight.png --steps 12 --out walk.png
is_file walk.png
expect 0 "$ELBO" interpolate run three.png eight.png --steps 5 --out walk.npy
expect 1 "$ELBO" interpolate run three.png grid.png --out walk2.png
complains "28"

# Codes there and back.
expect 0 "$ELBO" encode run --data "$digits" -n 50 --out codes.npy --stats
says "posterior deviation"
is_file codes.std.npy
expect 0 "$ELBO" info codes.npy
says "50, 4"
expect 0 "$ELBO" decode run --codes codes.npy --out x.npy
expect 0 "$ELBO" info x.npy
says "50, 28, 28, 1"
expect 0 "$ELBO" decode run --codes codes.npy --out decoded
is_file decoded/00049.png
expect 1 "$ELBO" decode run --codes x.npy --out y.npy
complains "x.npy"
expect 0 "$ELBO" encode run --data x.npy --out codes2.npy
expect 0 "$ELBO" data "$digits" -n 20 --split test --uint8 --out bytes.npy
expect 0 "$ELBO" encode run --data bytes.npy --out codes3.npy
expect 0 "$ELBO" data "$digits" -n 20 --split test --layout nchw --out turned.npy
expect 0 "$ELBO" encode run --data turned.npy --layout nchw --out codes4.npy
same codes3.npy codes4.npy
expect 1 "$ELBO" encode run --data turned.npy --out codes5.npy
complains "layout nchw"
expect 1 "$ELBO" encode run --data codes.npy --out codes5.npy
complains "codes.npy"
expect 0 "$ELBO" data turned.npy --layout nchw
says "28 x 28 x 1"
expect 0 "$ELBO" eval run --data turned.npy --layout nchw --metrics elbo holdout=2
says "n = 2;"
expect 0 "$ELBO" train tiny.yaml --data turned.npy --layout nchw --out turned train.steps=1 train.batch_size=4 data.limit=0 data.holdout=2

# A network of the model on arrays gives what decode gives, up to the likelihood's mean.
expect 0 "$ELBO" info run/checkpoints/step-60 --json
says '"components"'
expect 0 "$ELBO" apply run/checkpoints/step-60/decoder --in codes=codes.npy --out x=applied.npy
same applied.npy x.npy
expect 0 "$ELBO" data "$digits" -n 20 --split test --out twenty.npy
expect 0 "$ELBO" apply run --in x=twenty.npy --out mean=mean.npy std=std.npy
expect 2 "$ELBO" apply run --in z=codes.npy --out x=y.npy
complains "'z'"
expect 2 "$ELBO" apply run --in x=codes.npy --out mean=mean.npy
complains "not float32 (50,4)"

# A class-conditional model takes a class wherever examples or codes come without one.
expect 0 "$ELBO" train tiny.yaml --out classes train.steps=2 model.condition.type=class
expect 0 "$ELBO" sample classes -n 2 --class 3 --out s.npy
expect 2 "$ELBO" sample run -n 20 --noise twenty.npy --out bad.npy
complains "this one draws codes"
expect 2 "$ELBO" encode classes --data twenty.npy --out cc.npy
complains "labels are needed"
expect 0 "$ELBO" encode classes --data twenty.npy --class 3 --out cc.npy
expect 0 "$ELBO" decode classes --codes cc.npy --class 3 --out cx.npy
expect 0 "$ELBO" reconstruct classes --data twenty.npy --all --class 3 --out cr.npy
same cx.npy cr.npy
expect 0 "$ELBO" encode classes -n 5 --out own.npy # the run's data have labels; what is said on the command line comes before them
expect 0 "$ELBO" encode classes -n 5 --class 3 --out told.npy
cmp -s own.npy told.npy && note_failure "encode: --class changes nothing where the data have labels"
expect 2 "$ELBO" encode classes -n 5 --class 30 --out bad.npy
printf '\223NUMPY\001\000\166\000%-117s\n' "{'descr': '<f8', 'fortran_order': False, 'shape': (5,), }" >half.npy # as NumPy has them
for high in '\360\077' '\000\100' '\004\100' '\010\100' '\020\100'; do printf "\\000\\000\\000\\000\\000\\000$high"; done >>half.npy # 1, 2, 2.5, 3, 4
expect 1 "$ELBO" encode classes -n 5 --labels half.npy --out bad.npy
complains "half.npy: example 2 has 2.5 for a class"
expect 1 "$ELBO" decode classes --codes cc.npy --class 3 --labels half.npy --out bad.npy
complains "one of them was expected"
expect 1 "$ELBO" encode run -n 5 --class 3 --out bad.npy
complains "this model takes no condition"
is_absent bad.npy
expect 0 "$ELBO" interpolate classes three.png eight.png --class 3 --steps 3 --out cw.npy
expect 2 "$ELBO" interpolate classes three.png eight.png --out cw.png
complains "class"
expect 0 "$ELBO" interpolate classes three.png eight.png --class 3 --to-class 8 --steps 4 --out cw.npy
expect 2 "$ELBO" interpolate classes three.png eight.png --to-class 8 --out cw.png

# So does one that is conditioned on a vector. The shapes know theirs; the test set here is 21 numbers of a code of 21 numbers.
vector="data.binarize=none data.limit=0 data.holdout=-1 data.condition=attributes model.condition.type=vector model.latent.dim=21 model.decoder.likelihood=gaussian model.decoder.variance=optimal"
expect 0 "$ELBO" train tiny.yaml --data shapes:size=16,train=200,valid=20,test=20 --out vectors train.steps=4 train.checkpoint_every=2 train.preview_every=2 $vector
expect 0 "$ELBO" info vectors --json
says '"condition_dim": 21'
expect 0 "$ELBO" eval vectors --metrics elbo,iwae,nll,psnr --samples 3 --limit 10
expect 0 "$ELBO" reconstruct vectors -n 4 --out vr.png
expect 0 "$ELBO" report vectors --out vectors.html
grep -q "not made" vectors.html && note_failure "the report of a model conditioned on a vector lacks a picture"
expect 0 "$ELBO" encode vectors --split test -n 3 --out vc.npy
expect 0 "$ELBO" sample vectors -n 5 --condition vc.npy --out s.npy
expect 0 "$ELBO" decode vectors --codes vc.npy --condition vc.npy --out vx.npy
expect 2 "$ELBO" sample vectors -n 2 --out s.npy
complains "(rows,21)"
expect 2 "$ELBO" sample vectors -n 2 --class 1 --out s.npy
complains "class"
expect 2 "$ELBO" decode vectors --codes vc.npy --out vx.npy
complains "(3,21)"
expect 2 "$ELBO" sample vectors -n 2 --condition codes.npy --out s.npy
complains "codes.npy\|(50,4)"
expect 0 "$ELBO" data shapes:size=16 -n 2 --out two
expect 2 "$ELBO" interpolate vectors two/00000.png two/00001.png --condition vc.npy --out vw.png

expect 0 "$ELBO" eval run --data "$digits" --metrics elbo --limit 200 --json
says '"metrics"'
says '"stderr"'
cp out first.json
expect 0 "$ELBO" eval run --data "$digits" --metrics elbo --limit 200 --json
same out first.json
expect 0 "$ELBO" eval run --metrics elbo,iwae --samples 3 --limit 100 --split valid
says "elbo"
expect 0 "$ELBO" eval run --metrics active_units,mismatch,mutual_information,psnr,ssim --limit 100 --seed 18446744073709551615 --json
says '"seed": "18446744073709551615"'
grep -q '"stderr": null' out && note_failure "an estimate without its standard error"
expect 0 "$ELBO" eval run --metrics elbo --limit 10 --per-image each.npy
expect 0 "$ELBO" info each.npy
says "float64"
says "\[10\]"
expect 1 "$ELBO" eval run --metrics active_units --limit 10 --per-image none.npy
is_absent none.npy
expect 0 "$ELBO" eval run --metrics bits_per_dim --limit 10
complains "bits_per_dim is left out"
expect 2 "$ELBO" eval run --data shapes
complains "64 x 64 x 3"
expect 2 "$ELBO" eval run --data "$digits" --metrics wisdom
complains "wisdom"

expect 0 "$ELBO" report run --data "$digits" --out report.html
is_file report.html
grep -q 'data:image/png;base64,' report.html || note_failure "the report has no pictures"
grep -qE '(src|href)="(http|/|[a-z]+\.)' report.html && note_failure "the report points outside"
grep -q 'not made\|not measured' report.html && note_failure "a part of the report is missing"

# Data.
expect 0 "$ELBO" data "$digits" --json --hash
says '"test_sha256": "[0-9a-f]\{64\}"'
expect 0 "$ELBO" data digits
says "10000\|9[0-9]*\|test"
expect 0 "$ELBO" data shapes --out shapes.png
is_file shapes.png
: >empty.npy
expect 1 "$ELBO" data empty.npy
complains "empty.npy"
head -c 3000 "$digits"/t*-images*.gz >cut.gz 2>/dev/null
expect 1 "$ELBO" data cut.gz
complains "cut.gz"
head -c 100 a.npy >cut.npy
expect 1 "$ELBO" info cut.npy
complains "cut.npy"
weights=$(find run/checkpoints/step-60 -path '*training*' -prune -o -name '*.safetensors' -print | head -n 1)
head -c 200 "$weights" >cut.safetensors
expect 1 "$ELBO" info cut.safetensors
complains "cut.safetensors"
cp -r run/checkpoints/step-60 broken
head -c 200 "$weights" >"broken/${weights#run/checkpoints/step-60/}"
expect 1 "$ELBO" sample broken -n 1 --out broken.png
is_absent broken.png
finish
