"""The page of ``convbert attention``: a text to look through, and what was measured in all."""

import json
from functools import partial
from importlib import resources
from typing import Any, Iterator, Sequence

from convbert_plugin.analysis.drawing import pictures
from convbert_plugin.analysis.heads.head_pictures import (
    draw_local_shares,
    draw_maps,
    draw_mean_kernels,
    draw_shares_by_layer,
)
from convbert_plugin.analysis.heads.measured_models import MeasuredModel
from convbert_plugin.analysis.heads.measuring_heads import layer_table
from convbert_plugin.analysis.heads.shown_texts import (
    ShownText,
    maps_of,
    texts_to_show,
    values_of,
)
from convbert_plugin.analysis.page import Section, Table, html_page
from convbert_plugin.analysis.theme import LIGHT, variables
from convbert_plugin.analysis.words import ABSENT, printable
from convbert_plugin.errors import counted

PLACE = "heads"
# Tokens of the maps that stand there where no script runs, two pictures of which are on the page.
MOST_PICTURED = 40
SCRIPTS, STYLE = ("head_maps.js", "head_explorer.js"), "head_explorer.css"
# Why a model has no kernels to show, by --conv-type.
WITHOUT = {"none": "no convolution", "conv": "an ordinary convolution, the same at every place"}
HEAD_MEASURES = ("centre", "centre_deviation", "entropy", "token_information")
# Kinds of places of a search, and what they are called.
FOUND = {"sharpest": "sharpest", "most_unlike_the_mean": "most unlike its mean"}


def attention_page(models: Sequence[MeasuredModel], text_name: str) -> str:
    """All of it as one file."""
    shown = texts_to_show(models, models[0].read.texts, _lines_of_places(models))
    found = models[0].found
    explanation = (
        f"What the heads of {' and '.join(model.name for model in models)} look at in {text_name}: "
        f"{counted(found['texts'], 'text')} of {counted(found['tokens'], 'token')}, those that "
        "frame a text among them. Layers and heads count from 0; layer 2, head 1 is called 2.1."
    )
    sections = (section for section in _sections(models, shown) if not section.is_empty)
    return html_page("Attention", explanation, sections, _script(models, shown))


def maps_png(models: Sequence[MeasuredModel]) -> bytes:
    """The first text, of the first model, every layer and head."""
    model = models[0]
    first = ShownText(0, model.read.texts[0], len(model.read.texts[0].tokens))
    return draw_maps(model, maps_of(model, first), model.read.words(0), None, "png")


def _lines_of_places(models: Sequence[MeasuredModel]) -> Iterator[int]:
    for model in models:
        for kind in FOUND:
            for place in model.found.get("search", {}).get(kind, []):
                yield place["line"]


def _sections(models: Sequence[MeasuredModel], shown: Sequence[ShownText]) -> Iterator[Section]:
    yield Section(table=_models_table(models))
    yield _look(models, shown)
    yield _local(models)
    for model in models:
        yield _kernels(model, models)
    for model in models:
        yield _places(model, models)


def _models_table(models: Sequence[MeasuredModel]) -> Table:
    header = ["model", "layers", "heads", "kernels", "checkpoint"]
    rows = [
        [
            model.name,
            str(model.layers),
            str(model.heads),
            f"{model.conv_type}, {counted(model.taps, 'tap')}" if model.taps else _without(model),
            str(model.read.convbert.run.path),
        ]
        for model in models
    ]
    return Table(header, rows, {"layers", "heads"}, {"kernels", "checkpoint"})


def _without(model: MeasuredModel) -> str:
    words = WITHOUT[model.conv_type]
    return f"{words} (--conv-type {model.conv_type})"


def _look(models: Sequence[MeasuredModel], shown: Sequence[ShownText]) -> Section:
    texts, first = models[0].read.texts, shown[0]
    number = "All texts" if len(shown) == len(texts) else f"{len(shown):,} of {len(texts):,} texts"
    lead = f"{number} can be looked at here; all of them are measured below."
    if not first.is_whole:
        lead += (
            f" Of the first text, {first.size} of its {len(first.text.tokens)} tokens are shown: "
            "what goes to the others is told as a sum. --tokens-per-sample cuts texts."
        )
    model, pictured = models[0], first._replace(size=min(first.size, MOST_PICTURED))
    words = model.read.words(0)[: pictured.size]
    picture = pictures(
        partial(draw_maps, model, maps_of(model, pictured), words),
        f"Attention maps of every layer and head of {model.name} in the text of line "
        f"{first.text.line}{_beginning(pictured)}, queries down, keys across"
        + (", and the kernels' taps under them" if model.taps else ""),
    )
    return Section("Look at a text", pictures=[picture], place=PLACE, lead=lead)


def _beginning(text: ShownText) -> str:
    return "" if text.is_whole else f" (its first {text.size} tokens)"


def _local(models: Sequence[MeasuredModel]) -> Section:
    found = models[0].found
    reach, uniform = found["reach"], found["uniform"]
    lead = (
        f"The share of attention that goes at most {counted(reach, 'token')} to either side, in "
        f"percent, by layer and head. Attention that is everywhere alike would have "
        f"{uniform['local_share']:.1%} there, and a mean distance of "
        f"{uniform['mean_distance']:.2f} tokens."
    )
    drawn = [
        pictures(
            partial(draw_local_shares, models),
            f"Share of attention within ±{reach} by layer and head, uniform beside it; the table "
            "has the same by layer",
        )
    ]
    if len(models) > 1:
        by_layer = partial(draw_shares_by_layer, models)
        words = (
            f"Share of attention within ±{reach} by layer: a line for the mean of the heads, a "
            "band from the least to the most local one"
        )
        drawn.insert(0, pictures(by_layer, words))
    return Section("How local attention is", table=_layers_table(models), pictures=drawn, lead=lead)


