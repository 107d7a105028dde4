"""Pictures of what heads look at: a table in colours, kernels as bars, maps of a text."""

import math
from typing import Any, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from convbert_plugin.analysis.drawing import LINE, axes_in, image_of, plain
from convbert_plugin.analysis.heads.measured_models import MeasuredModel
from convbert_plugin.analysis.theme import COLORS, GRID, INK, MUTED, styles_of
from convbert_plugin.analysis.words import printable, wrap
from convbert_plugin.modules.mixed_attention import AttentionMaps

# Each in one colour that grows fainter, so that grey shows the same, on a dark page too.
ATTENTION, KERNELS = (
    LinearSegmentedColormap.from_list(name, [to_rgba(color, 0), to_rgba(color, 1)])
    for name, color in (("attention", COLORS[0]), ("kernels", COLORS[1]))
)
# Of a cell whose share is 1: under it letters stay readable.
STRONGEST = 0.6
# Inches.
CELL, UNIFORM, CELL_HEIGHT, SIDE, NUMBERS_HEIGHT = 0.46, 0.75, 0.25, 0.55, 0.5
TILE, TILE_HEIGHT = 1.15, 1.05
LARGEST_MAP, SMALLEST_MAP, WIDEST, GAP, TITLE = 4.2, 1.5, 34.0, 0.15, 0.24
# Points: of many words beside a map.
SMALL_LETTERS = 8.25
WORD = 1.25 * SMALL_LETTERS / 72
LONGEST_WORD = 14
# Of a picture of all maps, wide by high.
SHAPE = 1.6


def draw_local_shares(models: Sequence[MeasuredModel], width: float, image_format: str) -> bytes:
    """A cell for each layer and head, and a column of the uniform pattern beside them."""
    cell = min(CELL, *((width - SIDE - UNIFORM - 0.2) / (model.heads + 0.3) for model in models))
    widths = [SIDE + cell * (model.heads + 0.3) + UNIFORM + 0.2 for model in models]
    columns = max(1, min(len(models), int(width / max(widths))))
    name = 0.25 if len(models) > 1 else 0.0
    rows = [models[first : first + columns] for first in range(0, len(models), columns)]
    highs = [
        CELL_HEIGHT * max(model.layers for model in row) + name + NUMBERS_HEIGHT for row in rows
    ]
    with plain():
        figure = Figure((width, sum(highs)))
        for number, row in enumerate(rows):
            top = sum(highs[:number])
            for column, model in enumerate(row):
                left = column * max(widths)
                if name:
                    _write(figure, left, top + 0.12, model.name, fontweight="bold")
                box = left + SIDE, top + name + 0.42, cell * (model.heads + 0.3) + UNIFORM
                axes = axes_in(figure, *box, CELL_HEIGHT * model.layers)
                _draw_cells(axes, model, cell)
        return image_of(figure, image_format)


def _write(figure: Figure, left: float, top: float, words: str, **style: Any) -> None:
    width, height = figure.get_size_inches()
    figure.text(
        left / width, 1 - top / height, printable(words), verticalalignment="center", **style
    )


def _draw_cells(axes: Axes, model: MeasuredModel, cell: float) -> None:
    """In inches to the right and layers down."""
    uniform = model.found["uniform"]["local_share"]
    lefts = [cell * head for head in range(model.heads)] + [cell * (model.heads + 0.3)]
    widths = [cell] * model.heads + [UNIFORM]
    for layer, heads in enumerate(model.found["attention"]["local_share"]):
        for left, width, share in zip(lefts, widths, [*heads, uniform], strict=True):
            box = (left + 0.015, layer - 0.46), width - 0.03, 0.92
            axes.add_patch(Rectangle(*box, color=COLORS[0], alpha=STRONGEST * share, linewidth=0))
            axes.text(
                left + width / 2, layer, f"{100 * share:.0f}",
                horizontalalignment="center", verticalalignment="center",
            )  # fmt: skip
    axes.set_xlim(0, lefts[-1] + UNIFORM)
    axes.set_ylim(model.layers - 0.5, -0.5)
    middles = [left + width / 2 for left, width in zip(lefts, widths, strict=True)]
    axes.set_xticks(middles, [*map(str, range(model.heads)), "uniform"])
    axes.set_yticks(range(model.layers))
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("layer")
    axes.set_title("head")


def draw_shares_by_layer(models: Sequence[MeasuredModel], width: float, image_format: str) -> bytes:
    """A line for each model: the mean over its heads, from the least to the most local one."""
    styles = styles_of(model.name for model in models)
    with plain():
        names = {model.name: wrap(model.name, 44) for model in models}
        lines = sum(name.count("\n") + 1 for name in names.values()) + 2
        figure = Figure((width, min(3.4, 0.8 * width) + LINE * lines), layout="constrained")
        axes = figure.subplots()
        for model in models:
            shares = 100 * np.array(model.found["attention"]["local_share"])
            color, line, marker = styles[model.name]
            layers = range(model.layers)
            axes.fill_between(
                layers, shares.min(axis=1), shares.max(axis=1), color=color, alpha=0.15, linewidth=0
            )
            axes.plot(
                layers, shares.mean(axis=1), line, color=color, marker=marker,
                markersize=5, label=names[model.name],
            )  # fmt: skip
        uniform = 100 * models[0].found["uniform"]["local_share"]
        axes.axhline(uniform, color=MUTED, linestyle="--", linewidth=1.2, label="uniform")
        axes.set_ylim(0, 100)
        axes.set_xticks(range(max(model.layers for model in models)))
        axes.grid()
        axes.set_xlabel("layer")
        axes.set_title(f"% of attention within ±{models[0].found['reach']}")
        figure.legend(loc="outside lower left")
        return image_of(figure, image_format)


