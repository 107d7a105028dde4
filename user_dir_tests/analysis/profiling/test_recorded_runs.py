"""The cost of recorded runs, beside the profile that ``convbert profile`` prints of the same."""

import json

import pytest

from convbert_plugin.analysis.profiling.profiles import AUTHORS, USUAL
from convbert_plugin.analysis.profiling.recorded_runs import cost_of
from convbert_plugin.cli import main
from convbert_plugin.errors import UserError
from convbert_plugin.models.architectures import ARCHITECTURES, released_generator_size

pytestmark = pytest.mark.experiments

DETECTION, MASKED_LM = "replaced_token_detection", "masked_lm"
SIZES = {
    "encoder_layers": 3,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 4,
    "embedding_dim": 24,
    "head_ratio": 2,
    "conv_kernel_size": 5,
    "conv_type": "span_dynamic",
    "ffn_groups": 2,
    "max_positions": 40,
}


def record(arch="convbert_small", objective=DETECTION, vocabulary=500, **changes):
    """What a record says of a run: its objective, model, settings and data."""
    model = {
        "arch": arch,
        **ARCHITECTURES[arch],
        "conv_backend": "auto",
        "pads_visible": False,
        "layers": ARCHITECTURES[arch]["encoder_layers"],
        "generator_size": None if objective == MASKED_LM else released_generator_size(arch),
    }
    settings = {
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "autocast_dtype": "float32",
        "tokens_per_sample": 32,
        "mask_prob": 0.15,
        "batch_size": 6,
        "max_tokens": None,
        "update_freq": [1],
        "max_update": 7,
        "optimizer": "convbert_adamw",
        "device": "x86_64",
    }
    for name, value in changes.items():
        (model if name in model else settings)[name] = value
    return objective, model, settings, {"vocabulary_size": vocabulary}


def printed(capsys, arch, **options):
    flags = [
        text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)
    ]
    assert main(["profile", "--json", "--arch", arch, *map(str, flags)]) == 0
    return json.loads(capsys.readouterr().out)["profiles"][0]


BASELINES = [(arch, objective) for arch in ARCHITECTURES for objective in (DETECTION, MASKED_LM)]
ODD = [
    SIZES,
    {**SIZES, "conv_type": "none", "head_ratio": 1},
    {**SIZES, "conv_type": "conv", "ffn_groups": 1, "embedding_dim": 48},
    {"generator_size": 0.5, "mask_prob": 0.3},
    {"tokens_per_sample": 19, "batch_size": 1},
    {"dropout": 0.0, "attention_dropout": 0.0, "checkpoint_activations": True},
    {"autocast_dtype": "bfloat16"},
]


@pytest.mark.parametrize(
    ("arch", "objective", "options"),
    [
        *((arch, objective, {}) for arch, objective in BASELINES),
        *(("convbert_small", DETECTION, options) for options in ODD),
    ],
)
def test_a_run_costs_what_its_profile_says(capsys, arch, objective, options):
    shown = {"tokens_per_sample": 32, "batch_size": 6, "vocabulary": 500, **options}
    words = {
        name: str(value).lower() if type(value) is bool else value for name, value in shown.items()
    }
    profile = printed(capsys, arch, objective=objective, max_update=7, **words)
    cost = cost_of(*record(arch, objective, **options))
    assert cost.parameters == profile["parameters"]["all"]
    assert cost.encoder == profile["parameters"]["encoder"]
    assert cost.memory == profile["memory"]
    slots = 7 * shown["batch_size"] * shown["tokens_per_sample"]
    for convention in (USUAL, AUTHORS):
        training = profile["flops"][convention]["training"]
        assert cost.flops(slots, convention) == pytest.approx(training, rel=1e-12)


def test_the_released_recipes_cost_what_was_published():
    """Within the rounding of two digits: 1.3e18 and 1.9e19."""
    for arch, batch, published in (
        ("convbert_small", 128, 1.26e18),
        ("convbert_base", 256, 1.89e19),
    ):
        cost = cost_of(*record(arch, vocabulary=30522, tokens_per_sample=128, batch_size=batch))
        assert cost.flops(1_000_000 * 128 * batch) == pytest.approx(published, rel=0.01)


def test_more_tokens_are_guessed_where_more_are_masked():
    def guessing(mask_prob):
        cost = cost_of(*record(tokens_per_sample=128, batch_size=128, mask_prob=mask_prob))
        return cost.flops_of_slot[AUTHORS]

    # 20, 40 and 60 of 128 tokens go through the same head.
    assert guessing(0.45) - guessing(0.3) == pytest.approx(guessing(0.3) - guessing(0.15))


@pytest.mark.parametrize(
    ("limits", "examples"),
    [
        ({"batch_size": 6, "max_tokens": None}, 6),
        ({"batch_size": None, "max_tokens": 6 * 32}, 6),
        ({"batch_size": None, "max_tokens": 7 * 32 - 1}, 6),
        ({"batch_size": 9, "max_tokens": 6 * 32}, 6),
        ({"batch_size": 6, "max_tokens": 9 * 32}, 6),
        ({"batch_size": 1, "max_tokens": 9 * 32}, 1),
    ],
)
def test_the_batch_is_what_both_limits_leave(limits, examples):
    assert cost_of(*record(**limits)) == cost_of(*record(batch_size=examples))


def test_batches_of_several_workers_and_steps_are_those_of_one():
    """The places for tokens are counted, whoever computes them."""
    split = {"update_freq": [4], "distributed_world_size": 2}
    assert cost_of(*record(**split)) == cost_of(*record())


def test_on_a_gpu_other_things_are_kept(capsys):
    options = {"tokens_per_sample": 32, "batch_size": 6, "vocabulary": 500}
    for device, name in (("cpu", "aarch64"), ("cuda", "NVIDIA H100 80GB HBM3")):
        profile = printed(capsys, "convbert_small", device=device, **options)
        assert cost_of(*record(device=name)).memory == profile["memory"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "sgd"}, "not counted for the optimizer 'sgd'"),
        ({"fp16": True}, "not counted with fp16"),
        ({"store_ema": True, "bf16": True}, "not counted with bf16, store_ema"),
    ],
)
def test_where_memory_has_no_formula_the_rest_is_counted(changes, words):
    plain, cost = cost_of(*record()), cost_of(*record(**changes))
    assert (cost.memory, cost.memory_problem) == ({}, words)
    assert cost._replace(memory=plain.memory, memory_problem="") == plain


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "my_own"}, "there are no formulas for the objective 'my_own'"),
        ({"conv_type": "wide"}, "conv_type takes one of span_dynamic, dynamic, light"),
        ({"encoder_layers": None}, "the record does not say encoder_layers"),
        ({"tokens_per_sample": None}, "the record does not say tokens_per_sample"),
        ({"batch_size": None}, "the record says neither batch_size nor max_tokens"),
        ({"tokens_per_sample": 600}, "longer than the model's 512 positions"),
        ({"encoder_embed_dim": 255}, "a hidden size of 255 does not divide into 4 heads"),
        ({"autocast_dtype": "float8"}, "there are no formulas for autocast_dtype 'float8'"),
        ({"mask_prob": 1.5}, "mask_prob takes a share between 0 and 1"),
    ],
)
def test_what_has_no_formula_is_said_in_one_line(changes, words):
    with pytest.raises(UserError) as error:
        cost_of(*record(**changes))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_record_without_the_vocabulary_is_not_counted():
    *described, _ = record()
    with pytest.raises(UserError, match=r"the record does not say vocabulary$"):
        cost_of(*described, {"vocabulary": "0123abcd"})
