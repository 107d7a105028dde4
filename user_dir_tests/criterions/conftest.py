"""A tiny float64 model with its task, and batches of chosen lengths."""

from typing import NamedTuple

import pytest
import torch
from omegaconf import OmegaConf

from convbert_plugin.data.pretraining.pretraining_dataset import (
    PretrainingDataset,
    PretrainingOptions,
)
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.tasks.replaced_token_detection import (
    ReplacedTokenDetectionTask,
    ReplacedTokenDetectionTaskConfig,
)

LENGTH = 32
WORDS = 21
# Special tokens neither first nor in fairseq's order.
ROWS = ["[PAD]", "w0", "[UNK]", "w1", "[SEP]", "[CLS]", "[MASK]", *(f"w{i}" for i in range(2, 21))]


class Bench(NamedTuple):
    """What a test of the criterion needs."""

    task: ReplacedTokenDetectionTask
    model: ConvBertModel
    criterion: torch.nn.Module

    def dataset(self, document_lengths):
        """One example a document; a document of text is a line of that many random words."""
        vocabulary, cfg = self.task.vocabulary, self.task.cfg
        words = torch.tensor([vocabulary.index(f"w{i}") for i in range(WORDS)])
        generator = torch.Generator().manual_seed(len(document_lengths))
        lines = []
        for length in document_lengths:
            line = words[torch.randint(len(words), (length,), generator=generator)]
            lines += [torch.cat([line, torch.tensor([vocabulary.eos()])])]
            lines += [torch.tensor([vocabulary.eos()])]
        return self.dataset_of(lines, cfg)

    def dataset_of(self, lines, cfg):
        sizes = torch.tensor([len(line) for line in lines]).numpy()
        options = PretrainingOptions(
            max_length=cfg.tokens_per_sample,
            mask_prob=cfg.mask_prob,
            objective=str(cfg.objective),
            mask_with_replacement=cfg.mask_with_replacement,
            full_blocks=True,
            pad_to_max_length=False,
            seed=11,
        )
        return PretrainingDataset(lines, sizes, self.task.vocabulary, options)

    def batches(self, document_lengths, parts=1):
        """The same examples in ``parts`` batches, each padded to its own longest."""
        dataset = self.dataset(document_lengths)
        size = len(dataset) // parts
        return [
            dataset.collater([dataset[index] for index in range(start, start + size)])
            for start in range(0, len(dataset), size)
        ]


@pytest.fixture
def bench(tmp_path):
    """Builds a bench; options of the task and weights of the criterion by name."""

    def build(generator_weight=1.0, discriminator_weight=50.0, **options):
        (tmp_path / "dict.txt").write_text("".join(f"{row} 1\n" for row in ROWS))
        task = ReplacedTokenDetectionTask.setup_task(
            ReplacedTokenDetectionTaskConfig(
                _name="replaced_token_detection",
                data=str(tmp_path),
                tokens_per_sample=LENGTH,
                seed=11,
                **options,
            ),
            from_checkpoint=True,
        )
        weights = {
            "generator_weight": generator_weight,
            "discriminator_weight": discriminator_weight,
        }
        criterion = task.build_criterion(
            OmegaConf.create({"_name": "replaced_token_detection", **weights})
        )
        return Bench(task, tiny_model(task), criterion)

    return build


def tiny_model(task):
    torch.manual_seed(2)
    model = task.build_model(
        OmegaConf.create(
            {
                "_name": "convbert",
                "encoder_layers": 2,
                "encoder_embed_dim": 20,
                "encoder_ffn_embed_dim": 28,
                "encoder_attention_heads": 4,
                "embedding_dim": 12,
                "conv_kernel_size": 5,
                "max_positions": 37,
                "dropout": 0.0,
                "attention_dropout": 0.0,
            }
        )
    ).double()
    # Released initial values leave every logit near 0, where wrong signs and sums hide.
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model
