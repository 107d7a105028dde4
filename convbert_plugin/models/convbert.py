"""The model: an encoder for fine-tuning, plus a generator while it pretrains."""

import contextlib
import re
from argparse import Namespace
from numbers import Integral
from typing import Any, Iterable, List, Mapping, Optional, Union, cast

import torch
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from fairseq.tasks import TASK_REGISTRY, FairseqTask
from omegaconf import DictConfig
from torch import Tensor, nn

from convbert_plugin.data.collation import PRETRAINING
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.models.architectures import ARCHITECTURES, released_generator_size
from convbert_plugin.models.config import (
    AUTOCAST_DTYPES,
    ConvBertConfig,
    say_later_options,
    stack_shape,
)
from convbert_plugin.models.hub_interface import ConvBertHubInterface, load_from_folder
from convbert_plugin.models.parts import (
    CLASSIFICATION,
    GENERATOR,
    LONGEST_HEAD_NAME,
    PARTS,
    REPLACED_TOKEN_HEAD,
    Part,
    can_be_a_head,
    part_at,
)
from convbert_plugin.models.pretraining_output import PretrainingOutput
from convbert_plugin.models.state import fit_state_dict
from convbert_plugin.modules.embeddings import Embeddings
from convbert_plugin.modules.heads import CLASSIFICATION_HEADS, MaskedLMHead
from convbert_plugin.modules.layer import ConvBertLayer, ConvBertStack
from convbert_plugin.modules.mixed_attention import AttentionMaps
from convbert_plugin.modules.shape import StackShape
from convbert_plugin.modules.span_heads import SpanLogits
from convbert_plugin.ops.early_gradients import in_pieces, with_early_gradients
from convbert_plugin.ops.precision import at_least_fp32
from convbert_plugin.ops.replaced_token_loss import replaced_token_loss
from convbert_plugin.ops.sampling import replace_tokens
from convbert_plugin.ops.separators import segments_from_separators
from convbert_plugin.ops.vocabulary_loss import VocabularyLoss

# A head of base has 3 GB then.
MOST_CLASSES = 1 << 20


