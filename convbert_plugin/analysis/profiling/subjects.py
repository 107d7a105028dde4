"""What is profiled: a model and how it is trained, by the options of fairseq-train."""

from dataclasses import dataclass
from typing import Any, Callable, Mapping, NamedTuple

from convbert_plugin.analysis.profiling.operations import CONV_TYPES
from convbert_plugin.analysis.profiling.recipes import RECIPES, Recipe
from convbert_plugin.errors import UserError, shown
from convbert_plugin.models.architectures import ARCHITECTURES, released_generator_size
from convbert_plugin.modules.shape import OPTIONS as OPTION_OF
from convbert_plugin.modules.shape import StackShape

REPLACED_TOKENS, MASKED_LM, FINE_TUNING = "replaced_token_detection", "masked_lm", "fine_tuning"
OBJECTIVES = (REPLACED_TOKENS, MASKED_LM, FINE_TUNING)
BERT_VOCABULARY = 30522
MASK_PROBABILITY = 0.15
AUTOCAST_DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")
# The largest count of a profile is a product of seven numbers, and has to stay a float.
MOST_DIGITS = 15


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS) or int(text) < 1:
        raise ValueError(f"a whole number from 1 on, of at most {MOST_DIGITS} digits")
    return int(text)


def _fraction(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def _share(text: str) -> float:
    share = _fraction(text)
    if not 0 < share < 1:
        raise ValueError("a share between 0 and 1")
    return share


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return parse


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


class Option(NamedTuple):
    """``parse`` raises ValueError with the words for what it takes."""

    parse: Callable[[str], Any]
    help: str


SIZE_OPTIONS = {
    name: Option(_one_of(CONV_TYPES) if name == "conv_type" else _whole, words)
    for name, words in {
        "encoder_layers": "number of layers",
        "encoder_embed_dim": "hidden size",
        "encoder_ffn_embed_dim": "inner size of the feed-forward",
        "encoder_attention_heads": "nominal number of heads",
        "embedding_dim": "size of the embeddings",
        "head_ratio": "divides the number of heads (paper: gamma)",
        "conv_kernel_size": "taps of the convolution, odd",
        "conv_type": f"what stands beside self-attention: {', '.join(CONV_TYPES)}",
        "ffn_groups": "groups of the grouped linear layers",
        "max_positions": "rows of the position table",
    }.items()
}
OPTIONS: dict[str, Option] = {
    **SIZE_OPTIONS,
    "generator_size": Option(_fraction, "width of the generator, of the discriminator's"),
    "dropout": Option(_fraction, "of embeddings, attention output and feed-forward"),
    "attention_dropout": Option(_fraction, "of attention probabilities"),
    "autocast_dtype": Option(_one_of(AUTOCAST_DTYPES), "precision of the matrix products"),
    "checkpoint_activations": Option(_switch, "keep the inputs of layers alone (true or false)"),
    "objective": Option(_one_of(OBJECTIVES), f"what is trained: {', '.join(OBJECTIVES)}"),
    "mask_prob": Option(_share, "share of tokens to guess"),
    "vocabulary": Option(_whole, "tokens of the vocabulary"),
    "batch_size": Option(_whole, "examples of a batch"),
    "tokens_per_sample": Option(_whole, "tokens of an example, all of them full"),
    "max_update": Option(_whole, "updates of the whole training"),
    "device": Option(_one_of(DEVICES), "where the batch is trained on, which decides what is kept"),
}
"""By their names, as fairseq-train has most of them."""


@dataclass(frozen=True)
class Subject:
    """One column of a profile.

    ``options``: the value of each option. ``recipe``: batch, length, updates.
    """

    name: str
    arch: str
    options: Mapping[str, Any]
    shape: StackShape
    recipe: Recipe

    @property
    def generator(self) -> StackShape:
        return self.shape.generator(self.options["generator_size"])


def default_options(arch: str) -> dict[str, Any]:
    """The architecture's own, and the recipe that it was released with."""
    batch, length, updates = RECIPES[arch]
    return {
        **ARCHITECTURES[arch],
        "generator_size": released_generator_size(arch),
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "autocast_dtype": "float32",
        "checkpoint_activations": False,
        "objective": REPLACED_TOKENS,
        "mask_prob": MASK_PROBABILITY,
        "vocabulary": BERT_VOCABULARY,
        "batch_size": batch,
        "tokens_per_sample": length,
        "max_update": updates,
        "device": "cpu",
    }


def subject_of(words: str, options: Mapping[str, Any]) -> Subject:
    """The model that a word names: an architecture, or one with changes: ``NAME:OPTION=VALUE,...``.

    ``options``: those for all models, before which the word's own go.

    Raises:
        UserError: an unknown architecture, option or value, or values that do not fit each other.
    """
    arch, _, changes = words.partition(":")
    if arch not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"--arch {shown(arch)}: choose one of {known}")
    found = {**default_options(arch), **options, **_changes(words, changes)}
    try:
        return made_subject(words, arch, found)
    except UserError as error:
        raise UserError(f"--arch {words}: {error}") from None


def made_subject(name: str, arch: str, options: Mapping[str, Any]) -> Subject:
    """The model that has each of these options. Raises UserError: they do not fit each other."""
    length, positions = options["tokens_per_sample"], options["max_positions"]
    if length > positions:
        raise UserError(
            f"examples of {length} tokens are longer than the model's {positions} positions: give "
            "a smaller --tokens-per-sample or a larger --max-positions"
        )
    recipe = Recipe(options["batch_size"], length, options["max_update"])
    subject = Subject(name, arch, options, _shape(options), recipe)
    if options["objective"] == REPLACED_TOKENS:
        # Its own rules are told here, before anything is computed.
        _ = subject.generator
    return subject


def _changes(words: str, changes: str) -> dict[str, Any]:
    found = {}
    for change in filter(None, changes.split(",")):
        name, _, text = change.partition("=")
        key = name.removeprefix("--").replace("-", "_")
        if key not in OPTIONS:
            raise UserError(
                f"--arch {words}: there is no option {shown(name)}: choose from "
                f"{', '.join(OPTIONS)}"
            )
        try:
            found[key] = OPTIONS[key].parse(text)
        except ValueError as error:
            raise UserError(f"--arch {words}: {name} takes {error}, not {shown(text)}") from None
    return found


def _shape(options: Mapping[str, Any]) -> StackShape:
    fields = ("hidden", "layers", "heads", "ffn_hidden")
    same = (
        *("embedding_dim", "head_ratio", "conv_kernel_size", "conv_type", "ffn_groups"),
        *("dropout", "attention_dropout", "checkpoint_activations"),
    )
    return StackShape(
        **{name: options[OPTION_OF[name]] for name in fields},
        **{name: options[name] for name in same},
        conv_backend="auto",
        pads_visible=False,
    )
