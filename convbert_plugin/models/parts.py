"""What a model may have beside its encoder: a row for each kind of part, the heads among them.

Model, checkpoints, key table and conversions read these rows. A part is named by its scope: the
first words of its tensors' names, such as ``masked_lm_head`` or ``classification_heads.mrpc``.
"""

from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional

from torch import Tensor, nn

from convbert_plugin.formats.keys import (
    DENSE,
    ENCODER_SECTIONS,
    NORM,
    OUTPUT_BIAS,
    KeyTable,
    Section,
)
from convbert_plugin.modules.generator import Generator
from convbert_plugin.modules.heads import (
    CLASSIFICATION_HEADS,
    MaskedLMHead,
    ReplacedTokenHead,
)
from convbert_plugin.modules.span_heads import QUESTION_ANSWERING_HEADS

CLASSIFICATION, QUESTION_ANSWERING_HEAD = "classification_heads", "question_answering_head"
MASKED_LM_HEAD, REPLACED_TOKEN_HEAD = "masked_lm_head", "replaced_token_head"
GENERATOR = "generator"
LONGEST_HEAD_NAME = 100

Options = dict[str, Any]
"""What a part is built by."""
Parts = dict[str, Options]
"""The parts of a model, by their scopes."""
Find = Callable[[str], Optional[Tensor]]
"""The tensor of a part that has this name within it, None where there is none."""


class Part(NamedTuple):
    """One kind of part.

    ``words``: what errors call it, with ``{name}`` for its own name. ``build`` takes the model
    around the part, then its options. ``keys``: the names of its tensors elsewhere.
    ``options_of``: the options that its tensors tell, and ``kind_flag`` that of fairseq-train which
    says its kind, where there are several. ``is_named``: there may be several, each with a name.

    ``transformers_class``: the end of the name of the class that has it as its head, None where no
    class has; ``transformers_models``: of which models; ``transformers_options``: with which
    options, and ``unlike_transformers`` is what to say of others. ``has_labels``: its output has a
    row for each label of config.json.
    """

    name: str
    words: str
    build: Callable[..., nn.Module]
    keys: Section
    options_of: Callable[[Find], Options] = lambda find: {}
    kind_flag: str = ""
    is_named: bool = False
    transformers_class: Optional[str] = None
    transformers_models: tuple[str, ...] = ("convbert", "electra")
    transformers_options: Mapping[str, object] = {}
    unlike_transformers: str = ""
    has_labels: bool = False


def _classes(find: Find) -> Options:
    bias = find("output.bias")
    return {"classes": 1 if bias is None else max(1, len(bias))}


def _classification_options(find: Find) -> Options:
    kind = "released" if find("dense.weight") is None else "transformers"
    return {**_classes(find), "kind": kind}


def _question_answering_options(find: Find) -> Options:
    # What has no tensor of either, because it is damaged, is taken for the kind that was first.
    return {"kind": "transformers" if find("start.weight") is None else "released"}


