"""Models of transformers beside ours: with our weights, and composed as users compose them."""

import importlib
import importlib.util
from dataclasses import replace
from typing import Any, Mapping, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbert_plugin.analysis.bench.comparing import Workload
from convbert_plugin.analysis.bench.machine import DTYPES, available_bytes
from convbert_plugin.analysis.bench.own_models import CLIP_NORM, Batch, opened
from convbert_plugin.analysis.bench.plan import SEED, Setting, generator_shape_of, shape_of
from convbert_plugin.formats.keys import transformers_names
from convbert_plugin.formats.transformers_config import (
    CONVBERT_OPTIONS,
    transformers_options,
    type_of,
)
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.parts import GENERATOR_SCOPES, KEYS, REPLACED_TOKEN_HEAD
from convbert_plugin.modules.generator import Generator
from convbert_plugin.modules.shape import StackShape

LIBRARY = "transformers"
PREFIXES = {"convbert": "ConvBert", "electra": "Electra"}
DISCRIMINATOR_WEIGHT = 50.0
NOT_MASKED = -100
RATE = 1e-5
KINDS = {False: "convbert", True: "electra"}
ABSENT = "transformers cannot be imported here: its models are left out"
# Scores, probabilities, and what dropout makes of them, by each layer.
KEPT_OF_ATTENTION = 3
MOST_OF_MEMORY = 0.5
NOT_ASKED = "left out, as it was asked for"
COMPOSITION = (
    "composed from transformers: ConvBertForMaskedLM (or ElectraForMaskedLM) of the generator's "
    "size, with logits for all tokens and its own loss at the masked ones; torch.multinomial of "
    "the softmax there; ConvBertModel with ELECTRA's head and its loss (or ElectraForPreTraining); "
    "one set of embeddings in both and in the softmax; clip_grad_norm_ and torch's fused AdamW"
)


def is_there() -> bool:
    """Whether transformers can be imported."""
    return importlib.util.find_spec(LIBRARY) is not None


def why_not(shape: StackShape) -> str:
    """Why transformers has no such encoder, empty where it has."""
    if not is_there():
        return ABSENT
    if shape.conv_type == "none":
        is_known = shape.ffn_groups == 1
    else:
        is_known = representable(shape).mixed_heads == shape.mixed_heads
    return "" if is_known else "transformers cannot represent this model: left out"


def left_out(setting: Setting, are_asked_for: bool, backward: bool = True) -> str:
    """Why its model of transformers is not measured, empty where it is."""
    shape = shape_of(setting)
    if not are_asked_for:
        return NOT_ASKED
    needed = attention_bytes(shape, setting.batch, setting.length) if backward else 0
    if shape.conv_type != "none" and needed > MOST_OF_MEMORY * available_bytes(setting.device):
        return f"its attention alone would take about {needed >> 30:,} GiB: left out"
    return why_not(shape)


def attention_bytes(shape: StackShape, batch: int, length: int) -> int:
    """What the ConvBERT of transformers keeps of its attention for the backward, in fp32."""
    number = batch * shape.mixed_heads.number * length**2
    return KEPT_OF_ATTENTION * shape.layers * number * torch.float32.itemsize


def peer_model(class_suffix: str, cfg: ConvBertConfig, vocabulary: int, **changes: Any) -> Any:
    """A model of transformers of our options, with random weights."""
    library = importlib.import_module(LIBRARY)
    values = {**{name: getattr(cfg, name) for name in CONVBERT_OPTIONS}, **changes}
    values["conv_type"] = str(cfg.conv_type)
    prefix = PREFIXES[type_of(values)]
    config = getattr(library, f"{prefix}Config")(**transformers_options(values, vocabulary, {}))
    return getattr(library, prefix + class_suffix)(config)


def fill_encoder(peer: nn.Module, model: ConvBertModel) -> None:
    """Give an encoder of transformers the weights of ours."""
    peer.load_state_dict(KEYS.from_own(_scoped(model, ENCODER_SCOPES), transformers_names("")))


ENCODER_SCOPES = {"embeddings.": "embeddings.", "encoder.": "encoder."}


