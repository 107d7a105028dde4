"""The comparisons of the paper, and at which scale they are made: tables, and what binds them."""

from types import MappingProxyType
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Sequence

from convbert_plugin.analysis.profiling.profiles import profile_of
from convbert_plugin.analysis.profiling.subjects import OPTIONS, subject_of
from convbert_plugin.errors import UserError
from convbert_plugin.files.grids import Grid, GridRow
from convbert_plugin.models.architectures import ARCHITECTURES

FFN_WIDTH = "encoder_ffn_embed_dim"
# The folder of the ConvBERT of the scale itself.
CONVBERT = "convbert"

Changes = Mapping[str, Any]
"""Options by which a row differs from the ConvBERT of its scale."""
AS_IT_IS: Changes = MappingProxyType({})


class Scale(NamedTuple):
    """How large the models are and how they are trained; ``hidden_step``: the larger hidden size.

    ``model``: what differs from the architecture; ``pretraining`` and ``fine_tuning``: what differs
    from the recipes of its size.
    """

    arch: str
    model: Changes
    pretraining: Changes
    fine_tuning: Changes

    @property
    def size(self) -> str:
        """What the recipes call it."""
        return self.arch.split("_")[1]


WARM_UP = {"lr_scheduler.warmup_updates": 0, "lr_scheduler.warmup_ratio": 0.01}
SCALES = {
    "tiny": Scale(
        "convbert_small",
        model={
            "encoder_layers": 3,
            "encoder_embed_dim": 128,
            "encoder_ffn_embed_dim": 512,
            "encoder_attention_heads": 4,
            "embedding_dim": 64,
            "max_positions": 64,
        },
        pretraining={
            "task.tokens_per_sample": 64,
            "task.full_blocks": True,
            "dataset.batch_size": 16,
            "dataset.batch_size_valid": 64,
            "dataset.num_workers": 0,
            "optimization.lr": [5e-4],
            "optimization.max_update": 2000,
            "lr_scheduler.warmup_updates": 0,
            "lr_scheduler.warmup_ratio": 0.1,
            "checkpoint.save_interval_updates": 1000,
        },
        fine_tuning={
            "task.tokens_per_sample": 64,
            "dataset.num_workers": 0,
            "optimization.max_update": 300,
        },
    ),
    # What the paper trained; a shorter training warms up over as large a part of it.
    "small": Scale("convbert_small", {}, WARM_UP, {}),
    "base": Scale("convbert_base", {}, WARM_UP, {}),
}


class Row(NamedTuple):
    """``times``: options of the scale, each times a factor."""

    name: str
    changes: Changes = AS_IT_IS
    times: Mapping[str, float] = AS_IT_IS


class Comparison(NamedTuple):
    """A table of rows, compared with the first of them.

    ``equal_parameters``: the width of the feed-forward makes them as equal as it can, to the row
    that this names. ``same_results``: what differs must not change a result.
    """

    title: str
    rows: tuple[Row, ...]
    equal_parameters: str = ""
    same_results: bool = False


CONV_TYPES = {
    "conv": "convolution",
    "light": "light convolution",
    "dynamic": "dynamic convolution",
    "span_dynamic": "span-based dynamic convolution",
}
GROUPED = {"ffn_groups": 2}
LARGER = {"encoder_embed_dim": 1.5, "encoder_ffn_embed_dim": 1.5, "encoder_attention_heads": 2}
# Its random numbers are others where a model is compiled.
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
COMPARISONS = {
    "a": Comparison(
        "What each part brings (the paper's Table 1)",
        (
            Row("ELECTRA style", {"conv_type": "none", "head_ratio": 1}),
            Row("+ bottleneck", {"conv_type": "none"}),
            Row("+ span convolution"),
            Row("+ grouped linear", GROUPED),
            Row("+ larger hidden size", GROUPED, LARGER),
        ),
    ),
    "b": Comparison(
        "Convolutions of equally many parameters (the paper's Table 2)",
        tuple(Row(name, {"conv_type": kind}) for kind, name in CONV_TYPES.items()),
        equal_parameters=CONV_TYPES["span_dynamic"],
    ),
    "c": Comparison(
        "Kernel sizes",
        tuple(Row(f"kernel size {taps}", {"conv_kernel_size": taps}) for taps in range(1, 18, 2)),
    ),
    "d": Comparison(
        "Head ratios",
        tuple(Row(f"head ratio {ratio}", {"head_ratio": ratio}) for ratio in (1, 2, 4)),
    ),
    "e": Comparison(
        "Replaced-token detection and masked language modelling (the paper's Table 7)",
        (
            Row("replaced-token detection"),
            Row("masked language modelling", {"objective": "masked_lm"}),
        ),
    ),
    "options": Comparison(
        "Options that must not change a result",
        (
            Row("as it is", NO_DROPOUT),
            Row("convolution by torch's operations", {**NO_DROPOUT, "conv_backend": "eager"}),
            Row("products in bfloat16", {**NO_DROPOUT, "autocast_dtype": "bfloat16"}),
            Row("compiled", {**NO_DROPOUT, "compile": True}),
            Row("two data workers", {**NO_DROPOUT, "num_workers": 2}),
        ),
        same_results=True,
    ),
}
# Of the settings of a row, those that are not the model's; all else is an option of it.
OF_TRAINING = {"objective": "task.objective", "num_workers": "dataset.num_workers"}


