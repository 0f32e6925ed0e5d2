"""A picture (SVG) of one step, of the trace that `elbo bench RECIPE --trace step.json` writes: a lane for each kind of operation, time from left
to right, and behind each lane what its operations take in all and the share of the roofline that they reach together.

    python3 bench/timeline.py step.json step.svg "ddpm-cifar10, batch 16"
"""
import json
import re
import sys
from xml.sax.saxutils import escape

KINDS = [  # the first whose pattern occurs in "operation kernel"
    ("weight gradients, Winograd", "winograd.*weight", "#7a3e9d"),
    ("3x3 convolutions and backward data, Winograd", "winograd", "#1f6fb4"),
    ("other convolutions", "conv", "#2a9d8f"),
    ("attention", "attention", "#d1495b"),
    ("linear layers, matrix products", r"\b(fused_)?linear\b|matmul", "#e08e00"),
    ("norms and their gradients", r"_norm(_grad)?\b", "#5b8c2a"),
    ("sums, copies, element by element", "", "#7f7f7f"),
]
LEFT, WIDTH, RIGHT, LANE, TOP = 16, 720, 330, 30, 52


def kind_of(event):
    text = event["name"] + " " + event["args"]["kernel"]
    return next(name for name, pattern, _ in KINDS if re.search(pattern, text))


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: timeline.py TRACE.json OUT.svg TITLE")
    with open(sys.argv[1], encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    step = next(e for e in events if e["cat"] == "step")
    operations = [e for e in events if e["cat"] == "operation"]
    scale = WIDTH / step["dur"]
    colours = {name: colour for name, _, colour in KINDS}
    lanes = list(dict.fromkeys(name for name, _, _ in KINDS))
    peak = step["args"]["peak GFLOP/s"]
    height = TOP + LANE * (len(lanes) + 1) + 26
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="20" font-size="14">{escape(sys.argv[3])}: one step, {step["dur"] / 1000:.1f} ms, '
           f'{step["args"]["flops"] / step["dur"] / 1000:.0f} GFLOP/s of a peak of {peak:.0f}</text>',
           f'<text x="{LEFT + WIDTH + 12}" y="40" fill="#555">ms, share of the step, of the roofline</text>']
    for row, name in enumerate(lanes):
        y = TOP + LANE * row
        mine = [e for e in operations if kind_of(e) == name]
        took = sum(e["dur"] for e in mine)
        best = sum(e["dur"] * e["args"]["share of roofline"] for e in mine)
        out.append(f'<rect x="{LEFT}" y="{y}" width="{WIDTH}" height="{LANE - 8}" fill="#f2f2f2"/>')
        out += [f'<rect x="{LEFT + e["ts"] * scale:.2f}" y="{y}" width="{max(e["dur"] * scale, 0.05):.2f}" height="{LANE - 8}" fill="{colours[name]}"/>'
                for e in mine]
        share = f", {100 * best / took:.0f} %" if took else ""
        out.append(f'<text x="{LEFT + WIDTH + 12}" y="{y + 10}">{escape(name)}</text><text x="{LEFT + WIDTH + 12}" y="{y + 22}" fill="#555" '
                   f'font-size="10">{took / 1000:.1f} ms, {100 * took / step["dur"]:.0f} %{share}</text>')
    y = TOP + LANE * len(lanes)
    done = max(e["ts"] + e["dur"] for e in operations)
    rest = step["dur"] - sum(e["dur"] for e in operations)
    out.append(f'<rect x="{LEFT}" y="{y}" width="{WIDTH}" height="{LANE - 8}" fill="#f2f2f2"/>'
               f'<rect x="{LEFT + done * scale:.2f}" y="{y}" width="{(step["dur"] - done) * scale:.2f}" height="{LANE - 8}" fill="#333"/>'
               f'<text x="{LEFT + WIDTH + 12}" y="{y + 10}">optimiser, average, next batch</text><text x="{LEFT + WIDTH + 12}" y="{y + 22}" '
               f'fill="#555" font-size="10">{rest / 1000:.1f} ms, {100 * rest / step["dur"]:.0f} %, with what is between operations</text>')
    y += LANE + 8
    for tick in range(5):
        anchor = ["start", "middle", "middle", "middle", "end"][tick]
        out.append(f'<text x="{LEFT + WIDTH * tick / 4}" y="{y}" text-anchor="{anchor}" fill="#555">{step["dur"] * tick / 4000:.0f} ms</text>')
    out.append("</svg>")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