def _scoped(model: nn.Module, scopes: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors whose names begin like that, with other beginnings."""
    return {
        new + name.removeprefix(scope): tensor
        for scope, new in scopes.items()
        for name, tensor in model.state_dict().items()
        if name.startswith(scope)
    }


class PeerEncoder:
    """``ConvBertModel`` or ``ElectraModel`` of transformers."""

    def __init__(self, setting: Setting):
        cfg, task, self.batch = opened(setting)
        torch.manual_seed(SEED)
        self.model = peer_model("Model", cfg.model, len(task.source_dictionary))
        self.model.to(setting.device)
        self.dtype, self.device = setting.dtype, setting.device

    def features(self) -> Tensor:
        with autocast(self.device, self.dtype):
            return self.model(
                input_ids=self.batch.tokens, token_type_ids=self.batch.segments
            ).last_hidden_state


def autocast(device: str, dtype: str) -> torch.autocast:
    return torch.autocast(device, DTYPES[dtype], enabled=dtype != "fp32")


class HeadedDiscriminator(nn.Module):
    """The head of ELECTRA over the ``ConvBertModel`` of transformers, which has none."""

    def __init__(self, encoder: nn.Module, hidden: int):
        super().__init__()
        self.encoder = encoder
        self.dense = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, tokens: Tensor, segments: Tensor, replaced: Tensor) -> Tensor:
        """The mean loss."""
        hidden = self.encoder(input_ids=tokens, token_type_ids=segments).last_hidden_state
        logits = self.output(F.gelu(self.dense(hidden))).squeeze(-1)
        return F.binary_cross_entropy_with_logits(logits.float(), replaced.float())


class ElectraDiscriminator(nn.Module):
    """``ElectraForPreTraining``, asked for its loss."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tensor, segments: Tensor, replaced: Tensor) -> Tensor:
        """The mean loss."""
        return self.encoder(input_ids=tokens, token_type_ids=segments, labels=replaced.float()).loss


class ComposedTraining(Workload):
    """What a user composes from two models of transformers; ``run`` is timed."""

    def __init__(self, setting: Setting):
        opened_setting = opened(setting)
        cfg, vocabulary = opened_setting.cfg.model, len(opened_setting.task.source_dictionary)
        batch, generator = opened_setting.batch, generator_shape_of(setting)
        torch.manual_seed(SEED)
        self.kind = KINDS[setting.is_electra]
        self.generator = peer_model(
            "ForMaskedLM",
            cfg,
            vocabulary,
            encoder_embed_dim=generator.hidden,
            encoder_ffn_embed_dim=generator.ffn_hidden,
            encoder_attention_heads=generator.heads,
        )
        self.discriminator: HeadedDiscriminator | ElectraDiscriminator
        if setting.is_electra:
            whole = peer_model("ForPreTraining", cfg, vocabulary)
            self.discriminator, embeddings = ElectraDiscriminator(whole), whole.electra.embeddings
        else:
            body = peer_model("Model", cfg, vocabulary)
            self.discriminator = HeadedDiscriminator(body, shape_of(setting).hidden)
            embeddings = body.embeddings
        getattr(self.generator, self.kind).embeddings = embeddings
        self.table = self.generator.generator_lm_head.weight = embeddings.word_embeddings.weight
        self.networks = nn.ModuleList([self.generator, self.discriminator]).to(setting.device)
        self.optimizer = torch.optim.AdamW(
            self.networks.parameters(), RATE, eps=1e-6, weight_decay=0.01, fused=True
        )
        self.dtype, self.device = setting.dtype, setting.device
        self._take(batch)

    def _take(self, batch: Batch) -> None:
        self.segments = batch.segments
        self.masked = batch.tokens
        inputs = batch.sample["net_input"]
        positions, targets = inputs["masked_positions"], batch.sample["target"]
        self.original = batch.tokens.clone()
        self.original.view(-1)[positions] = targets
        self.labels = torch.full_like(batch.tokens, NOT_MASKED)
        self.labels.view(-1)[positions] = targets
        self.is_masked = self.labels.ne(NOT_MASKED)

    def run(self) -> None:
        self.optimizer.zero_grad()
        masked_lm, replaced = self.losses()
        (masked_lm + DISCRIMINATOR_WEIGHT * replaced).backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), CLIP_NORM)
        self.optimizer.step()

    def losses(self, corrupted: Optional[Tensor] = None) -> tuple[Tensor, Tensor]:
        """Mean losses of generator and discriminator, which sees ``corrupted`` where given."""
        with autocast(self.device, self.dtype):
            guessed = self.generator(
                input_ids=self.masked, token_type_ids=self.segments, labels=self.labels
            )
            if corrupted is None:
                corrupted = self._sample(guessed.logits.detach())
            replaced = corrupted.ne(self.original)
            return guessed.loss, self.discriminator(corrupted, self.segments, replaced)

    def _sample(self, logits: Tensor) -> Tensor:
        probabilities = logits[self.is_masked].float().softmax(dim=-1)
        sampled = torch.multinomial(probabilities, 1).squeeze(1)
        return self.original.masked_scatter(self.is_masked, sampled)

    def fill(self, model: ConvBertModel) -> None:
        """Take the weights of ours."""
        generator = KEYS.from_own(_scoped(model, GENERATOR_SCOPES), transformers_names(self.kind))
        table = {"generator_lm_head.weight": model.embeddings.tokens.weight}
        self.generator.load_state_dict({**generator, **table})
        if self.kind == "electra":
            scopes = {**ENCODER_SCOPES, f"{REPLACED_TOKEN_HEAD}.": f"{REPLACED_TOKEN_HEAD}."}
            own = KEYS.from_own(_scoped(model, scopes), transformers_names(self.kind))
            self.discriminator.encoder.load_state_dict(own)
        else:
            fill_encoder(self.discriminator.encoder, model)
            head = _scoped(model, {f"{REPLACED_TOKEN_HEAD}.": ""})
            self.discriminator.load_state_dict(head, strict=False)


def representable(shape: StackShape) -> StackShape:
    """The shape that transformers makes of this one: a head has half of a width there."""
    if shape.conv_type == "none":
        return shape
    return replace(shape, heads=2 * shape.mixed_heads.number, head_ratio=2)


def narrow_generator(model: ConvBertModel) -> Generator:
    """A fresh generator that transformers can represent, for the place of the released one."""
    assert model.generator is not None
    generator = Generator(representable(model.generator.shape), len(model.vocabulary))
    return generator.to(model.embeddings.tokens.weight)