# fmt: off
_MASKED_LM_ROWS = (
    ("dense",      "generator_predictions.dense",     "dense",       DENSE),
    ("layer_norm", "generator_predictions.LayerNorm", "LayerNorm",   NORM),
    ("",           "generator_lm_head",               "output_bias", OUTPUT_BIAS),
)
# Where a model has several that a class of transformers has, the first of them is taken. The
# released task heads are other ones: TensorFlow has no names for those of fine-tuning.
PARTS = (
    Part(
        CLASSIFICATION,
        words="classification head {name}",
        build=lambda model, classes, kind: CLASSIFICATION_HEADS[kind](
            model.shape.hidden, classes, model.cfg.dropout
        ),
        keys=Section("classification_heads.{head}", "classifier", "", (
            ("dense",  "dense",    None, DENSE),
            ("output", "out_proj", None, DENSE),
        )),
        options_of=_classification_options,
        kind_flag="--classification-head",
        is_named=True,
        transformers_class="ForSequenceClassification",
        transformers_options={"kind": "transformers"},
        unlike_transformers="it is one linear layer as released, and the one of transformers has a "
        "dense layer with GELU before it",
        has_labels=True,
    ),
    Part(
        QUESTION_ANSWERING_HEAD,
        words="question-answering head",
        build=lambda model, kind="transformers": QUESTION_ANSWERING_HEADS[kind](
            model.shape.hidden
        ),
        keys=Section("question_answering_head", "", "", (
            ("output",            "qa_outputs", None, DENSE),
            ("start",             None,         None, DENSE),
            ("end_dense",         None,         None, DENSE),
            ("end_output",        None,         None, DENSE),
            ("impossible_dense",  None,         None, DENSE),
            ("impossible_output", None,         None, DENSE),
        )),
        options_of=_question_answering_options,
        kind_flag="--question-answering-head",
        transformers_class="ForQuestionAnswering",
        transformers_options={"kind": "transformers"},
        unlike_transformers="it is the released one, whose ends follow from the start, and the one "
        "of transformers gives each token two scores: train one that fits by "
        "--question-answering-head transformers",
        has_labels=True,
    ),
    Part(
        MASKED_LM_HEAD,
        words="masked-LM head",
        build=lambda model: MaskedLMHead(
            model.shape.hidden, model.shape.embedding_dim, len(model.vocabulary)
        ),
        keys=Section("masked_lm_head", "", "generator_predictions", _MASKED_LM_ROWS),
        transformers_class="ForMaskedLM",
    ),
    Part(
        REPLACED_TOKEN_HEAD,
        words="replaced-token head",
        build=lambda model: ReplacedTokenHead(model.shape.hidden),
        keys=Section(
            "replaced_token_head", "discriminator_predictions", "discriminator_predictions", (
            ("dense",  "dense",            "dense",   DENSE),
            ("output", "dense_prediction", "dense_1", DENSE),
        )),
        transformers_class="ForPreTraining",
        transformers_models=("electra",),
    ),
    Part(
        GENERATOR,
        words="generator",
        build=lambda model, size: Generator(model.shape.generator(size), len(model.vocabulary)),
        keys=Section("generator.head", "", "generator_predictions", _MASKED_LM_ROWS),
    ),
)
# fmt: on
GENERATOR_SCOPES = {
    "embeddings.": "embeddings.",
    f"{GENERATOR}.stack.": "encoder.",
    f"{GENERATOR}.head.": f"{MASKED_LM_HEAD}.",
}
"""The tensors of the generator -> what they are in a masked-language model of its own."""
PARTS_BY_NAME = {part.name: part for part in PARTS}

KEYS = KeyTable((*ENCODER_SECTIONS, *(part.keys for part in PARTS)))
"""The names of all tensors that a model here may have."""


def part_at(scope: str) -> Part:
    """The row of the part with that scope."""
    return PARTS_BY_NAME[scope.partition(".")[0]]


def can_be_a_head(name: object) -> bool:
    """Whether a head can go by that name."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= LONGEST_HEAD_NAME
        and name.isprintable()
        and "." not in name
        and not hasattr(nn.ModuleDict(), name)
    )


def scopes_of(tensor_names: Iterable[str]) -> list[str]:
    """The scopes of all parts that tensors of these names belong to, each once."""
    scopes = {}
    for first, *rest in (name.split(".") for name in tensor_names):
        if first in PARTS_BY_NAME and rest:
            scopes[f"{first}.{rest[0]}" if PARTS_BY_NAME[first].is_named else first] = True
    return list(scopes)


def words_for(scope: str) -> str:
    """What errors call the part with that scope."""
    return part_at(scope).words.format(name=scope.partition(".")[2])


def parts_of(tensors: Mapping[str, Tensor]) -> Parts:
    """The parts that tensors of our names make up, with the options that they tell."""

    def find_in(scope: str) -> Find:
        return lambda name: tensors.get(f"{scope}.{name}")

    return {scope: part_at(scope).options_of(find_in(scope)) for scope in scopes_of(tensors)}


def names_in(parts: Iterable[str], kind: str) -> list[str]:
    """The names of the parts of a kind of which there may be several."""
    return [scope.partition(".")[2] for scope in parts if scope.startswith(f"{kind}.")]
