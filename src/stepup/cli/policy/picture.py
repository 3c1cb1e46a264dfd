"""A comparison of policies as a picture: an SVG with the prompts of each operation.

The picture is readable in grey on paper, and follows a browser's dark mode. Import this module
within a command: altair and vl-convert are of the extra `analysis`.
"""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Final
from xml.etree import ElementTree as ET

from stepup.cli.policy.comparison import Comparison, Kind, Tally
from stepup.domain.operations import OperationId
from stepup.system.distribution import missing_extra

MOST: Final = 20
"""How many operations the picture shows: those with the most changes, and with a prompt."""
_SUBTITLE_LETTERS: Final = 80
"""A longer line is wider than most pictures, which leaves a part of them blank."""
_SVG: Final = "http://www.w3.org/2000/svg"
_BACKGROUND, _INK, _BEFORE, _AFTER = "#ffffff", "#24292f", "#b4bcc4", "#0a4a8f"
_IN_THE_DARK: Final = {
    _BACKGROUND: "#0d1117",
    _INK: "#e6edf3",
    _BEFORE: "#6e7681",
    _AFTER: "#79b8ff",
}
_COLOURS: Final[Mapping[Kind, str]] = {"before": _BEFORE, "after": _AFTER}


class ChartError(Exception):
    """The picture cannot be drawn; the message says why."""


def picture_of(comparison: Comparison, title: str, subtitle: str) -> str:
    """Draw the prompts of each operation before and after as an SVG with a text for screen readers.

    Args:
        comparison: what to draw.
        title: the headline.
        subtitle: the text below the headline.

    Raises:
        ChartError: altair or vl-convert is not installed.
    """
    try:
        import altair as alt  # noqa: PLC0415  # of an extra
        import vl_convert  # noqa: PLC0415  # as above
    except ImportError as error:
        raise ChartError(f"a picture {missing_extra('analysis')}") from error
    shown = _shown(comparison)
    bars = [
        {"operation": operation, "policy": kind, "prompts": tally.prompts(kind)}
        for operation, tally in shown
        for kind in _COLOURS
    ]
    base = alt.Chart(alt.InlineData(values=bars)).encode(
        x=alt.X("prompts:Q", title="prompts", axis=alt.Axis(tickMinStep=1, format=",d")),
        y=alt.Y("operation:N", title=None, sort=[operation for operation, _ in shown]),
        yOffset=alt.YOffset("policy:N", sort=list(_COLOURS)),
    )
    colour = alt.Color(
        "policy:N",
        title=None,
        sort=list(_COLOURS),
        scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
        legend=alt.Legend(orient="top"),
    )
    chart = (
        (
            base.mark_bar().encode(color=colour)
            + base.mark_text(align="left", dx=3).encode(text=alt.Text("prompts:Q", format=",d"))
        )
        .properties(
            title=alt.TitleParams(
                title, subtitle=wrap(subtitle, _SUBTITLE_LETTERS), anchor="start"
            ),
            width=480,
            height=alt.Step(14),
        )
        .configure(background=_BACKGROUND, font="system-ui, 'DejaVu Sans', sans-serif")
        .configure_text(color=_INK)
        .configure_title(color=_INK, subtitleColor=_INK)
        .configure_axis(labelColor=_INK, titleColor=_INK, labelLimit=400)
        .configure_legend(labelColor=_INK)
        .configure_view(stroke=None)
    )
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    return _described(svg, title, " ".join(_sentences(comparison, subtitle)))


def _shown(comparison: Comparison) -> list[tuple[OperationId, Tally]]:
    return (comparison.prompted() or comparison.ranked())[:MOST]


def _sentences(comparison: Comparison, subtitle: str) -> Iterator[str]:
    """What the picture shows, in words."""
    yield f"{subtitle}."
    for operation, tally in _shown(comparison):
        before, after = tally.prompts("before"), tally.prompts("after")
        yield f"{operation}: {before} prompts before, {after} after."


def _described(svg: str, title: str, description: str) -> str:
    """The SVG with a title, a description and colours for the dark."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(svg)  # noqa: S314  # of vl-convert
    root.set("role", "img")
    root.set("aria-labelledby", "title desc")
    rules = (f'[fill="{light}"] {{ fill: {dark} }}' for light, dark in _IN_THE_DARK.items())
    style = f"@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}"
    for place, (name, text) in enumerate(
        (("title", title), ("desc", description), ("style", style))
    ):
        element = ET.Element(f"{{{_SVG}}}{name}", {"id": name})
        element.text = text
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")
