"""The name of every tensor: here, in transformers, in the released TensorFlow checkpoints.

One table, read in every direction: a row names a module in each of the three; its kind says what
the module's tensors are called and how their shapes differ. The rows of the encoder stand here,
those of a head or a generator beside the part that they belong to. In the scopes of the rows,
``{i}`` is the number of a layer, ``{network}`` discriminator or generator, ``{dense}`` the released
word for a feed-forward layer with groups or without, ``{head}`` the name of a head of which there
may be several, ``{body}`` what a model of transformers with a head puts before the names of its
encoder.
"""

import re
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple, Optional

from torch import Tensor

from convbert_plugin.errors import UserError, readable


class Surgery(NamedTuple):
    """A tensor of another library in our shape, and back."""

    to_own: Callable[[Tensor], Tensor]
    from_own: Callable[[Tensor], Tensor]


def _transposed_unless_grouped(weight: Tensor) -> Tensor:
    # The matrices of a grouped layer are [groups, in, out] everywhere.
    return weight.t() if weight.dim() == 2 else weight


SAME = Surgery(lambda tensor: tensor, lambda tensor: tensor)
# [in, out] <-> [out, in]
MATRIX = Surgery(_transposed_unless_grouped, _transposed_unless_grouped)
# [out, in, 1] <-> [out, in]
ONE_TAP = Surgery(lambda weight: weight.squeeze(2), lambda weight: weight.unsqueeze(2))
# [out, 1] <-> [out]
COLUMN = Surgery(lambda bias: bias.squeeze(1), lambda bias: bias.unsqueeze(1))
# [taps, channels, 1] <-> [channels, 1, taps]
TAPS_FIRST = Surgery(lambda kernel: kernel.permute(1, 2, 0), lambda kernel: kernel.permute(2, 0, 1))
# [1, in, out] <-> [out, in]
ONE_TAP_FIRST = Surgery(
    lambda kernel: kernel.squeeze(0).t(), lambda weight: weight.t().unsqueeze(0)
)


class Foreign(NamedTuple):
    """The name of a tensor (in a kind: what follows the name of its module), and its surgery."""

    name: str
    surgery: Surgery = SAME


# Our tensor of a module -> what it is in transformers, in TensorFlow.
DENSE = {
    "weight": (Foreign("weight"), Foreign("kernel", MATRIX)),
    "bias": (Foreign("bias"), Foreign("bias")),
}
NORM = {"weight": (Foreign("weight"), Foreign("gamma")), "bias": (Foreign("bias"), Foreign("beta"))}
TABLE = {"weight": (Foreign("weight"), Foreign(""))}
OUTPUT_BIAS = {"bias": (Foreign("bias"), Foreign(""))}
DEPTHWISE = {"weight": (Foreign("depthwise.weight"), Foreign("depthwise_kernel", TAPS_FIRST))}
# The bias is that of the whole separable convolution.
POINTWISE = {
    "weight": (Foreign("pointwise.weight", ONE_TAP), Foreign("pointwise_kernel", ONE_TAP_FIRST)),
    "bias": (Foreign("bias", COLUMN), Foreign("bias")),
}


class Section(NamedTuple):
    """Rows (ours, transformers, TensorFlow, kind) below one name in each of the three."""

    ours: str
    transformers: str
    tensorflow: str
    rows: tuple


# fmt: off
ENCODER_SECTIONS = (
    Section("embeddings", "{body}embeddings", "electra/embeddings", (
    ("tokens",     "word_embeddings",       "word_embeddings",       TABLE),
    ("positions",  "position_embeddings",   "position_embeddings",   TABLE),
    ("segments",   "token_type_embeddings", "token_type_embeddings", TABLE),
    ("layer_norm", "LayerNorm",             "LayerNorm",             NORM),
    )),
    Section("{network}", "", "{network}", (
    ("embedding_projection", "{body}embeddings_project", "embeddings_project", DENSE),
    )),
    Section(
        "{network}.layers.{i}.attention",
        "{body}encoder.layer.{i}.attention.self",
        "{network}/encoder/layer_{i}/attention/self", (
    ("query",                          "query",               "query",            DENSE),
    ("key",                            "key",                 "key",              DENSE),
    ("value",                          "value",               "value",            DENSE),
    ("conv_branch.span_key.depthwise", "key_conv_attn_layer", "conv_attn_key",    DEPTHWISE),
    ("conv_branch.span_key.pointwise", "key_conv_attn_layer", "conv_attn_key",    POINTWISE),
    ("conv_branch.conv.weight_linear", "conv_kernel_layer",   "conv_attn_kernel", DENSE),
    ("conv_value",                     "conv_out_layer",      "conv_attn_point",  DENSE),
    )),
    Section(
        "{network}.layers.{i}",
        "{body}encoder.layer.{i}",
        "{network}/encoder/layer_{i}", (
    ("attention.output",        "attention.output.dense",     "attention/output/dense",     DENSE),
    ("attention_layer_norm",    "attention.output.LayerNorm", "attention/output/LayerNorm", NORM),
    ("feed_forward.inner",      "intermediate.dense",         "intermediate/{dense}",       DENSE),
    ("feed_forward.outer",      "output.dense",               "output/{dense}",             DENSE),
    ("feed_forward_layer_norm", "output.LayerNorm",           "output/LayerNorm",           NORM),
    )),
)
# fmt: on
# What the placeholders of our own names stand for.
PLACEHOLDERS = {"network": r"encoder|generator\.stack", "i": r"\d+", "head": r"[^.]+"}
# The number of a layer in the name of a tensor.
NUMBER_OF_LAYER = re.compile(r"(?<=[._])(\d+)(?=[._/])")
TENSORFLOW_NETWORKS = {"encoder": "electra", "generator.stack": "generator"}


