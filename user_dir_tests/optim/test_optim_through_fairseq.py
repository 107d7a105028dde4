"""Optimizer and schedule as fairseq itself builds, steps, saves and resumes them."""

import ast

import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.dataclass.initialize import hydra_init
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.optim import build_optimizer
from fairseq.optim.lr_scheduler import build_lr_scheduler
from fairseq_cli import train
from hydra import compose, initialize
from omegaconf import OmegaConf

import convbert_plugin.optim  # noqa: F401  (registers the names)

ARGUMENTS = [
    *("--task", "dummy_lm", "--arch", "transformer_lm"),
    *("--optimizer", "convbert_adamw", "--lr-scheduler", "convbert_linear"),
]


def config_of(*arguments):
    arguments = [*ARGUMENTS, *arguments]
    return convert_namespace_to_omegaconf(
        options.parse_args_and_arch(options.get_training_parser(), arguments)
    )


def build(config):
    optimizer = build_optimizer(config.optimizer, [torch.nn.Parameter(torch.ones(2, 2))])
    return optimizer, build_lr_scheduler(config.lr_scheduler, optimizer)


def test_command_line_defaults():
    optimizer, schedule = build(config_of("--lr", "2e-4", "--max-update", "77"))
    assert optimizer.optimizer_config == {
        "lr": 2e-4,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "weight_decay": 0.01,
    }
    assert not optimizer.cfg.bias_correction
    assert not optimizer.cfg.released_layer_lr_decay
    assert (schedule.total_updates, schedule.warmup) == (77, 0)
    assert optimizer.get_lr() == 2e-4


def test_command_line_flags():
    optimizer, schedule = build(
        config_of(
            *("--lr", "2e-4", "--max-update", "77", "--total-num-update", "100"),
            *("--adam-betas", "(0.8, 0.98)", "--adam-eps", "1e-7", "--weight-decay", "0.1"),
            *("--bias-correction", "--layer-lr-decay", "0.8", "--released-layer-lr-decay"),
            *("--warmup-ratio", "0.25", "--sequential-warmup"),
        )
    )
    assert optimizer.optimizer_config["betas"] == (0.8, 0.98)
    assert optimizer.optimizer_config["eps"] == 1e-7
    assert optimizer.optimizer_config["weight_decay"] == 0.1
    assert optimizer.cfg.bias_correction
    assert optimizer.cfg.released_layer_lr_decay
    assert optimizer.cfg.layer_lr_decay == 0.8
    assert (schedule.total_updates, schedule.warmup) == (100, 25)
    assert schedule.step_update(25) == 2e-4


def test_hydra():
    hydra_init()
    with initialize(version_base="1.1", config_path=None):
        config = compose(
            "config",
            overrides=[
                "+optimizer=convbert_adamw",
                "+lr_scheduler=convbert_linear",
                "optimization.lr=[0.5]",
                "optimization.max_update=8",
                "lr_scheduler.warmup_updates=2",
                "optimizer.layer_lr_decay=0.8",
            ],
        )
    optimizer, schedule = build(config)
    assert (schedule.total_updates, schedule.warmup) == (8, 2)
    assert optimizer.cfg.layer_lr_decay == 0.8
    assert schedule.step_update(4) == 0.25


@pytest.fixture
def fairseq_train(tmp_path, monkeypatch):
    def run(folder, *arguments):
        # fairseq keeps the best score of a process in the function that saves.
        checkpoint_utils.save_checkpoint.__dict__.pop("best", None)
        command = [
            *("fairseq-train", *ARGUMENTS, "--cpu", "--save-dir", str(tmp_path / folder)),
            *("--dict-size", "37", "--dataset-size", "64", "--tokens-per-sample", "9"),
            *("--batch-size", "3", "--decoder-embed-dim", "12", "--decoder-attention-heads", "3"),
            *("--decoder-ffn-embed-dim", "20", "--decoder-layers", "2", "--dropout", "0"),
            *("--lr", "1e-2", "--total-num-update", "20", "--warmup-updates", "4"),
            *("--clip-norm", "1.0", "--disable-validation", "--num-workers", "0"),
            *("--log-format", "json", "--log-interval", "1", *arguments),
        ]
        monkeypatch.setattr("sys.argv", command)
        train.cli_main()
        path = tmp_path / folder / "checkpoint_last.pt"
        return torch.load(path, map_location="cpu", weights_only=True)

    return run


@pytest.mark.survival
def test_a_resumed_training_ends_with_the_same_numbers(fairseq_train, caplog):
    caplog.set_level("INFO")
    whole = fairseq_train("whole", "--max-update", "12")
    rates = [
        float(ast.literal_eval(record.message)["lr"])
        for record in caplog.records
        if record.name == "train_inner"
    ]
    # The rate that is logged after update n is that of update n + 1.
    expected = [1e-2 * (1 - n / 20) * min(1, n / 4) for n in range(1, 13)]
    assert rates == pytest.approx(expected, rel=1e-4)

    fairseq_train("halves", "--max-update", "5")
    resumed = fairseq_train("halves", "--max-update", "12")
    assert resumed["optimizer_history"][-1]["num_updates"] == 12
    for name, values in whole["model"].items():
        assert torch.equal(values, resumed["model"][name]), name
    saved, expected = (run["last_optimizer_state"] for run in (resumed, whole))
    assert [group["lr"] for group in saved["param_groups"]] == [
        group["lr"] for group in expected["param_groups"]
    ]
    for index, state in expected["state"].items():
        assert all(torch.equal(state[key], saved["state"][index][key]) for key in state)


def test_a_mistake_ends_training_in_one_line(fairseq_train):
    with pytest.raises(SystemExit) as ended:
        fairseq_train("wrong", "--max-update", "12", "--warmup-ratio", "0.5")
    assert str(ended.value) == "convbert_linear takes --warmup-updates or --warmup-ratio, not both"


def test_parameters_of_other_optimizers_are_left_to_them():
    # fairseq's composite optimizer reads the same attribute, under the key "optimizer".
    parameters = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2)]
    for depth, parameter in enumerate(parameters):
        tag = {"depth": depth, "max_depth": 1, "decay": True}
        parameter.optim_overrides = {"convbert_adamw": tag}
    adam = {"_name": "adam", "lr": [0.25], "adam_betas": [0.9, 0.98], "tpu": False}
    schedule = {"_name": "fixed", "lr": [0.25], "force_anneal": None}
    group = {"optimizer": adam, "lr_scheduler": schedule, "lr_float": None}
    config = {"_name": "composite", "groups": {"default": group}, "dynamic_groups": True}
    optimizer = build_optimizer(OmegaConf.create(config), parameters)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    assert (
        build_optimizer(
            OmegaConf.create({"_name": "convbert_adamw", "lr": [1.0], "layer_lr_decay": 0.5}),
            parameters,
        ).param_groups[0]["lr_factor"]
        == 0.5
    )