class SettledRow(NamedTuple):
    """``settings``: what differs from the architecture and its recipe, by names of options."""

    row: GridRow
    settings: Changes


def settled(
    names: Sequence[str], scale: Scale, vocabulary: int
) -> tuple[list[Grid], list[SettledRow]]:
    """The grids of these comparisons at a scale, and their rows, equal ones once.

    Raises:
        UserError: sizes of the model that do not fit each other.
    """
    grids, rows = [], {}
    for name in names:
        comparison = COMPARISONS[name]
        of_grid = list(_settled_rows(comparison, scale, vocabulary))
        rows.update({settled.row.folder: settled for settled in of_grid})
        grids.append(
            Grid(
                name,
                comparison.title,
                tuple(settled.row for settled in of_grid),
                of_grid[0].row.name,
                comparison.same_results,
                _note(comparison, [settled.row for settled in of_grid]),
            )
        )
    return grids, list(rows.values())


def _settled_rows(comparison: Comparison, scale: Scale, vocabulary: int) -> Iterator[SettledRow]:
    wanted = 0
    for row in comparison.rows:
        if row.name == comparison.equal_parameters:
            wanted, _ = counts(scale, _changes_of(row, scale), vocabulary)
    for row in comparison.rows:
        changes = _changes_of(row, scale)
        if wanted:
            changes = brought_to(wanted, scale, changes, vocabulary)
        encoder, trained = counts(scale, changes, vocabulary)
        found = GridRow(row.name, folder_of(changes), encoder, trained)
        yield SettledRow(found, {**scale.model, **changes})


def _changes_of(row: Row, scale: Scale) -> dict[str, Any]:
    usual = usual_model(scale)
    changes = {name: round(usual[name] * by) for name, by in row.times.items()} | row.changes
    return {name: value for name, value in changes.items() if usual.get(name) != value}


def usual_model(scale: Scale) -> dict[str, Any]:
    """The options of the ConvBERT of a scale."""
    return {**ARCHITECTURES[scale.arch], **scale.model}


def folder_of(changes: Changes) -> str:
    """The folder of a row: equal for equal ones, whatever the grids and their order."""
    words = [f"{name.removeprefix('encoder_')}_{value}" for name, value in sorted(changes.items())]
    return "-".join(words) or CONVBERT


def counts(scale: Scale, changes: Changes, vocabulary: int) -> tuple[int, int]:
    """Parameters of the encoder, and of all that pretraining trains."""
    options = {**usual_model(scale), **changes, "vocabulary": vocabulary}
    known = {name: value for name, value in options.items() if name in OPTIONS}
    length = min(known["max_positions"], 128)
    subject = subject_of(scale.arch, {**known, "tokens_per_sample": length})
    parameters = profile_of(subject)["parameters"]
    return parameters["encoder"], parameters["all"]


def brought_to(wanted: int, scale: Scale, changes: Changes, vocabulary: int) -> dict[str, Any]:
    """The changes with the width of the feed-forward that comes nearest to so many parameters.

    Raises:
        UserError: no width does.
    """
    model = {**usual_model(scale), **changes}
    step, width = model["ffn_groups"], model[FFN_WIDTH]
    here, further = (
        counts(scale, {**changes, FFN_WIDTH: each}, vocabulary)[0] for each in (width, width + step)
    )
    # Each unit costs the same.
    nearest = width + step * round((wanted - here) / (further - here))
    if nearest < step:
        raise UserError(
            f"{folder_of(changes)}: no width of the feed-forward gives {wanted:,} parameters: "
            "choose a larger --scale"
        )
    # The row that is the measure keeps the name that it has in other grids.
    return dict(changes) if nearest == width else {**changes, FFN_WIDTH: nearest}


def _note(comparison: Comparison, rows: Sequence[GridRow]) -> Optional[str]:
    if not comparison.equal_parameters:
        return None
    [wanted] = [row.parameters for row in rows if row.name == comparison.equal_parameters]
    widest = max(abs(row.parameters - wanted) for row in rows)
    return (
        "the width of the feed-forward makes the encoders as large as that of "
        f"{comparison.equal_parameters}: the counts differ from its {wanted:,} parameters by at "
        f"most {widest:,} ({widest / wanted:.2%})"
    )
