"""What is to be measured: one plan for a run, one setting for each model in it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from convbert_plugin.analysis.profiling.recipes import RECIPES
from convbert_plugin.data.indexed_writing import write_lines
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.models.architectures import (
    ARCHITECTURES,
    ELECTRA,
    released_generator_size,
)
from convbert_plugin.models.config import ConvBertConfig, stack_shape
from convbert_plugin.modules.shape import StackShape

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SEPARATOR = SPECIALS.index("[SEP]")
BERT_VOCABULARY = 30522
SEED = 1
# The share of a word falls with its rank, as in a language.
ZIPF_EXPONENT = 1.0
# Examples in a batch; on a GPU those of the released recipes.
BATCHES = {"convbert_small": 32, "convbert_medium": 32, "convbert_base": 8}
OP_BATCH = 32
# For growth with length: tokens in a batch, whatever its length.
TOKENS = {"cpu": 4096, "cuda": 65536}
# How else a model can be run while it trains: the options of fairseq-train for it.
COMPILED, GRAPHS, BOTH = "compiled", "CUDA graphs", "compiled, CUDA graphs"
MODES = {
    COMPILED: ("--compile",),
    GRAPHS: ("--cuda-graphs",),
    BOTH: ("--compile", "--cuda-graphs"),
}
LENGTHS = (128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Sizes:
    """What a toy makes smaller.

    ``options`` of the architecture; ``uncached``: bytes that no cache holds; ``updates``: at most
    so many between two lines of a log; ``examples`` of the text by device, so many that the end of
    an epoch is rare.
    """

    vocabulary: int = BERT_VOCABULARY
    lengths: tuple[int, ...] = LENGTHS
    options: tuple[tuple[str, Any], ...] = ()
    uncached: int = 256 << 20
    updates: int = 50
    examples: tuple[tuple[str, int], ...] = (("cpu", 2048), ("cuda", 1 << 16))


# Two layers of a width that still leaves a generator two heads.
TOY = Sizes(
    vocabulary=211,
    lengths=(16, 32),
    options=(
        ("encoder_layers", 2),
        ("encoder_embed_dim", 48),
        ("encoder_ffn_embed_dim", 96),
        ("encoder_attention_heads", 8),
        ("embedding_dim", 24),
    ),
    uncached=1 << 16,
    updates=4,
    examples=(("cpu", 400), ("cuda", 400)),
)


@dataclass(frozen=True)
class Setting:
    """One model, one batch and how precisely to compute, in plain values.

    ``data``: a folder of binarized text; ``options``: more of fairseq-train's.
    """

    arch: str
    batch: int
    length: int
    data: str
    dtype: str = "fp32"
    device: str = "cpu"
    dropout: float = 0.0
    is_electra: bool = False
    sizes: Sizes = Sizes()
    options: tuple[str, ...] = ()

    def electra(self) -> "Setting":
        """ELECTRA of the same size: no convolution, all heads for attention."""
        return replace(self, is_electra=True)

    def run_as(self, mode: str) -> "Setting":
        """The same, run as ``mode`` names it."""
        return replace(self, options=(*self.options, *MODES[mode]))

    @property
    def model_options(self) -> dict[str, Any]:
        """Options of the model that differ from its architecture's."""
        return {
            **dict(self.sizes.options),
            **(ELECTRA if self.is_electra else {}),
            "max_positions": max(512, self.length),
            "dropout": self.dropout,
            "attention_dropout": self.dropout,
        }

    @property
    def words(self) -> str:
        return f"{self.arch.removeprefix('convbert_')}, {self.batch} x {self.length}, {self.dtype}"


@dataclass(frozen=True)
class Plan:
    """All that a run measures."""

    data: str
    archs: tuple[str, ...] = ("convbert_small", "convbert_base")
    batch: Optional[int] = None
    length: int = 128
    dtype: str = "fp32"
    device: str = "cpu"
    backends: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    dropouts: tuple[float, ...] = (0.0, 0.1)
    with_peers: bool = True
    sizes: Sizes = Sizes()

    def setting(self, arch: str, **changes: Any) -> Setting:
        """For a model of that architecture."""
        default = RECIPES[arch].batch if self.device == "cuda" else BATCHES[arch]
        options = ("--conv-backend", self.backends[0]) if self.backends else ()
        setting = Setting(
            arch=arch,
            batch=self.batch or default,
            length=self.length,
            data=self.data,
            dtype=self.dtype,
            device=self.device,
            sizes=self.sizes,
            options=options,
        )
        return replace(setting, **changes)


def shape_of(setting: Setting) -> StackShape:
    """The discriminator's."""
    options = {**ARCHITECTURES[setting.arch], **setting.model_options}
    return stack_shape(ConvBertConfig(**options))


def generator_shape_of(setting: Setting) -> StackShape:
    """The generator's, as released."""
    return shape_of(setting).generator(released_generator_size(setting.arch))


def write_data(folder: PathLike, plan: Plan) -> None:
    """Binarized text as fairseq-preprocess leaves it, of examples that are all full."""
    path, size = Path(folder), plan.sizes.vocabulary
    words = [*SPECIALS, *(f"w{number}" for number in range(size - len(SPECIALS)))]
    pieces = path / "pieces" / "vocab.txt"
    pieces.parent.mkdir(parents=True)
    pieces.write_text("".join(f"{word}\n" for word in words))
    Vocabulary.load(pieces).save(path / "dict.txt")
    ranks = np.arange(1, size - len(SPECIALS) + 1, dtype=float)
    shares = ranks**-ZIPF_EXPONENT
    rng = np.random.default_rng(SEED)
    examples = dict(plan.sizes.examples)[plan.device]
    # [CLS] and [SEP] come with the example.
    text = rng.choice(len(ranks), (examples, plan.length - 2), p=shares / shares.sum())
    lines = np.pad(text + len(SPECIALS), ((0, 0), (0, 1)), constant_values=SEPARATOR)
    for split in ("train", "valid"):
        write_lines(path / split, _with_ends(lines), size)


def _with_ends(lines: np.ndarray) -> Any:
    for line in lines:
        yield line
        yield [SEPARATOR]
