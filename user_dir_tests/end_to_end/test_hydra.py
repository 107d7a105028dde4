"""The YAML of config/, and fairseq-hydra-train."""

import subprocess
from pathlib import Path

import hydra.experimental
import pytest
import torch
from fairseq import options
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass import utils as dataclass_utils
from fairseq.dataclass.initialize import hydra_init
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.optim import OPTIMIZER_DATACLASS_REGISTRY
from fairseq.optim.lr_scheduler import LR_SCHEDULER_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import convbert_plugin
from convbert_plugin.data.glue.glue_tasks import TASKS, TRAIN
from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.models.config import ConvBertConfig

pytestmark = pytest.mark.pretraining

USER_DIR = Path(convbert_plugin.__file__).parent
CONFIG = USER_DIR / "config"
# Size -> learning rate and examples a batch, of the released configure_pretraining.py:21-123.
RELEASED = {"small": (3e-4, 128), "medium": (5e-4, 128), "base": (2e-4, 256)}
# Of configure_finetuning.py:46-172.
FINE_TUNING_RATES = {"small": 3e-4, "medium": 3e-4, "base": 1e-4}
# Training examples of the official files, times trained on, whether both orders of a pair are, and
# what chooses a checkpoint.
FINE_TUNING = {
    "cola": (8_551, 3, False, "mcc"),
    "sst-2": (67_349, 3, False, "accuracy"),
    "mrpc": (3_668, 3, True, "accuracy"),
    "sts-b": (5_749, 10, True, "pearson"),
    "qqp": (363_846, 3, False, "accuracy"),
    "mnli": (392_702, 3, False, "accuracy"),
    "qnli": (104_743, 3, False, "accuracy"),
    "rte": (2_490, 10, False, "accuracy"),
    "wnli": (635, 3, False, "accuracy"),
}


def test_there_is_one_yaml_for_each_architecture():
    assert {path.stem for path in (CONFIG / "model").iterdir()} == set(ARCHITECTURES)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_yaml_and_architecture_function_are_equal(arch):
    with initialize_config_dir(version_base="1.1", config_dir=str(CONFIG)):
        yaml = compose(f"model/{arch}").model
    assert yaml == {"_name": arch, **ARCHITECTURES[arch]}
    from_yaml = OmegaConf.merge(OmegaConf.structured(ConvBertConfig), yaml)
    assert from_yaml == model_of_command_line("--arch", arch)


def test_the_command_line_goes_before_the_architecture():
    model = model_of_command_line("--arch", "convbert_medium", "--encoder-embed-dim", "64")
    assert model.encoder_embed_dim == 64
    assert model.ffn_groups == ARCHITECTURES["convbert_medium"]["ffn_groups"]


def model_of_command_line(*arguments):
    parser = options.get_training_parser()
    command = ["data", "--task", "replaced_token_detection", *arguments]
    model = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, command)).model
    return OmegaConf.merge(OmegaConf.structured(ConvBertConfig), model)


@pytest.mark.parametrize("size", RELEASED)
def test_the_pretraining_configs_are_the_released_recipes(size):
    name = f"pretrain_convbert_{size}"
    hydra_init(name)
    with initialize_config_dir(version_base="1.1", config_dir=str(CONFIG)):
        cfg = compose(name, overrides=["task.data=somewhere"])
    assert cfg.model == {"_name": f"convbert_{size}", **ARCHITECTURES[f"convbert_{size}"]}
    assert (cfg.optimization.lr, cfg.dataset.batch_size) == ([RELEASED[size][0]], RELEASED[size][1])
    assert (cfg.optimization.max_update, cfg.lr_scheduler.warmup_updates) == (1_000_000, 10_000)
    assert (cfg.optimization.clip_norm, cfg.criterion.discriminator_weight) == (1.0, 50)
    assert (cfg.optimizer.adam_eps, cfg.optimizer.weight_decay) == (1e-6, 0.01)
    assert cfg.optimizer.adam_betas == [0.9, 0.999]
    assert (cfg.task.tokens_per_sample, cfg.task.mask_prob) == (128, 0.15)
    assert_no_key_is_misspelt(cfg)


@pytest.mark.slow
@pytest.mark.glue
@pytest.mark.parametrize("size", FINE_TUNING_RATES)
@pytest.mark.parametrize("task", FINE_TUNING)
def test_the_fine_tuning_configs_are_the_released_recipes(task, size):
    name = f"finetune_convbert_{size}"
    hydra_init(name)
    with initialize_config_dir(version_base="1.1", config_dir=str(CONFIG)):
        cfg = compose(name, overrides=["task.data=somewhere", f"glue={task}"])
    assert cfg.model == {"_name": f"convbert_{size}", **ARCHITECTURES[f"convbert_{size}"]}
    assert (cfg.optimization.lr, cfg.dataset.batch_size) == ([FINE_TUNING_RATES[size]], 32)
    examples, epochs, is_doubled, metric = FINE_TUNING[task]
    assert (cfg.task.glue_task, cfg.task.get("double_unordered", False)) == (task, is_doubled)
    # Dummy examples fill the last batch: configure_finetuning.py and preprocessing.py:60-99.
    padded = examples * (1 + is_doubled) + 31
    assert cfg.optimization.max_update == padded // 32 * epochs
    assert cfg.checkpoint.best_checkpoint_metric == metric
    assert cfg.dataset.valid_subset == ("valid,valid1" if task == "mnli" else "valid")
    assert (cfg.optimization.clip_norm, cfg.criterion.loss_reduction) == (1.0, "sum")
    assert (cfg.optimizer.adam_eps, cfg.optimizer.weight_decay) == (1e-6, 0.01)
    assert (cfg.optimizer.adam_betas, cfg.optimizer.layer_lr_decay) == ([0.9, 0.999], 0.8)
    assert (cfg.lr_scheduler.warmup_ratio, cfg.task.tokens_per_sample) == (0.1, 128)
    assert_no_key_is_misspelt(cfg)


