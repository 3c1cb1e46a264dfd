"""How well a colour can be read on another one (WCAG 2.2, "contrast ratio")."""

from typing import Final

WHITE: Final = "#ffffff"
_DARK: Final = 0.04045  # below it, sRGB is linear


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours `#rrggbb`: from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def lightened(colour: str, background: str, wanted: float) -> str:
    """Return the colour, mixed with as much white as its contrast to a background needs."""
    for share in range(101):
        mixed = "#" + "".join(
            f"{round(part + (255 - part) * share / 100):02x}" for part in _parts(colour)
        )
        if contrast(mixed, background) >= wanted:
            return mixed
    return WHITE


def _parts(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(part / 255) for part in _parts(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= _DARK else ((part + 0.055) / 1.055) ** 2.4