class Library(NamedTuple):
    """One of the two other columns of the table, with the words for its placeholders."""

    column: int
    separator: str
    words: Mapping[str, str] = {}

    def join(self, *parts: str) -> str:
        return self.separator.join(part.strip(self.separator) for part in parts if part)


LIBRARIES = (Library(0, "."), Library(1, "/"))


def transformers_names(body: str) -> Library:
    """transformers; ``body`` is "convbert", "electra", or empty for a model without a head."""
    return LIBRARIES[0]._replace(words={"body": f"{body}." if body else ""})


def tensorflow_names(grouped: bool) -> Library:
    """The released TensorFlow code, whose feed-forward layers have groups or not."""
    return LIBRARIES[1]._replace(words={"dense": "g_dense" if grouped else "dense"})


class Rule(NamedTuple):
    """One tensor of the table: our name and the others', with placeholders.

    ``foreign``: a name and its surgery for each library, None where it has no such tensor.
    """

    ours: str
    foreign: tuple[Optional[Foreign], ...]


class KeyTable:
    """The rows of some sections, read in every direction."""

    def __init__(self, sections: Iterable[Section]):
        rules = (rule for section in sections for rule in _rules(section))
        self.rules = tuple((_pattern(rule.ours), rule.foreign) for rule in rules)

    def foreign_name(self, ours: str, library: Library) -> Optional[tuple[str, Surgery]]:
        """The name and surgery of one of our tensors, or None where the library has no such one."""
        for pattern, foreign in self.rules:
            if (found := pattern.fullmatch(ours)) and (there := foreign[library.column]):
                words = {**found.groupdict(), **library.words}
                words["network"] = TENSORFLOW_NETWORKS.get(words.get("network", ""))
                return there.name.format(**words), there.surgery
        return None

    def from_own(self, tensors: Mapping[str, Tensor], library: Library) -> dict[str, Tensor]:
        """Our tensors under the library's names, in its shapes.

        Raises:
            UserError: tensors that the library has no place for, by their names.
        """
        named = self._named(tensors, library)
        return {name: surgery.from_own(tensors[ours]) for ours, name, surgery in named}

    def check_names(
        self, shapes: Mapping[str, tuple], expected: Mapping[str, Tensor], library: Library
    ) -> None:
        """See that tensors of these shapes are the library's for exactly those that are expected.

        ``expected`` needs names and shapes alone (tensors on the meta device).

        Raises:
            UserError: one line that names all tensors that are missing, unknown or of another
                shape.
        """
        if problems := shape_problems(shapes, shapes_of(self.from_own(expected, library))):
            raise UserError(problems)

    def to_own(
        self, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], library: Library
    ) -> dict[str, Tensor]:
        """The library's tensors under our names, in our shapes. Errors: as ``check_names``."""
        self.check_names(shapes_of(tensors), expected, library)
        named = self._named(expected, library)
        return {ours: surgery.to_own(tensors[name]) for ours, name, surgery in named}

    def _named(self, every: Iterable[str], library: Library) -> list[tuple[str, str, Surgery]]:
        """Our names, each with the library's and the surgery. Errors: as ``from_own``."""
        found = {ours: self.foreign_name(ours, library) for ours in every}
        homeless = [ours for ours, there in found.items() if there is None]
        if homeless:
            raise UserError(_in_one_line((ours, "has no counterpart") for ours in homeless))
        return [(ours, *there) for ours, there in found.items() if there]


def foreign_names(section: Section, library: Library) -> dict[str, str]:
    """Our names within a section that has no placeholders there -> the library's."""
    return {
        rule.ours.removeprefix(f"{section.ours}."): there.name
        for rule in _rules(section)
        if (there := rule.foreign[library.column])
    }


def _rules(section: Section) -> Iterator[Rule]:
    for module, *foreign_modules, kind in section.rows:
        for tensor, of_tensor in kind.items():
            foreign = tuple(
                None if name is None else there._replace(name=library.join(scope, name, there.name))
                for library, scope, name, there in zip(
                    LIBRARIES, section[1:3], foreign_modules, of_tensor, strict=True
                )
            )
            ours = ".".join(part for part in (section.ours, module, tensor) if part)
            yield Rule(ours, foreign)


def _pattern(template: str) -> re.Pattern:
    escaped = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    for word, expression in PLACEHOLDERS.items():
        escaped = escaped.replace(f"{{{word}}}", f"(?P<{word}>{expression})")
    return re.compile(escaped)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple]:
    """The shapes of tensors, by their names."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def shape_problems(shapes: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> str:
    """All names that are missing, unknown or of another shape, in one line; empty if none is."""
    problems = []
    for name, shape in wanted.items():
        if name not in shapes:
            problems.append((name, "is missing"))
        elif shapes[name] != shape:
            problems.append((name, f"is {shapes[name]}, not {shape}"))
    problems += [(name, "is unknown") for name in shapes if name not in wanted]
    return _in_one_line(problems)


def _in_one_line(problems: Iterable[tuple[str, str]]) -> str:
    """All problems; where layers share one, their numbers stand in braces."""
    layers: dict[tuple, list[str]] = {}
    for name, words in problems:
        before, number, after = (*NUMBER_OF_LAYER.split(readable(name), maxsplit=1), "", "")[:3]
        layers.setdefault((before, after, words), []).append(number)
    return "; ".join(
        before
        + (numbers[0] if len(numbers) == 1 else f"{{{','.join(numbers)}}}")
        + f"{after} {words}"
        for (before, after, words), numbers in layers.items()
    )