def _layers_table(models: Sequence[MeasuredModel]) -> Table:
    if len(models) == 1:
        header, *rows = layer_table(models[0].found)
        return Table(header, rows, set(header))
    # Those without kernels have fewer columns.
    width = min(len(layer_table(model.found)[0]) for model in models)
    tables = [(model, layer_table(model.found)) for model in models]
    header = tables[0][1][0][:width]
    rows = [[model.name, *row[:width]] for model, table in tables for row in table[1:-1]]
    rows.append(["", *tables[0][1][-1][:width]])
    return Table(["model", *header], rows, set(header), summary="Each layer in numbers")


def _kernels(model: MeasuredModel, models: Sequence[MeasuredModel]) -> Section:
    title = "What the kernels look at" + _of(model, models)
    kernels = model.found["kernels"]
    if kernels is None:
        return Section(title, [f"No kernels here: {_without(model)}."])
    lead = (
        "The mean weight of each tap over all tokens, with its deviation. Centre: where the kernel "
        "looks in the mean, in tokens after its own. Entropy: in nats, 0 for one tap. Told by the "
        "token: how much of the kernel depends on the token, in nats, 0 where all have the same."
    )
    if model.conv_type == "light":
        lead += " These kernels do not depend on the token: --conv-type light learns one each."
    header = ["head", "centre", "deviation", "entropy", "told by the token"]
    rows = [
        [f"{layer}.{head}", *(f"{kernels[name][layer][head]:z.3f}" for name in HEAD_MEASURES)]
        for layer in range(model.layers)
        for head in range(model.heads)
    ]
    table = Table(header, rows, set(header[1:]), summary="Each head in numbers")
    picture = pictures(
        partial(draw_mean_kernels, model),
        f"Mean kernel of every layer and head of {model.name}; the table has their centres",
    )
    return Section(title, table=table, pictures=[picture], lead=lead)


def _places(model: MeasuredModel, models: Sequence[MeasuredModel]) -> Section:
    search = model.found.get("search")
    if search is None:
        return Section()
    header = [
        *("kernel", "line", "token", "position", "entropy", "divergence", "centre"),
        "words under its taps",
    ]
    rows = [
        [
            words,
            str(place["line"]),
            place["token"],
            str(place["position"]),
            f"{place['entropy']:z.3f}",
            f"{place['divergence']:z.3f}",
            f"{place['centre']:+z.2f}",
            _window(place["window"]),
        ]
        for kind, words in FOUND.items()
        for place in search[kind]
    ]
    lead = (
        f"Where the kernel of layer {search['layer']}, head {search['head']} is sharpest, and most "
        "unlike its mean over all tokens. Entropy, and divergence from the mean kernel, are in "
        "nats. In brackets stands the token itself, – beyond the text."
    )
    title = f"Places of kernel {search['layer']}.{search['head']}{_of(model, models)}"
    numbers = {*header} - {"kernel", "token", "words under its taps"}
    table = Table(header, rows, numbers, {"words under its taps"})
    return Section(title, table=table, lead=lead)


def _window(window: Sequence[Sequence[Any]]) -> str:
    middle = len(window) // 2
    words = []
    for tap, (word, weight) in enumerate(window):
        name = ABSENT if word is None else word
        named = f"[{name}]" if tap == middle else name
        # What rounds to nothing is left out.
        words.append(f"{named} {weight:.0%}" if weight >= 0.005 else named)
    return " · ".join(words)


def _of(model: MeasuredModel, models: Sequence[MeasuredModel]) -> str:
    return f": {model.name}" if len(models) > 1 else ""


def _script(models: Sequence[MeasuredModel], shown: Sequence[ShownText]) -> str:
    data = {
        "reach": models[0].found["reach"],
        "uniform": models[0].found["uniform"],
        "models": [_model_values(model) for model in models],
        "texts": [values_of(models, text) for text in shown],
        # A page is printed in light colours, also where the script is told so before the browser.
        "style": f"#{PLACE}.printed {{ {variables(LIGHT)} }}\n{_source(STYLE)}",
        "place": PLACE,
    }
    # All that could end the script, or its string, is an escape of plain letters.
    written = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join(['"use strict";', f"const DATA = {written};", *map(_source, SCRIPTS)])


def _model_values(model: MeasuredModel) -> dict[str, Any]:
    search, kernels = model.found.get("search"), model.found["kernels"]
    return {
        "name": printable(model.name),
        "layers": model.layers,
        "heads": model.heads,
        "taps": model.taps,
        "without": "" if model.taps else _without(model),
        "attention": model.found["attention"],
        "kernels": kernels and {name: kernels[name] for name in HEAD_MEASURES},
        "places": [] if search is None else [
            {
                "kind": words,
                "head": [search["layer"], search["head"]],
                "line": place["line"],
                "position": place["position"],
                "token": printable(place["token"]),
            }
            for kind, words in FOUND.items() for place in search[kind]
        ],
    }  # fmt: skip


def _source(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
