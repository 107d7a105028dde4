"""What ``import convbert_plugin`` brings, and what fairseq knows afterwards."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import convbert_plugin

CHECKOUT = Path(convbert_plugin.__file__).resolve().parents[1]
IS_REGISTERED = """
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY
from fairseq.tasks import TASK_REGISTRY
for names, registry in (
    (["replaced_token_detection", "glue"], TASK_REGISTRY),
    (["replaced_token_detection", "glue"], CRITERION_REGISTRY),
    (["convbert_small", "electra_base"], ARCH_MODEL_REGISTRY),
    (["convbert_adamw"], OPTIMIZER_REGISTRY),
    (["convbert_linear"], LR_SCHEDULER_REGISTRY),
):
    assert set(names) <= registry.keys(), names
"""


def python(code: str, cwd: Path = CHECKOUT, given: str = "") -> str:
    """What a fresh Python prints, which finds the folder and then the package in this checkout."""
    paths = f"import sys; sys.path[:0] = [{str(cwd)!r}, {str(CHECKOUT)!r}]\n"
    command = [sys.executable, "-c", paths + code]
    done = subprocess.run(command, cwd=cwd, input=given, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_alone_it_is_light():
    code = "import convbert_plugin, sys; print({'torch', 'fairseq', 'numpy'} & set(sys.modules))"
    assert python(code) == "set()\n"


IMPORTS = [
    "import convbert_plugin; import fairseq",
    "import fairseq; import convbert_plugin",
    # Its own module imports fairseq, when half of it is there.
    "from convbert_plugin.models.config import ConvBertConfig",
    "from convbert_plugin import ConvBertModel",
    # With --user-dir, fairseq leaves alone what has been imported.
    "import argparse, convbert_plugin\n"
    "from fairseq.utils import import_user_module\n"
    "import_user_module(argparse.Namespace(user_dir=convbert_plugin.__path__[0]))",
]
ONCE = """
import sys, convbert_plugin.models.convbert as module, convbert_plugin as door
assert door.ConvBertModel is module.ConvBertModel
assert door._Registering not in sys.meta_path
"""
# Each in a fork of a process that has imported what takes longest, and neither package.
FORKS = """
import hydra, json, omegaconf, os, scipy.stats, sklearn.metrics, sys, torch, traceback
import torch._dynamo, torch.utils.tensorboard
assert not {"fairseq", "convbert_plugin"} & set(sys.modules)
failed = 0
for code in json.loads(sys.stdin.read()):
    process = os.fork()
    if not process:
        try:
            exec(code, {"__name__": "__main__"})
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    failed += os.waitpid(process, 0)[1] != 0
sys.exit(failed)
"""


def test_with_fairseq_all_is_registered_once():
    codes = [f"{imports}\n{IS_REGISTERED}\n{ONCE}" for imports in IMPORTS]
    python(FORKS, given=json.dumps(codes))


@pytest.mark.parametrize("name", ["convbert", "convbert.py"])
def test_a_script_of_any_name_imports_the_model(tmp_path, name):
    (tmp_path / name).write_text(
        "from convbert_plugin import ConvBertModel\nprint(ConvBertModel.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, name],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "ConvBertModel\n", done.stderr[-500:]


def test_fairseq_may_be_only_half_imported(tmp_path):
    (tmp_path / "fairseq.py").write_text("import convbert_plugin\nis_done = True\n")
    python("import fairseq, convbert_plugin; assert fairseq.is_done", cwd=tmp_path)


def test_names_are_those_of_the_package():
    assert "ConvBertModel" in dir(convbert_plugin)
    with pytest.raises(AttributeError, match="has no attribute 'ConvBertMode'"):
        _ = convbert_plugin.ConvBertMode
