"""Draws folded stacks as one self-contained SVG: a click zooms, `/` searches, Escape goes back."""

import re
from html import escape

WIDTH = 1200
ROW = 17
SIDE = 10
TOP = 62
BOTTOM = 34
# Narrower frames are left out: they cannot be seen, and a graph may hold tens of thousands.
NARROWEST = 0.5
# Below this many pixels no letter fits.
NARROWEST_LABEL = 24
LETTER = 6.6

# The cryptography library: its C names begin with `aws_lc_`, its Rust paths with `aws_lc_rs`.
CRYPTO = "aws_lc"
# A module of a Rust path: in small letters, and more comes behind. The script says the same.
MODULE = re.compile(r"\b[a-z_][a-z0-9_]*::(?=[\w<{])")
KINDS = {
    "k": "kernel",
    "c": "cryptography",
    "o": "opencall",
    "r": "other user space",
    "t": "thread",
}


def kind(name, depth):
    """The colour class of a frame."""
    if depth == 1:
        return "t"
    if name.endswith("_[k]"):
        return "k"
    if "opencall_" in name:
        return "o"
    if CRYPTO in name or name.startswith("aead_"):
        return "c"
    return "r"


class Node:
    """A frame with what it called."""

    __slots__ = ("name", "weight", "below")

    def __init__(self, name):
        self.name, self.weight, self.below = name, 0, {}


def tree(folded):
    """All stacks as one tree."""
    root = Node("all")
    for stack, weight in folded.items():
        root.weight += weight
        node = root
        for name in stack:
            node = node.below.setdefault(name, Node(name))
            node.weight += weight
    return root


def boxes(root):
    """Every frame wide enough to be seen: (x, depth, width, node); x and width as shares."""
    placed, pending = [], [(root, 0, 0.0)]
    while pending:
        node, depth, x = pending.pop()
        share = node.weight / root.weight
        if share * (WIDTH - 2 * SIDE) < NARROWEST:
            continue
        placed.append((x, depth, share, node))
        for name in sorted(node.below):
            below = node.below[name]
            pending.append((below, depth + 1, x))
            x += below.weight / root.weight
    return placed


def short(name):
    """A name without its modules: `a::b::Core::gather` is `Core::gather`."""
    return MODULE.sub("", name)


def label(name, width):
    """As much of a name as fits."""
    name, letters = short(name), int((width - 6) / LETTER)
    if width < NARROWEST_LABEL or letters < 3:
        return ""
    return name if len(name) <= letters else name[: letters - 2] + "…"


def svg(folded, title, subtitle="", unit="samples"):
    """The picture, as text."""
    root = tree(folded)
    if root.weight == 0:
        raise ValueError("no stacks to draw")
    placed = boxes(root)
    deepest = max(depth for _, depth, _, _ in placed)
    height = TOP + (deepest + 1) * ROW + BOTTOM
    inner = WIDTH - 2 * SIDE
    parts = [HEAD.format(width=WIDTH, height=height, middle=WIDTH / 2, side=SIDE,
                         title=escape(title), subtitle=escape(subtitle), below=height - 12,
                         field=WIDTH - SIDE)]
    parts.append(legend(height))
    parts.append('<g id="frames">')
    for x, depth, share, node in placed:
        left, width = SIDE + x * inner, share * inner
        y = height - BOTTOM - (depth + 1) * ROW
        what = f"{node.name} · {node.weight:,} {unit}, {100 * share:.2f} %"
        parts.append(
            f'<g class="{kind(node.name, depth)}" data-x="{x:.6f}" data-w="{share:.6f}" '
            f'data-d="{depth}"><title>{escape(what)}</title>'
            f'<rect x="{left:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" rx="2"/>'
            f'<text x="{left + 3:.2f}" y="{y + 12}">{escape(label(node.name, width))}</text></g>'
        )
    parts.append("</g>")
    parts.append(SCRIPT % {"side": SIDE, "inner": inner, "letter": LETTER,
                           "narrowest": NARROWEST_LABEL})
    parts.append("</svg>\n")
    return "\n".join(parts)


def legend(height):
    """What the colours mean."""
    parts = ['<g class="legend">']
    x = WIDTH - SIDE - sum(34 + 7 * len(name) for name in KINDS.values())
    for letter, name in KINDS.items():
        parts.append(f'<g class="{letter}"><rect x="{x}" y="{height - 22}" width="11" height="11" '
                     f'rx="2"/></g><text x="{x + 16}" y="{height - 12}">{name}</text>')
        x += 34 + 7 * len(name)
    parts.append("</g>")
    return "".join(parts)