@pytest.mark.squad
@pytest.mark.parametrize("size", FINE_TUNING_RATES)
def test_the_configs_of_squad_are_the_released_recipes(size):
    name = f"finetune_squad_convbert_{size}"
    hydra_init(name)
    with initialize_config_dir(version_base="1.1", config_dir=str(CONFIG)):
        cfg = compose(name, overrides=["task.data=somewhere"])
    assert cfg.model == {"_name": f"convbert_{size}", **ARCHITECTURES[f"convbert_{size}"]}
    assert (cfg.optimization.lr, cfg.dataset.batch_size) == ([FINE_TUNING_RATES[size]], 32)
    # Of configure_finetuning.py:72-85; the task says to how many updates two epochs come.
    assert (cfg.optimization.max_epoch, cfg.optimization.max_update) == (2, 0)
    assert cfg.task == {
        **{"_name": "squad", "data": "somewhere", "question_answering_head": "released"},
        **{"tokens_per_sample": 512, "doc_stride": 128, "max_query_length": 64},
        **{"max_answer_length": 30, "n_best_size": 20},
    }
    assert cfg.checkpoint.best_checkpoint_metric == "f1"
    assert cfg.checkpoint.maximize_best_checkpoint_metric
    assert (cfg.optimization.clip_norm, cfg.criterion.loss_reduction) == (1.0, "sum")
    assert (cfg.optimizer.adam_eps, cfg.optimizer.weight_decay) == (1e-6, 0.01)
    assert (cfg.optimizer.adam_betas, cfg.optimizer.layer_lr_decay) == ([0.9, 0.999], 0.8)
    assert cfg.lr_scheduler.warmup_ratio == 0.1
    assert_no_key_is_misspelt(cfg)


@pytest.mark.glue
def test_there_is_a_config_for_each_task_to_train_on():
    assert {path.stem for path in (CONFIG / "glue").iterdir()} == set(FINE_TUNING)
    assert {name for name, task in TASKS.items() if TRAIN in task.sources} == set(FINE_TUNING)


def assert_no_key_is_misspelt(cfg):
    registries = {
        "task": TASK_DATACLASS_REGISTRY,
        "criterion": CRITERION_DATACLASS_REGISTRY,
        "optimizer": OPTIMIZER_DATACLASS_REGISTRY,
        "lr_scheduler": LR_SCHEDULER_DATACLASS_REGISTRY,
    }
    for component, registry in registries.items():
        schema = registry[cfg[component]._name]
        OmegaConf.merge(
            OmegaConf.structured(schema), OmegaConf.masked_copy(cfg, component)[component]
        )


def test_hydra_trains_as_the_command_line_does(forked, corpus, fairseq_train, tmp_path):
    overrides = [
        f"common.user_dir={USER_DIR}",
        f"task.data={corpus.data}",
        *("common.cpu=true", "common.seed=3", "task.tokens_per_sample=24"),
        *("dataset.batch_size=8", "dataset.num_workers=0"),
        "dataset.required_batch_size_multiple=1",
        *("model.encoder_layers=2", "model.encoder_embed_dim=32", "model.encoder_ffn_embed_dim=64"),
        *("model.embedding_dim=20", "model.conv_kernel_size=3", "model.max_positions=40"),
        *("optimization.lr=[2e-3]", "optimization.max_update=4", "lr_scheduler.warmup_updates=2"),
        f"checkpoint.save_dir={tmp_path / 'hydra'}",
    ]
    names = ("--config-dir", CONFIG, "--config-name", "pretrain_convbert_small")
    command = ["fairseq-hydra-train", *names, *overrides]
    subprocess.run(command, check=True, cwd=tmp_path, env=forked, capture_output=True)
    model = torch.load(tmp_path / "hydra" / "checkpoint_last.pt", weights_only=True)["model"]

    arguments = ("--max-update", "4", "--warmup-updates", "2")
    expected = fairseq_train(corpus.data, tmp_path / "train", *arguments).checkpoint()["model"]
    assert model.keys() == expected.keys()
    for name, tensor in model.items():
        assert torch.equal(tensor, expected[name]), name
    # Relative paths are meant from where the command is run: hydra makes no folder of its own.
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["hydra", "train"]


def test_what_the_tests_compose_once_is_what_hydra_composes(usual_arguments, monkeypatch):
    for arguments in (usual_arguments, (*usual_arguments, "--lr", "1e-3,2", "--save-dir", "a b")):
        command = ["data", *map(str, arguments)]
        args = options.parse_args_and_arch(options.get_training_parser(), command)
        ours = convert_namespace_to_omegaconf(args)
        with monkeypatch.context() as patch:
            patch.setattr(dataclass_utils, "compose", hydra.experimental.compose)
            patch.setattr(dataclass_utils, "initialize", hydra.experimental.initialize)
            assert convert_namespace_to_omegaconf(args) == ours
