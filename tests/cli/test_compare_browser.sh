#!/bin/sh
# The page of a comparison in a real browser, where there is one (chromium): every picture is shown, nothing is wider than the window, the
# table has a cell under every head, a page without script or network says nothing to the console.
. "$(dirname "$0")/lib.sh"
browser=
for name in chromium chromium-browser google-chrome; do
  command -v $name >/dev/null 2>&1 && browser=$name && break
done
[ -n "$browser" ] || { echo "skipped: no chromium on this machine"; exit 77; }
cd "$work" || exit 1
tiny | sed 's/bernoulli/discretized_logistic/; s/binarize: dynamic, //' >vae.yaml
tiny | sed 's/preset: vae,/preset: vae-gan,/; s/, likelihood: bernoulli//; s/binarize: dynamic, //; s/^data/  /; ' |
  sed 's/^  : /data: /; s/^model: {/model: {discriminator: {type: conv, channels: [4, 8]}, /' >gan.yaml
{
  echo 'model: {preset: classifier, network: {channels: [8], stem: 2, features: 8}}'
  echo "data: {path: \"$ELBO_SOURCE/share/digits\", limit: 500, holdout: 100}"
  echo 'train: {steps: 20, batch_size: 32, checkpoint_every: 0}'
} >features.yaml
echo "preset: wrong" >broken.yaml
expect 0 "$ELBO" compare vae.yaml gan.yaml broken.yaml --out page.html --steps 20 --features features.yaml -n 100 --seeds 2 --limit 30

# The page's own text, and behind it a script that looks at what the browser made of it.
sed 's|</body></html>||' page.html >looked.html
cat >>looked.html <<'END'
<script>
const found = [];
const images = [...document.images];
found.push("images " + images.length + " broken " + images.filter(i => !(i.complete && i.naturalWidth > 0 && i.width > 0)).length);
found.push("overflow " + (document.documentElement.scrollWidth > window.innerWidth));
const table = document.querySelector("table.compare"), rows = [...table.tBodies[0].rows];
const width = row => [...row.cells].reduce((n, c) => n + c.colSpan, 0);
const heads = [...table.tHead.rows].map(width);
found.push("rows " + rows.length + " ragged " + rows.filter(r => width(r) !== heads[1]).length + " heads " + (heads[0] === heads[1]));
found.push("points " + document.querySelectorAll("svg.plot circle").length);
const plot = document.querySelector("svg.plot").getBoundingClientRect();
found.push("outside " + [...document.querySelectorAll("svg.plot text, svg.plot circle")].filter(t => {
  const b = t.getBoundingClientRect();
  return b.left < plot.left - 1 || b.right > plot.right + 1 || b.top < plot.top - 1 || b.bottom > plot.bottom + 1;
}).length);
found.push("bold " + document.querySelectorAll("table.compare b").length);
document.title = "looked at: " + found.join(", ") + ".";
</script></body></html>
END
for width in 1440 700; do
  expect 0 timeout 120 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" --window-size=$width,1000 \
    --dump-dom "file://$work/looked.html"
  says "<title>looked at: images 9 broken 0, overflow false, rows 4 ragged 0 heads true, points 3, outside 0, bold [1-9]"
done
expect 0 timeout 120 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" --window-size=1440,2000 \
  --screenshot="$work/page.png" "file://$work/page.html"
is_file page.png
finish