# The style is the browser's, dark where the reader likes it so.
HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="100%" viewBox="0 0 {width} {height}" role="img">
<title>{title}</title>
<style>
svg {{ background: #fff; font: 11px ui-monospace, 'DejaVu Sans Mono', Menlo, monospace; }}
text {{ fill: #1b1f24; }}
.head {{ font: 600 17px system-ui, 'DejaVu Sans', sans-serif; }}
.sub, .legend text, #hint {{ font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #59636e; }}
#frames g {{ cursor: pointer; }}
#frames text {{ pointer-events: none; }}
#frames g:hover rect {{ stroke: #1b1f24; stroke-width: 1; }}
.k rect {{ fill: #f4a261; }} .c rect {{ fill: #8fcf8a; }} .o rect {{ fill: #6fb1fc; }}
.r rect {{ fill: #d3c4ea; }} .t rect, #frames > g:first-child rect {{ fill: #c9d1d9; }}
#frames g.found rect {{ fill: #e0218a; }} #frames g.found text {{ fill: #fff; }}
#frames g.faded {{ opacity: .45; }}
#search {{ font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: #0969da; cursor: pointer;
  text-anchor: end; }}
@media (prefers-color-scheme: dark) {{
  svg {{ background: #0d1117; }} .head, #hint {{ fill: #e6edf3; }}
  .sub, .legend text {{ fill: #9198a1; }}
  #search {{ fill: #4493f8; }} #frames g:hover rect {{ stroke: #fff; }}
}}
</style>
<text class="head" x="{middle}" y="24" text-anchor="middle">{title}</text>
<text class="sub" x="{middle}" y="43" text-anchor="middle">{subtitle}</text>
<text id="search" x="{field}" y="24">search (/)</text>
<text id="hint" x="{side}" y="{below}">click a frame to look into it</text>"""

SCRIPT = """<script><![CDATA[
(() => {
  const side = %(side)s, inner = %(inner)s, letter = %(letter)s, narrowest = %(narrowest)s;
  const all = [...document.querySelectorAll('#frames > g')].map(g => ({
    g, x: +g.dataset.x, w: +g.dataset.w, d: +g.dataset.d,
    rect: g.querySelector('rect'), text: g.querySelector('text'),
    what: g.querySelector('title').textContent,
  }));
  const hint = document.getElementById('hint'), resting = hint.textContent;
  const nameOf = f => f.what.slice(0, f.what.lastIndexOf(' \\u00b7 '));
  const short = name => name.replace(/\\b[a-z_][a-z0-9_]*::(?=[\\w<{])/g, '');
  const slack = 1e-6;
  let wanted = null, focus = all[0];
  function place(f, x, w) {
    const left = side + x * inner, width = Math.max(w * inner, 0), name = short(nameOf(f));
    f.rect.setAttribute('x', left); f.rect.setAttribute('width', width);
    f.text.setAttribute('x', left + 3);
    const letters = Math.floor((width - 6) / letter);
    f.text.textContent = width < narrowest || letters < 3 ? ''
      : name.length <= letters ? name : name.slice(0, letters - 2) + '\\u2026';
  }
  function zoom(to) {
    focus = to;
    for (const f of all) {
      const under = f.d >= to.d && f.x >= to.x - slack && f.x + f.w <= to.x + to.w + slack;
      const above = f.d < to.d && f.x <= to.x + slack && f.x + f.w >= to.x + to.w - slack;
      f.g.style.display = under || above ? '' : 'none';
      f.g.classList.toggle('faded', above);
      if (under) place(f, (f.x - to.x) / to.w, f.w / to.w);
      if (above) place(f, 0, 1);
    }
  }
  const reset = () => zoom(all[0]);
  function search(text) {
    wanted = text || null;
    let pattern = null;
    try { pattern = wanted && new RegExp(wanted, 'i'); }
    catch { hint.textContent = 'not a pattern: ' + wanted; return; }
    let covered = 0, end = -1;
    const hits = [];
    for (const f of all) {
      const hit = !!pattern && f.g.style.display !== 'none' && f.d >= focus.d
        && pattern.test(nameOf(f));
      f.g.classList.toggle('found', hit);
      if (hit) hits.push(f);
    }
    hits.sort((a, b) => a.x - b.x || b.w - a.w);
    for (const f of hits) if (f.x + slack >= end) { covered += f.w; end = f.x + f.w; }
    const share = (100 * covered / focus.w).toFixed(2) + ' %%';
    hint.textContent = pattern ? wanted + ': ' + share : resting;
  }
  const ask = () => {
    const text = prompt('Frames whose name matches:', wanted || '');
    if (text !== null) search(text);
  };
  for (const f of all) {
    f.g.addEventListener('click', () => zoom(f));
    f.g.addEventListener('mouseenter', () => { hint.textContent = f.what; });
    f.g.addEventListener('mouseleave', () => search(wanted));
  }
  document.getElementById('search').addEventListener('click', ask);
  addEventListener('keydown', e => {
    if (e.key === 'Escape') { reset(); search(''); }
    if (e.key === '/') { e.preventDefault(); ask(); }
  });
})();
]]></script>"""