@register_model("convbert", dataclass=ConvBertConfig)
class ConvBertModel(BaseFairseqModel):
    """ConvBERT (Jiang et al. 2020), or ELECTRA where ``conv_type`` is ``none``.

    Built alone it is the encoder that is fine-tuned; :meth:`add_generator` makes it the pair of
    networks of replaced-token detection, a masked-LM head a BERT.
    """

    def __init__(self, cfg: ConvBertConfig, vocabulary: Vocabulary):
        super().__init__()
        say_later_options(cfg)
        self.cfg = cfg
        self.vocabulary = vocabulary
        self.shape = stack_shape(cfg)
        self.embeddings = Embeddings(
            len(vocabulary), cfg.max_positions, cfg.embedding_dim, cfg.dropout
        )
        self.encoder = ConvBertStack(self.shape)
        for part in PARTS:
            setattr(self, part.name, nn.ModuleDict() if part.is_named else None)
        # What a run begins with may be fresh; what is scored may not.
        self.takes_fresh_parts = True
        # Of weights that are to come: the shapes of their stacks, and how many positions to repeat.
        self.trained_as: Mapping[str, StackShape] = {}
        self.repeats_positions: Optional[int] = None
        self.tag_parameters()

    @classmethod
    def build_model(cls, cfg: ConvBertConfig, task: FairseqTask) -> "ConvBertModel":
        if not isinstance(task.source_dictionary, Vocabulary):
            package = __name__.partition(".")[0]
            ours = [name for name, kind in TASK_REGISTRY.items() if package in kind.__module__]
            raise UserError(
                f"--arch {cfg._name} does not go with {type(task).__name__}: give --task "
                f"{' or '.join(sorted(ours))}"
            )
        return cls(cfg, task.source_dictionary)

    @classmethod
    def from_pretrained(
        cls, folder: PathLike, checkpoint_file: Optional[str] = None
    ) -> "ConvBertHubInterface":
        """Load a model with its tokenizer and all its heads from a folder, and nothing else.

        The folder holds a checkpoint, ``dict.txt`` and the tokenizer's files. Without a name the
        checkpoint is model.pt (a converted one), else the best one of a run, else its last.

        Raises:
            ValueError: a file is missing or does not fit; the line says which and what to do.
        """
        return load_from_folder(cls, folder, checkpoint_file)

    def add_part(self, scope: str, **options: Any) -> None:
        """Add the part of a row of ``models/parts.py``, with the options that the row takes.

        Raises:
            UserError: a name that is taken or cannot be one.
        """
        kind, _, name = scope.partition(".")
        row = part_at(scope)
        if row.is_named:
            self._check_name(row, name)
        part = row.build(self, **options)
        part = part.to(self.embeddings.tokens.weight).train(self.training)
        if row.is_named:
            getattr(self, kind)[name] = part
        else:
            setattr(self, kind, part)
        self.tag_parameters()

    def add_generator(self, size: Optional[float] = None) -> None:
        """Add what replaced-token detection trains: a generator and the discriminator's head.

        ``size`` is the generator's width as a fraction of the discriminator's; None takes the
        released one.
        """
        size = released_generator_size(getattr(self.cfg, "_name", "")) if size is None else size
        self.add_part(GENERATOR, size=size)
        self.add_part(REPLACED_TOKEN_HEAD)

    def register_classification_head(
        self, name: str, num_classes: int, kind: str = "released"
    ) -> None:
        """Add a head that classifies whole texts, or with one class a head that scores them.

        ``kind``: the head of the released code, or that of transformers.

        Raises:
            UserError: a name that is taken or cannot be one, no class, an unknown kind.
        """
        if not isinstance(kind, str) or kind not in CLASSIFICATION_HEADS:
            known = ", ".join(CLASSIFICATION_HEADS)
            raise UserError(f"classification head of kind {shown(kind)}: choose one of {known}")
        self._check_name(part_at(CLASSIFICATION), name)
        is_number = isinstance(num_classes, Integral) and not isinstance(num_classes, bool)
        if not is_number or not 1 <= num_classes <= MOST_CLASSES:
            raise UserError(
                f"a classification head of {shown(num_classes)} classes: give a whole number from "
                f"1 to {MOST_CLASSES:,}"
            )
        self.add_part(f"{CLASSIFICATION}.{name}", classes=num_classes, kind=kind)

    def _check_name(self, row: Part, name: object) -> None:
        words = row.words.format(name="").strip()
        if not can_be_a_head(name):
            raise UserError(
                f"a {words} cannot be called {shown(name)}: choose a plain word of at most "
                f"{LONGEST_HEAD_NAME} letters"
            )
        if name in getattr(self, row.name):
            raise UserError(f"there is a {words} {name} already: choose another name")

    def tag_parameters(self) -> None:
        """Tell the optimizer each parameter's depth and whether it decays.

        Depth 0 are the embeddings and their projection, i + 1 layer i, and the last one all
        heads; biases and LayerNorms do not decay.
        """
        head_depth = self.shape.layers + 1
        for name, parameter in self.named_parameters():
            parameter.optim_overrides = {
                "convbert_adamw": {
                    "depth": _depth(name, head_depth),
                    "max_depth": head_depth,
                    "decay": not (name.endswith("bias") or "layer_norm" in name),
                }
            }

    def shapes(self) -> dict[str, StackShape]:
        """The shapes of the stacks of layers, by what errors call them."""
        generator = {} if self.generator is None else {GENERATOR: self.generator.shape}
        return {"encoder": self.shape, **generator}

    def max_positions(self) -> int:
        return self.cfg.max_positions

    def forward(
        self,
        src_tokens: Tensor,
        segments: Optional[Tensor] = None,
        has_pads: Optional[bool] = None,
        output: Optional[str] = None,
        **inputs: Tensor,
    ) -> Union[Tensor, SpanLogits, PretrainingOutput]:
        """What the batch names as its ``output``: all goes through here that fairseq trains.

        Shapes: src_tokens and segments [B, T] -> features [B, T, C] where nothing is named, the
        logits of the head at that scope, or, for ``PRETRAINING``, a :class:`PretrainingOutput`, of
        the ``inputs`` that :meth:`head_logits` or :meth:`pretraining_output` takes.
        """
        if output is None:
            return self.features(src_tokens, segments, has_pads, **inputs)
        if output == PRETRAINING:
            return self.pretraining_output(src_tokens, segments, has_pads, **inputs)
        return self.head_logits(output, src_tokens, segments, has_pads, **inputs)

    def features(
        self, tokens: Tensor, segments: Optional[Tensor] = None, has_pads: Optional[bool] = None
    ) -> Tensor:
        """Hidden states [B, T, C] of the last level.

        Segments that are not given follow from the separators. ``has_pads``, here and in what
        follows: whether there are pads among the tokens, None where nobody looked.
        """
        return self._encode(*self._inputs(tokens, segments, has_pads))

    def hidden_states(
        self, tokens: Tensor, segments: Optional[Tensor] = None, has_pads: Optional[bool] = None
    ) -> List[Tensor]:
        """Hidden states of every level, (layers + 1) x [B, T, C], the embeddings' first."""
        tokens, segments, padding = self._inputs(tokens, segments, has_pads)
        with self._autocast(tokens.device):
            return self.encoder.levels(self.embeddings(tokens, segments), padding)

    def attention_maps(
        self, tokens: Tensor, segments: Optional[Tensor] = None, has_pads: Optional[bool] = None
    ) -> AttentionMaps:
        """Attention [L, B, H, T, T] and kernels [L, B, H, T, K] (or None) of every layer."""
        *_, padding = self._inputs(tokens, segments, has_pads)
        states = self.hidden_states(tokens, segments, has_pads)
        layers = cast(Iterable[ConvBertLayer], self.encoder.layers)
        with self._autocast(tokens.device):
            maps = [
                layer.attention.maps(hidden, padding)
                for layer, hidden in zip(layers, states[:-1], strict=True)
            ]
        attention, kernels = zip(*maps, strict=True)
        has_kernels = kernels[0] is not None
        return AttentionMaps(torch.stack(attention), torch.stack(kernels) if has_kernels else None)

    def pretraining_output(
        self,
        tokens: Tensor,
        segments: Optional[Tensor],
        has_pads: Optional[bool],
        masked_positions: Tensor,
        masked_targets: Tensor,
        uniforms: Tensor,
    ) -> PretrainingOutput:
        """What the losses need, of both networks where there is a generator.

        Shapes: masked_positions [M] into the flattened batch, masked_targets [M] (the original
        tokens) and uniforms [M] in [0, 1) (the numbers that choose the replacements).
        """
        tokens, segments, padding = self._inputs(tokens, segments, has_pads)

        def masked_lm_loss() -> VocabularyLoss:
            head, hidden = self._masked_lm(tokens, segments, padding, masked_positions)
            return head.loss(hidden, self.embeddings.tokens.weight, masked_targets, uniforms)

        with self._autocast(tokens.device):
            if self.generator is None:
                return PretrainingOutput(*masked_lm_loss()[:2])
            # The discriminator's loss teaches the generator nothing: with its gradients at hand,
            # nothing else of it stays in memory beside the discriminator.
            parameters = [*self.embeddings.parameters(), *self.generator.parameters()]
            loss, guessed, sampled = with_early_gradients(masked_lm_loss, parameters)
        with torch.no_grad():
            original = replace_tokens(tokens, masked_positions, masked_targets)
            corrupted = replace_tokens(original, masked_positions, sampled)
            # A generator may draw the pad, which is then a replaced token like any other.
            replaced, real = corrupted.ne(original), tokens.ne(self.vocabulary.pad())

        def detect(rows: slice, embedded: Tensor) -> tuple[Tensor, Tensor]:
            logits = self._detect(embedded, None if padding is None else padding[rows])
            return replaced_token_loss(logits, replaced[rows], real[rows]), logits

        with self._autocast(tokens.device):
            embedded = self.embeddings(corrupted, segments)
            parameters = [*self.encoder.parameters(), *self.replaced_token_head.parameters()]
            detection_loss, logits = in_pieces(detect, embedded, parameters)
        found = sampled, corrupted, replaced, real, logits, detection_loss
        return PretrainingOutput(loss, guessed, *found)

    def masked_lm_log_probs(
        self,
        tokens: Tensor,
        segments: Optional[Tensor],
        positions: Tensor,
        has_pads: Optional[bool] = None,
    ) -> Tensor:
        """Log-probabilities [M, V] of the tokens at ``positions`` of the flattened batch."""
        tokens, segments, padding = self._inputs(tokens, segments, has_pads)
        with self._autocast(tokens.device):
            head, hidden = self._masked_lm(tokens, segments, padding, positions)
            logits = head(hidden, self.embeddings.tokens.weight)
        return logits.log_softmax(dim=-1, dtype=at_least_fp32(logits.dtype))

    def replaced_logits(
        self, tokens: Tensor, segments: Optional[Tensor] = None, has_pads: Optional[bool] = None
    ) -> Tensor:
        """Logits [B, T] that each token was replaced."""
        return self._replaced_logits(*self._inputs(tokens, segments, has_pads))

    def head_logits(
        self,
        scope: str,
        tokens: Tensor,
        segments: Optional[Tensor] = None,
        has_pads: Optional[bool] = None,
        **inputs: Tensor,
    ) -> Union[Tensor, SpanLogits]:
        """Logits of a fine-tuned head, in the parameters' precision and at least fp32.

        Not under autocast: scores of bfloat16 would tie. ``inputs`` are what the head takes beside
        the hidden states. Shapes: [B, classes] of a classification head, :class:`SpanLogits` of a
        question-answering head, or of its plain kind, which needs no inputs, [B, T, 2] without.
        """
        hidden = self.features(tokens, segments, has_pads)
        head = self.get_submodule(scope)
        with torch.autocast(tokens.device.type, enabled=False):
            logits = head(hidden.to(next(head.parameters())), **inputs)
        if isinstance(logits, SpanLogits):
            return logits
        return logits.to(at_least_fp32(logits.dtype))

    def load_state_dict(
        self,
        state_dict: dict[str, Tensor],
        strict: bool = True,
        model_cfg: Optional[DictConfig] = None,
        args: Optional[Namespace] = None,
    ) -> object:
        fit_state_dict(self, state_dict)
        return super().load_state_dict(state_dict, strict, model_cfg, args)

    def _masked_lm(
        self, tokens: Tensor, segments: Tensor, padding: Optional[Tensor], positions: Tensor
    ) -> tuple[MaskedLMHead, Tensor]:
        """The head that guesses tokens, and its input [M, C] at the positions."""
        if self.generator is None:
            hidden = self._encode(tokens, segments, padding).flatten(0, 1)[positions]
            return cast(MaskedLMHead, self.masked_lm_head), hidden
        embedded = self.embeddings(tokens, segments)
        return self.generator.head, self.generator(embedded, padding, positions)

    def _encode(self, tokens: Tensor, segments: Tensor, padding: Optional[Tensor]) -> Tensor:
        with self._autocast(tokens.device):
            return self.encoder(self.embeddings(tokens, segments), padding)

    def _replaced_logits(
        self, tokens: Tensor, segments: Tensor, padding: Optional[Tensor]
    ) -> Tensor:
        with self._autocast(tokens.device):
            return self._detect(self.embeddings(tokens, segments), padding)

    def _detect(self, embedded: Tensor, padding: Optional[Tensor]) -> Tensor:
        logits = self.replaced_token_head(self.encoder(embedded, padding))
        return logits.to(at_least_fp32(logits.dtype))

    def _inputs(
        self, tokens: Tensor, segments: Optional[Tensor], has_pads: Optional[bool]
    ) -> tuple[Tensor, Tensor, Optional[Tensor]]:
        pad = self.vocabulary.pad()
        if segments is None:
            segments = segments_from_separators(tokens, self.vocabulary.eos(), pad)
        # No mask is better than one that hides nothing: torch's flash kernel on GPUs takes none.
        return tokens, segments, None if has_pads is False else tokens.eq(pad)

    def _autocast(self, device: torch.device) -> contextlib.AbstractContextManager:
        dtype = AUTOCAST_DTYPES[str(self.cfg.autocast_dtype)]
        if dtype is torch.float32:
            # Not a disabled autocast, which would switch off the one that --amp opens around it.
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype)


def _depth(name: str, head_depth: int) -> int:
    if name.startswith("embeddings.") or ".embedding_projection." in f".{name}":
        return 0
    in_layer = re.match(r"(?:encoder|generator\.stack)\.layers\.(\d+)\.", name)
    return int(in_layer[1]) + 1 if in_layer else head_depth


def _register(name: str, sizes: Mapping[str, Any]) -> None:
    def fill(args: Namespace) -> None:
        for field, value in sizes.items():
            setattr(args, field, getattr(args, field, value))

    register_model_architecture("convbert", name)(fill)


for _name, _sizes in ARCHITECTURES.items():
    _register(_name, _sizes)
