"""convbert profile: what it prints, and what it says of wrong wishes."""

import json
import subprocess
import sys
import time

import pytest

from convbert_plugin.analysis.profiling.operations import CONV_TYPES
from convbert_plugin.analysis.profiling.recipes import RECIPES
from convbert_plugin.analysis.profiling.subjects import AUTOCAST_DTYPES, OBJECTIVES
from convbert_plugin.cli import main
from convbert_plugin.data.pretraining.masking import MASKING_RECIPES
from convbert_plugin.errors import UserError
from convbert_plugin.models import config
from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.modules.convolution import CONV_BRANCHES

pytestmark = pytest.mark.experiments


@pytest.fixture
def profiled(capsys):
    def run(*arguments: str) -> str:
        assert main(["profile", "--arch", *arguments]) == 0
        return capsys.readouterr().out

    return run


def cells_of(printed: str, title: str) -> dict[str, list[str]]:
    """The rows of the table with that title, by their headings."""
    table = next(block for block in printed.split("\n\n") if block.startswith(title))
    rows = [line.split("  ") for line in table.splitlines()[1:]]
    return {row[1]: [cell.strip() for cell in row[2:] if cell.strip()] for row in rows}


def test_columns_of_several_models(profiled):
    printed = profiled("convbert_small", "electra_small", "convbert_base:conv-type=none")
    parameters = cells_of(printed, "parameters")
    assert parameters["encoder, without head"][:2] == ["13,143,768", "13,483,008"]
    assert parameters["all"][0] == "14,019,903"
    assert parameters["encoder: span key"] == ["422,400", "–", "–"]
    assert parameters["encoder: embedding projection"] == ["33,024", "33,024", "–"]
    flops = cells_of(printed, "FLOPs, authors")
    assert flops["the whole training"][:2] == ["1.26e+18", "1.29e+18"]
    memory = cells_of(printed, "MiB for a batch")
    # Four bytes each.
    assert memory["weights"][0] == str(round(14_019_903 * 4 / 2**20)) == "53"


def test_json_of_a_model_with_changes(profiled):
    arguments = ("convbert_small", "convbert_small:head-ratio=1,conv_type=none", "--json")
    written = json.loads(profiled(*arguments, "--batch-size", "2", "--embedding-dim", "256"))
    assert written.keys() == {"conventions", "profiles"}
    first, second = written["profiles"]
    assert first["options"]["batch_size"] == second["options"]["batch_size"] == 2
    assert (first["options"]["head_ratio"], second["options"]["head_ratio"]) == (2, 1)
    assert "embedding projection" not in first["parameters"]["parts"]["encoder"]
    # All attention heads, and embeddings as wide as the model, as BERT has them.
    tables = (30522 + 512 + 2 + 2) * 256
    layer = 4 * (256 * 256 + 256) + 2 * 256 * 1024 + 1024 + 256 + 4 * 256
    assert second["parameters"]["encoder"] == tables + 12 * layer
    flops = second["flops"]["usual"]
    assert flops["training"] == flops["update"] * 1_000_000
    assert flops["update"] == pytest.approx((flops["forward"] + flops["backward"]) * 2 * 128)


def test_it_answers_at_once():
    """Without torch, whose import alone takes seconds."""
    code = (
        "import sys\n"
        "from convbert_plugin.cli import main\n"
        "main(['profile', '--arch', 'convbert_base', '--json'])\n"
        "assert not {'torch', 'fairseq'} & sys.modules.keys()\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 3
    assert json.loads(done.stdout)["profiles"][0]["parameters"]["encoder"] == 105_680_520


def test_a_change_goes_before_an_option_of_all(profiled):
    written = json.loads(
        profiled("convbert_base:conv-kernel-size=5", "--conv-kernel-size", "7", "--json")
    )
    assert written["profiles"][0]["options"]["conv_kernel_size"] == 5


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("convbert_large", "--arch 'convbert_large': choose one of convbert_small, "),
        ("convbert_base:taps=9", "there is no option 'taps': choose from encoder_layers, "),
        ("convbert_base:head-ratio=0", "head-ratio takes a whole number from 1 on"),
        ("convbert_base:head-ratio=9999999999999999", "head-ratio takes a whole number from 1 on"),
        ("convbert_base:conv-type=wide", "conv-type takes one of span_dynamic, dynamic, light"),
        ("convbert_base:generator-size=half", "generator-size takes a number, not 'half'"),
        ("convbert_base:generator-size=nan", "--generator-size nan: choose a fraction"),
        ("convbert_base:conv-kernel-size=8", "choose an odd number, such as 9"),
        ("convbert_base:ffn-groups=7", "does not divide into 7 groups: change --ffn-groups"),
        ("convbert_base:tokens-per-sample=513", "longer than the model's 512 positions: give"),
        ("convbert_base:checkpoint-activations=1", "takes true or false, not '1'"),
    ],
)
def test_mistakes_are_one_line(words, line):
    with pytest.raises(UserError) as error:
        main(["profile", "--arch", words])
    assert line in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("", "the following arguments are required: --arch"),
        ("--arch convbert_base --head-ratio many", "takes a whole number from 1 on, of at most 15"),
    ],
)
def test_wrong_arguments(arguments, line, capsys):
    with pytest.raises(SystemExit) as end:
        main(["profile", *arguments.split()])
    assert end.value.code == 2
    assert line in capsys.readouterr().err


def test_the_words_are_those_of_the_models():
    """Which the command does not import."""
    assert set(CONV_TYPES) == set(CONV_BRANCHES)
    assert set(AUTOCAST_DTYPES) == set(config.AUTOCAST_DTYPES)
    assert set(OBJECTIVES) == {*MASKING_RECIPES, "fine_tuning"}
    assert RECIPES.keys() == ARCHITECTURES.keys()
