"""What eyes make of colours: contrast (WCAG 2.2), colour blindness (Machado 2009), difference.

A colour is red, green and blue of 0 to 1, as sRGB; where it has a fourth number, that is alpha.
"""

from typing import Iterable, Sequence

import numpy as np

Color = Sequence[float]
# Machado, Oliveira and Fernandes 2009, severity 1.0, of linear RGB.
SIGHTS = {
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
GREY = "greyscale"
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# Of D65.
WHITE = TO_XYZ.sum(axis=1)


def linear(color: Color) -> np.ndarray:
    values = np.asarray(color[:3], dtype=float)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(color: Color) -> float:
    return float(LUMINANCE @ linear(color))


def contrast(one: Color, other: Color) -> float:
    """1 to 21, WCAG's contrast ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def laid_over(layers: Iterable[Color]) -> Color:
    """What is seen of colours with alpha, the uppermost first, on white."""
    seen = np.ones(3)
    for *color, alpha in reversed(list(layers)):
        seen = alpha * np.asarray(color) + (1 - alpha) * seen
    return seen.tolist()


def seen_by(sight: str, color: Color) -> np.ndarray:
    """Linear RGB as such eyes see it."""
    if sight == GREY:
        return np.full(3, luminance(color))
    return np.clip(np.array(SIGHTS[sight]) @ linear(color), 0, 1)


def lab(values: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    ratio = TO_XYZ @ values / WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = root
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: Color, other: Color, sight: str) -> float:
    """CIE 1976: 0 where they are alike, 100 from black to white."""
    return float(np.linalg.norm(lab(seen_by(sight, one)) - lab(seen_by(sight, other))))


def chroma(color: Color) -> float:
    """0 for greys."""
    return float(np.hypot(*lab(linear(color))[1:]))
