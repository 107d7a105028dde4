"""The loss of pretraining against its definition in numpy, float64, from the networks' logits."""

import numpy as np
import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.trainer import Trainer

from convbert_plugin.ops import early_gradients

pytestmark = pytest.mark.pretraining

LENGTH = 32
FULL = [LENGTH - 2] * 24
UNEQUAL = [3, 29, 9, 14, 30, 5, 21, 2]
# Masked tokens of a full example: the limit int(0.155 * 32) is below round(0.15 * 32).
MASKED_OF_FULL = 4
TOLERANCE = 1e-10


def masked_lm_logits_of(model, head, sample):
    """What a masked-LM head says of the masked tokens [M, V]."""
    kept = {}
    hook = head.layer_norm.register_forward_hook(lambda *args: kept.update(transformed=args[-1]))
    with torch.no_grad():
        model(**sample["net_input"])
        hook.remove()
        return (kept["transformed"] @ model.embeddings.tokens.weight.T + head.bias).numpy()


def logits_of(model, sample):
    """What generator and discriminator say."""
    kept = {}
    hook = model.replaced_token_head.register_forward_hook(
        lambda *args: kept.update(discriminator=args[-1])
    )
    generator = masked_lm_logits_of(model, model.generator.head, sample)
    hook.remove()
    return generator, kept["discriminator"].numpy()