def draw_mean_kernels(model: MeasuredModel, width: float, image_format: str) -> bytes:
    """Bars for each layer and head: a tap's mean weight and its deviation over the tokens."""
    kernels = model.found["kernels"]
    means, deviations = (
        100 * np.array(kernels[name]) for name in ("mean_kernel", "kernel_deviation")
    )
    places = [(layer, head) for layer in range(model.layers) for head in range(model.heads)]
    offsets = np.arange(model.taps) - model.taps // 2
    edges, gap = np.append(offsets, offsets[-1] + 1) - 0.5, np.full(model.taps, np.nan)
    highest = 1.05 * (means + deviations).max()
    columns = _columns(model, max(1, int(width / TILE)))
    rows = -(-len(places) // columns)
    wide = (width - SIDE) / columns
    with plain():
        figure = Figure((width, rows * TILE_HEIGHT + 0.5))
        for number, (layer, head) in enumerate(places):
            row, column = divmod(number, columns)
            place = SIDE + column * wide, 0.42 + row * TILE_HEIGHT
            axes = axes_in(figure, *place, wide - GAP, TILE_HEIGHT - 0.4)
            weights, around = means[layer, head], deviations[layer, head]
            axes.stairs(weights, edges, fill=True, color=COLORS[1], linewidth=0)
            # One line, with a gap behind each tap.
            axes.plot(
                np.repeat(offsets, 3),
                np.stack([weights - around, weights + around, gap], axis=-1).flatten(),
                color=INK, linewidth=0.8,
            )  # fmt: skip
            axes.axvline(kernels["centre"][layer][head], color=COLORS[0], linewidth=1.4)
            axes.set_title(f"{layer}.{head}", pad=2)
            axes.set_ylim(0, highest)
            axes.tick_params(length=0)
            axes.set_xticks([-(model.taps // 2), 0, model.taps // 2] if model.taps > 1 else [0])
            if number % columns:
                axes.set_yticks([])
            if number + columns < len(places):
                axes.tick_params(axis="x", labelbottom=False)
        _write(figure, 0, 0.1, "% of the kernel", color=MUTED)
        under = "tokens after its own; line: centre"
        _write(figure, SIDE, figure.get_size_inches()[1] - 0.1, under, color=MUTED)
        return image_of(figure, image_format)


def _columns(model: MeasuredModel, most: int) -> int:
    """As many tiles in a row as fit: those of whole layers, or equal parts of one."""
    if most >= model.heads:
        return min(most // model.heads, model.layers) * model.heads
    return max(parts for parts in range(1, most + 1) if model.heads % parts == 0)


def draw_maps(
    model: MeasuredModel, maps: AttentionMaps, words: Sequence[str], width: Optional[float],
    image_format: str,
) -> bytes:  # fmt: skip
    """The map of each layer and head, and its kernels as a band of taps under it.

    Shapes as of ``maps_of``. The picture is so wide, or as wide as its maps need.
    """
    size, number = len(words), model.layers * model.heads
    words = [_short(printable(word)) for word in words]
    labels = 0.15 + 0.6 * SMALL_LETTERS / 72 * max(map(len, words))
    taps = min(model.taps / size, 0.5)
    if width is None:
        side = min(max(SMALLEST_MAP, WORD * size), LARGEST_MAP)
        shape = SHAPE * ((1 + taps) * side + 2 * GAP + TITLE) / (side + GAP)
        columns = _columns(model, max(1, round(math.sqrt(number * shape))))
        width = min(WIDEST, labels + columns * (side + GAP))
    else:
        columns = _columns(model, max(1, int((width - labels) / (SMALLEST_MAP + GAP))))
    side = (width - labels) / columns - GAP
    band = taps * side + GAP if model.taps else 0.0
    high = TITLE + side + band + GAP
    # A word a row of the map, or as many as there is room for.
    step = math.ceil(WORD * size / side)
    with plain():
        figure = Figure((width, -(-number // columns) * high + labels))
        for place in range(number):
            row, column = divmod(place, columns)
            layer, head = divmod(place, model.heads)
            left, top = labels + column * (side + GAP), row * high + TITLE
            axes = axes_in(figure, left, top, side, side)
            # The root, so that what is faint beside the strongest is seen.
            _draw_square(axes, maps.attention[layer, head, :, :size].sqrt(), ATTENTION)
            axes.set_title(f"{layer}.{head}", pad=2)
            if column == 0:
                axes.set_yticks(range(0, size, step), words[::step], fontsize=SMALL_LETTERS)
            if maps.kernels is not None:
                axes = axes_in(figure, left, top + side + GAP, side, band - GAP)
                _draw_square(axes, maps.kernels[layer, head].T, KERNELS)
                if column == 0:
                    _name_taps(axes, model.taps)
            if place + columns >= number:
                axes.set_xticks(
                    range(0, size, step), words[::step], fontsize=SMALL_LETTERS, rotation=90
                )
        return image_of(figure, image_format)


def _name_taps(axes: Axes, taps: int) -> None:
    """The first, the middle and the last one, by how far they are from the token."""
    middle = taps // 2
    ends = sorted({0, middle, taps - 1})
    offsets = [f"{end - middle:+d}" if end != middle else "0" for end in ends]
    axes.set_yticks(ends, offsets, fontsize=SMALL_LETTERS)


def _draw_square(axes: Axes, strengths: Tensor, colors: Colormap) -> None:
    # In an SVG too a number is a pixel, however large it is shown.
    axes.imshow(strengths, cmap=colors, vmin=0, aspect="auto", interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0, pad=2)
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID, linewidth=0.6)


def _short(word: str) -> str:
    return word if len(word) <= LONGEST_WORD else f"{word[: LONGEST_WORD - 1]}…"
