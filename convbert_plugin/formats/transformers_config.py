"""The config.json of transformers and our options for the model, in both directions."""

import re
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike


class ModelType(NamedTuple):
    """One ``model_type``: what stands in the names of its classes, and its options.

    ``options``: ours -> (theirs, what an absent one means). ``constants``: what ours has fixed.
    """

    class_prefix: str
    options: Mapping[str, tuple[str, Any]]
    constants: Mapping[str, object]


OPTIONS = {
    "encoder_layers": ("num_hidden_layers", 12),
    "encoder_embed_dim": ("hidden_size", 768),
    "encoder_ffn_embed_dim": ("intermediate_size", 3072),
    "encoder_attention_heads": ("num_attention_heads", 12),
    "embedding_dim": ("embedding_size", 768),
    "max_positions": ("max_position_embeddings", 512),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}
CONVBERT_OPTIONS = {
    **OPTIONS,
    "head_ratio": ("head_ratio", 2),
    "conv_kernel_size": ("conv_kernel_size", 9),
    "ffn_groups": ("num_groups", 1),
}
ELECTRA_OPTIONS = {
    **OPTIONS,
    "encoder_embed_dim": ("hidden_size", 256),
    "encoder_ffn_embed_dim": ("intermediate_size", 1024),
    "encoder_attention_heads": ("num_attention_heads", 4),
    "embedding_dim": ("embedding_size", 128),
}
# What theirs may say; the first is what an absent one means, and anything else is another model.
CONSTANTS = {
    "hidden_act": ("gelu",),
    "layer_norm_eps": (1e-12,),
    "type_vocab_size": (2,),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "position_embedding_type": ("absolute", None),
}
# Of them, what stands in a config.json that is written anew.
CONSTANTS_WRITTEN = {
    **{name: CONSTANTS[name][0] for name in ("hidden_act", "layer_norm_eps", "type_vocab_size")},
    "initializer_range": 0.02,
}
MODEL_TYPES = {
    "convbert": ModelType("ConvBert", CONVBERT_OPTIONS, {"conv_type": "span_dynamic"}),
    "electra": ModelType("Electra", ELECTRA_OPTIONS, {"conv_type": "none", "head_ratio": 1}),
}
VOCABULARY_SIZE = ("vocab_size", 30522)
# The model here has one table for the tokens that it reads and the ones that it writes.
TIED = {"tie_word_embeddings": True}
# In what the tensors may be stored; the first is what an absent dtype means.
DTYPES = ("float32", "float16", "bfloat16", "float64")
# As it is called now, and as older versions of transformers called it.
DTYPE_KEYS = ("dtype", "torch_dtype")
# What an absent list of labels means.
DEFAULT_LABELS = 2
# More than any size may have: torch counts in 64 bits.
MOST_OF_A_SIZE = 1 << 63
# Ours: how long examples were in training, where that is less than there are positions.
TRAINED_POSITIONS = "trained_positions"