def probabilities(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def corrupt(sample, generator_logits):
    """Labels [B, T] and samples [M], token by token: the whole-number mean of what is drawn."""
    inputs, targets = sample["net_input"], sample["target"].numpy()
    flat = inputs["src_tokens"].numpy().flatten()
    positions, uniforms = inputs["masked_positions"].numpy(), inputs["uniforms"].numpy()
    samples, drawn, original = [], {}, {}
    for row, distribution in enumerate(probabilities(generator_logits)):
        below = np.cumsum(distribution)
        samples.append(int((below <= float(uniforms[row]) * below[-1]).sum()))
        drawn.setdefault(int(positions[row]), []).append(samples[-1])
        original[int(positions[row])] = int(targets[row])
    labels = np.zeros(flat.size, dtype=bool)
    for position, tokens in drawn.items():
        labels[position] = sum(tokens) // len(tokens) != original[position]
    return labels.reshape(inputs["src_tokens"].shape), np.array(samples)


def cross_entropies(logits, targets):
    return -np.log(probabilities(logits)[np.arange(len(targets)), targets])


def binary_cross_entropies(logits, labels):
    chance = 1 / (1 + np.exp(-logits))
    return -np.where(labels, np.log(chance), np.log(1 - chance))


def relative(value, expected):
    return abs(value.item() - float(expected)) / abs(float(expected))


def gradient(model):
    return torch.cat(
        [
            torch.zeros(p.numel()).double() if p.grad is None else p.grad.flatten()
            for p in model.parameters()
        ]
    )


def accumulated_gradient(bench, batches):
    """What fairseq's trainer makes: gradients added up, divided once by the sample sizes."""
    bench.model.zero_grad()
    sample_size = 0
    for batch in batches:
        loss, size, _ = bench.criterion(bench.model, batch)
        loss.backward()
        sample_size += size
    return gradient(bench.model) / sample_size


def assert_same_gradient(gradient, expected):
    assert (gradient - expected).norm() <= TOLERANCE * expected.norm()
    assert (gradient - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("objective", ["replaced_token_detection", "masked_lm"])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_any_split_of_a_batch_gives_the_same_gradient(bench, parts, objective):
    bench = bench(objective=objective)
    whole = accumulated_gradient(bench, bench.batches(UNEQUAL))
    batches = bench.batches(UNEQUAL, parts)
    assert len({batch["net_input"]["src_tokens"].size(1) for batch in batches}) > 1
    assert_same_gradient(accumulated_gradient(bench, batches), whole)


def test_a_discriminator_that_reads_a_batch_in_pieces_learns_the_same(bench, monkeypatch):
    bench = bench()
    (batch,) = bench.batches(UNEQUAL)
    expected = accumulated_gradient(bench, [batch])
    expected_log = bench.criterion(bench.model, batch)[2]
    sizes = []
    bench.model.replaced_token_head.register_forward_hook(lambda *args: sizes.append(len(args[-1])))
    monkeypatch.setitem(early_gradients.POSITIONS_AT_ONCE, "cpu", 3 * LENGTH)
    assert_same_gradient(accumulated_gradient(bench, [batch]), expected)
    assert sizes == [2, 3, 3]
    log = bench.criterion(bench.model, batch)[2]
    assert log.keys() == expected_log.keys()
    for name, value in log.items():
        oracle = torch.as_tensor(expected_log[name])
        torch.testing.assert_close(torch.as_tensor(value), oracle, rtol=TOLERANCE, atol=0)


@pytest.fixture
def trainer():
    arguments = [
        *("--task", "dummy_lm", "--arch", "transformer_lm", "--optimizer", "convbert_adamw"),
        *("--lr", "1e-3", "--clip-norm", "0", "--cpu", "--batch-size", "8", "--max-update", "9"),
    ]
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
    metrics.reset()
    yield lambda bench: Trainer(cfg, bench.task, bench.model, bench.criterion)
    metrics.reset()


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_fairseqs_trainer_makes_that_gradient_of_any_update_frequency(bench, trainer, parts):
    bench = bench()
    expected = accumulated_gradient(bench, bench.batches(UNEQUAL))
    trainer(bench).train_step(bench.batches(UNEQUAL, parts))
    assert_same_gradient(gradient(bench.model), expected)


@pytest.mark.parametrize("mask_with_replacement", [False, True])
def test_at_full_length_it_is_the_released_loss(bench, mask_with_replacement):
    bench = bench(mask_with_replacement=mask_with_replacement)
    (sample,) = bench.batches(FULL)
    positions = sample["net_input"]["masked_positions"]
    assert len(positions) == len(FULL) * MASKED_OF_FULL
    assert (len(positions.unique()) < len(positions)) == mask_with_replacement
    loss, sample_size, log = bench.criterion(bench.model, sample)

    generator, discriminator = logits_of(bench.model, sample)
    labels, _ = corrupt(sample, generator)
    masked_lm = cross_entropies(generator, sample["target"].numpy())
    detection = binary_cross_entropies(discriminator, labels)
    assert 0 < labels.sum() < len(positions)
    assert relative(loss / sample_size, masked_lm.mean() + 50 * detection.mean()) <= TOLERANCE
    assert relative(log["generator_loss"] / sample_size, masked_lm.mean()) <= TOLERANCE
    assert relative(log["discriminator_loss"] / log["ntokens"], detection.mean()) <= TOLERANCE


def test_the_weights_are_of_the_two_means(bench):
    bench = bench(generator_weight=0.25, discriminator_weight=3.0)
    (sample,) = bench.batches(FULL)
    loss, sample_size, log = bench.criterion(bench.model, sample)
    means = log["generator_loss"] / sample_size, log["discriminator_loss"] / (len(FULL) * LENGTH)
    assert relative(loss / sample_size, 0.25 * means[0] + 3 * means[1]) <= TOLERANCE


@pytest.mark.parametrize(("length", "masked"), [(128, 19), (512, 77)])
def test_masked_tokens_of_a_full_example_of_the_released_lengths(bench, length, masked):
    task = bench().task
    task.cfg.tokens_per_sample = length
    assert task.masked_tokens_per_token == masked / length


def test_the_discriminators_loss_counts_every_token_but_pads(bench):
    """Its gradient by each logit: weight · (probability − label), and 0 for a pad."""
    bench = bench(generator_weight=0.0)
    (sample,) = bench.batches(UNEQUAL)
    kept = []
    bench.model.replaced_token_head.register_forward_hook(lambda *args: kept.append(args[-1]))
    loss, _, log = bench.criterion(bench.model, sample)
    (gradient,) = torch.autograd.grad(loss, kept)

    generator, discriminator = logits_of(bench.model, sample)
    labels, _ = corrupt(sample, generator)
    tokens = sample["net_input"]["src_tokens"].numpy()
    real = tokens != bench.task.vocabulary.pad()
    assert real.sum() == sum(UNEQUAL) + 2 * len(UNEQUAL) < real.size
    expected = 50 * MASKED_OF_FULL / LENGTH * (1 / (1 + np.exp(-discriminator)) - labels) * real
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=TOLERANCE, atol=0)
    vocabulary = bench.task.vocabulary
    for special in (vocabulary.bos(), vocabulary.eos()):
        assert not labels[tokens == special].any()
        assert (gradient.numpy()[tokens == special] > 0).all()
    assert log["ntokens"] == real.sum()


def uniforms_that_draw(generator_logits, tokens):
    """The middle of each token's stretch of the distribution function."""
    chances = probabilities(generator_logits)
    rows = np.arange(len(tokens))
    ends = chances.cumsum(-1)[rows, tokens]
    return torch.from_numpy(ends - chances[rows, tokens] / 2)


def test_a_token_sampled_right_counts_as_original(bench):
    bench = bench()
    (sample,) = bench.batches(UNEQUAL)
    generator, _ = logits_of(bench.model, sample)
    targets = sample["target"].numpy()
    wrong = np.arange(len(targets)) % 3 == 0
    other = (targets + 1) % len(bench.task.vocabulary)
    drawn = np.where(wrong, other, targets)
    sample["net_input"]["uniforms"] = uniforms_that_draw(generator, drawn)
    _, _, log = bench.criterion(bench.model, sample)

    _, discriminator = logits_of(bench.model, sample)
    labels = np.zeros(discriminator.size, dtype=bool)
    labels[sample["net_input"]["masked_positions"].numpy()[wrong]] = True
    labels = labels.reshape(discriminator.shape)
    real = sample["net_input"]["src_tokens"].numpy() != bench.task.vocabulary.pad()
    losses = binary_cross_entropies(discriminator, labels)[real]
    assert log["replaced"] == wrong.sum()
    assert log["sampled_correct"] == (~wrong).sum()
    assert relative(log["discriminator_loss"], losses.sum()) <= TOLERANCE


def test_the_discriminators_loss_teaches_the_generator_nothing(bench):
    bench = bench(generator_weight=0.0)
    (sample,) = bench.batches(UNEQUAL)
    loss, _, _ = bench.criterion(bench.model, sample)
    loss.backward()
    for name, parameter in bench.model.generator.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name
    for name, parameter in bench.model.embeddings.named_parameters():
        assert parameter.grad.any(), name


def test_the_generators_loss_teaches_the_discriminator_nothing(bench):
    bench = bench(discriminator_weight=0.0)
    (sample,) = bench.batches(UNEQUAL)
    loss, _, _ = bench.criterion(bench.model, sample)
    loss.backward()
    for network in (bench.model.encoder, bench.model.replaced_token_head):
        for name, parameter in network.named_parameters():
            assert parameter.grad is None or not parameter.grad.any(), name
    for name, parameter in bench.model.embeddings.named_parameters():
        assert parameter.grad.any(), name


def batch_without_candidates(bench):
    vocabulary = bench.task.vocabulary
    lines = [torch.tensor([vocabulary.mask()] * 5 + [vocabulary.eos()])]
    dataset = bench.dataset_of(lines, bench.task.cfg)
    return dataset.collater([dataset[0]])


@pytest.mark.parametrize("objective", ["replaced_token_detection", "masked_lm"])
def test_a_batch_in_which_nothing_can_be_masked(bench, trainer, objective):
    bench = bench(objective=objective)
    sample = batch_without_candidates(bench)
    loss, sample_size, log = bench.criterion(bench.model, sample)
    assert sample_size == 0
    assert torch.isfinite(loss)
    if objective == "replaced_token_detection":
        _, discriminator = logits_of(bench.model, sample)
        expected = binary_cross_entropies(discriminator, False).sum()
        assert relative(log["discriminator_loss"], expected) <= TOLERANCE
    trainer(bench).train_step([sample])
    assert torch.isfinite(gradient(bench.model)).all()
    assert all(torch.isfinite(parameter).all() for parameter in bench.model.parameters())


@pytest.mark.parametrize("lengths", [FULL, UNEQUAL])
def test_masked_language_modelling_is_the_mean_cross_entropy(bench, lengths):
    bench = bench(objective="masked_lm")
    assert bench.model.generator is None
    assert bench.model.replaced_token_head is None
    assert not any(name.startswith("generator") for name in bench.model.state_dict())
    (sample,) = bench.batches(lengths)
    loss, sample_size, log = bench.criterion(bench.model, sample)
    logits = masked_lm_logits_of(bench.model, bench.model.masked_lm_head, sample)
    targets = sample["target"].numpy()
    assert relative(loss / sample_size, cross_entropies(logits, targets).mean()) <= TOLERANCE
    assert log["masked_lm_correct"] == (logits.argmax(-1) == targets).sum()
    assert "discriminator_loss" not in log
