"""The picture of a measurement: a bar per variant, as long as its median throughput."""

import statistics
from xml.sax.saxutils import escape

_SVG = "http://www.w3.org/2000/svg"
_WIDTH = 880
_LEFT, _RIGHT = 130, 320
_TOP, _ROW, _BAR = 88, 34, 20
_OURS, _YARDSTICK = "#2f6fb3", "#a9b4bf"
_STYLE = """
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .quiet { fill: #57606a; font-size: 12px }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .grid { stroke: #d8dee4 }
  .spread { stroke: #24292f; stroke-width: 1.5 }
"""


def svg(document):
    """Draw the document of `report`; a variant without throughput has no bar."""
    bars = {name: figures for name, figures in document["variants"].items() if figures["rps"]}
    marks = _marks(max(max(figures["rps"]) for figures in bars.values()))
    scale = (_WIDTH - _LEFT - _RIGHT) / marks[-1]
    bottom = _TOP + _ROW * len(bars)
    height = bottom + 36
    parts = [
        f'<svg xmlns="{_SVG}" width="{_WIDTH}" height="{height}" role="img">',
        f"<title>Calls per second on one core</title><style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 26, "CheckStepUp calls per second on one core", "title"),
        _text(16, 46, _subtitle(document), "quiet"),
        _text(_WIDTH - 110, _TOP - 14, "one at a time: p50, p99", "quiet end"),
        _text(_WIDTH - 16, _TOP - 14, "half load: p99", "quiet end"),
        *(_grid(_LEFT + mark * scale, mark, bottom) for mark in marks),
        *(
            _bar(name, figures, _TOP + _ROW * row, scale)
            for row, (name, figures) in enumerate(bars.items())
        ),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _subtitle(document):
    load, machine = document["load"], document["machine"]
    return (
        f"{load['in_flight']} in flight; median of {load['repetitions']} runs, with the lowest"
        f" and the highest; {machine['processor']}"
    )


def _marks(longest):
    """Round numbers for the axis, from 0 to beyond the longest bar; no more than seven."""
    steps = (digit * 10**power for power in range(1, 9) for digit in (1, 2, 5))
    step = next(step for step in steps if longest < 6 * step)
    return range(0, int(longest) + step + 1, step)


def _grid(x, mark, bottom):
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom}"/>'
        f"{_text(x, bottom + 20, f'{mark:,}', 'quiet middle')}"
    )


def _bar(name, figures, top, scale):
    rps, middle = figures["rps"], top + _BAR / 2
    median = statistics.median(rps)
    low, high = (_LEFT + value * scale for value in (min(rps), max(rps)))
    colour = _YARDSTICK if name.endswith("-noop") or name.startswith(("go-", "cerbos")) else _OURS
    size = f'width="{median * scale:.1f}" height="{_BAR}"'
    alone, at_half = (
        f"{figures['p50_ms']:.2f}, {figures['p99_ms']:.2f} ms",
        f"{figures['p99_at_half_ms']:.2f} ms",
    )
    text = middle + 4.5  # the base line of a text that is centred on the bar
    return "\n".join(
        (
            f'<rect x="{_LEFT}" y="{top}" {size} rx="2" fill="{colour}"/>',
            f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
            _text(_LEFT - 10, text, name, "end"),
            _text(high + 8, text, f"{median:,.0f}", "start"),
            _text(_WIDTH - 110, text, alone, "quiet end"),
            _text(_WIDTH - 16, text, at_half, "quiet end"),
        )
    )


def _text(x, y, text, kind):
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