def own_options(config: Mapping, path: PathLike) -> dict:
    """Our options for what a config.json describes, heads and head ratio as it has them.

    Raises:
        UserError: another kind of model, an option of another type, a size that is none.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        raise UserError(
            f"{path}: a model_type of {shown(model_type)}: only {' and '.join(MODEL_TYPES)} can "
            "be converted"
        )
    for name, accepted in CONSTANTS.items():
        if config.get(name, accepted[0]) not in accepted:
            raise UserError(
                f"{path}: {name} {shown(config[name])}: the model here has {accepted[0]!r} "
                "and nothing else"
            )
    _, options, constants = MODEL_TYPES[model_type]
    values = {ours: _option(config, *theirs, path) for ours, theirs in options.items()}
    return {**values, **constants}


def vocabulary_size(config: Mapping, path: PathLike) -> int:
    """How many rows the token table has."""
    return _option(config, *VOCABULARY_SIZE, path)


def trained_positions(config: Mapping, path: PathLike) -> int:
    """How long examples were in training: as many tokens as there are positions, unless it says."""
    positions = _option(config, *OPTIONS["max_positions"], path)
    trained = _option(config, TRAINED_POSITIONS, positions, path)
    if trained > positions:
        raise UserError(
            f"{path}: {TRAINED_POSITIONS} {trained}: there are {positions} positions: correct it"
        )
    return trained


def dtype_name(config: Mapping, path: PathLike) -> str:
    """In what the tensors are stored, by its name in torch.

    Raises:
        UserError: anything but one of ``DTYPES``.
    """
    said = next((config[key] for key in DTYPE_KEYS if config.get(key) is not None), DTYPES[0])
    if said not in DTYPES:
        raise UserError(f"{path}: dtype {shown(said)}: expected one of {', '.join(DTYPES)}")
    return said


def with_dtype(config: Mapping, name: str) -> dict:
    """``config`` where it says that the tensors are stored in ``name``, and as it was else."""
    said = [key for key in DTYPE_KEYS if key in config] or DTYPE_KEYS[:1]
    wrong = [key for key in said if (config.get(key) or DTYPES[0]) != name]
    return {**config, **dict.fromkeys(wrong, name)}


def label_count(config: Mapping, path: PathLike) -> Optional[int]:
    """How many labels it says that there are, None where it says nothing.

    Raises:
        UserError: labels in a form that transformers cannot read.
    """
    labels = config.get("id2label")
    if labels is None and "num_labels" not in config:
        return None
    if labels is None:
        return _option(config, "num_labels", DEFAULT_LABELS, path)
    if not (isinstance(labels, Mapping) and all(map(str.isdecimal, labels))):
        raise UserError(
            f"{path}: id2label {shown(labels)}: expected an object of numbers and labels, as in "
            '{"0": "no", "1": "yes"}'
        )
    return len(labels)


def labels_in(config: Mapping) -> list[str]:
    """The words of the classes in their order; none where they are not words, or only numbered."""
    labels = config.get("id2label")
    if not isinstance(labels, Mapping):
        return []
    words: list[Any] = [labels.get(str(number)) for number in range(len(labels))]
    if not all(isinstance(word, str) and word and word.isprintable() for word in words):
        return []
    is_told = words != _numbered(len(words)) and len(set(words)) == len(words) > 1
    return words if is_told else []


def _numbered(classes: int) -> list[str]:
    return [f"LABEL_{number}" for number in range(classes)]


def labels_for(config: Mapping, classes: int, words: Sequence[str], path: PathLike) -> dict:
    """``config`` with these labels, or where there are none as many of its own or numbered ones.

    Errors: as ``label_count``.
    """
    said, kept = label_count(config, path), labels_in(config)
    if (DEFAULT_LABELS if said is None else said) == classes and (list(words) or kept) == kept:
        return dict(config)
    names = list(words) or _numbered(classes)
    return {
        **{key: value for key, value in config.items() if key != "num_labels"},
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def in_their_words(line: str) -> str:
    """A line about options of ours that names those of config.json instead."""
    theirs = {f"--{ours.replace('_', '-')}": key for ours, (key, _) in CONVBERT_OPTIONS.items()}
    line = re.sub(r"--[a-z-]+", lambda found: theirs.get(found[0], found[0]), line)
    # What is left is advice about options that no config.json has.
    return re.sub(r" \([^()]*--[^()]*\)", "", line)


def type_of(options: Mapping) -> str:
    """The ``model_type`` of our options."""
    return "electra" if options["conv_type"] == "none" else "convbert"


def transformers_options(options: Mapping, vocabulary: int, source: Mapping) -> dict:
    """The config.json for our options, with heads and head ratio as transformers reads them.

    What ours does not decide stays as ``source`` says it.

    Raises:
        UserError: a model that transformers cannot represent, and why.
    """
    name = type_of(options)
    if reason := _why_not(options):
        raise UserError(f"transformers cannot represent this model: {reason}")
    of_type = {theirs: options[ours] for ours, (theirs, _) in MODEL_TYPES[name].options.items()}
    kept = source if source.get("model_type") == name else CONSTANTS_WRITTEN
    tied = {} if kept.get("tie_word_embeddings", True) is True else TIED
    return {**kept, **tied, "model_type": name, VOCABULARY_SIZE[0]: vocabulary, **of_type}


def _option(config: Mapping, name: str, default: Any, path: PathLike) -> Any:
    value = config.get(name, default)
    is_number = type(value) is int or (type(value) is float and type(default) is float)
    least, kind = (0, "number") if type(default) is float else (1, "whole number")
    # No comparison holds for NaN.
    if not (is_number and least <= value < MOST_OF_A_SIZE):
        raise UserError(f"{path}: {name} {shown(value)}: expected a {kind} from {least} on")
    return value


def _why_not(options: Mapping) -> Optional[str]:
    """Why transformers cannot represent a model of these options, None where it can."""
    conv_type, ratio, groups = (options[n] for n in ("conv_type", "head_ratio", "ffn_groups"))
    if conv_type not in ("span_dynamic", "none"):
        return f"its ConvBERT knows no --conv-type {conv_type}"
    if conv_type == "none" and not ratio == groups == 1:
        return (
            f"its Electra knows neither a head ratio ({ratio}) nor feed-forward groups ({groups})"
        )
    return None
