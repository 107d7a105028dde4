"""The real command at toy size, what it writes, and how it refuses."""

import json
import time

import pytest

from convbert_plugin.analysis.bench import peak_memory
from convbert_plugin.analysis.bench.plan import Setting
from convbert_plugin.analysis.bench.train_part import TrainerRun
from convbert_plugin.cli import main
from convbert_plugin.errors import UserError
from user_dir_tests.analysis.bench.hungry import MEBIBYTES, find_hungry

pytestmark = pytest.mark.speed

VARIANTS = {
    "op": {
        "unfold, as transformers",
        "fairseq's DynamicConv1dTBC, unfolded",
        "fairseq's DynamicConv1dTBC, expanded",
        "here, eager",
        "copying as much",
    },
    "train": {"the bare step", "fairseq-train"},
}
OF_MACHINE = {"processor", "device", "threads", "libraries", "gemm", "copy", "data_sheet"}


@pytest.mark.slow
def test_the_command_at_toy_size(tmp_path, capsys):
    files = {name: tmp_path / f"bench.{name}" for name in ("json", "png")}
    options = ["--json", str(files["json"]), "--picture", str(files["png"])]
    assert main(["bench", "--quick", "--no-memory", "--parts", "op,train", *options]) == 0
    told = capsys.readouterr().out
    written = json.loads(files["json"].read_text())
    assert written.keys() == {"machine", "wishes", "formulas", "comparisons"}
    assert written["machine"].keys() == OF_MACHINE
    assert [each["part"] for each in written["comparisons"]] == ["op", "op", "train"]
    for comparison in written["comparisons"]:
        variants = {each["name"]: each for each in comparison["variants"]}
        assert variants.keys() >= VARIANTS[comparison["part"]]
        assert variants[comparison["baseline"]]["speedup"]["median"] == 1
        for name, each in variants.items():
            assert each["failure"] == ""
            assert each["rounds"] == len(each["every_round"]) == 2
            middle = sum(each["every_round"]) / 2
            assert each["seconds"]["median"] == pytest.approx(middle)
            assert each["tokens_per_second"] == pytest.approx(each["work"]["tokens"] / middle)
            assert name in told
    assert written["machine"]["processor"] in told
    assert all(name in told for name in written["formulas"] if name != "composed")
    assert files["png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--parts op,soup", "soup: choose from op, encoder, step, train, length"),
        ("--archs large", "large: choose from small, medium, base"),
        ("--picture bench.gif", "bench.gif: its name ends in .png or .svg"),
        ("--budget 3 --repeats 3", "not allowed with argument"),
        ("--device tpu", "invalid choice"),
    ],
)
def test_wrong_arguments(arguments, line, capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", *arguments.split()])
    assert end.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--device cuda", "--device cuda: there is no GPU here: use cpu"),
        ("--cuda-graphs", "--cuda-graphs: they are for a GPU"),
        ("--backends soup", "--backends soup: choose from "),
    ],
)
def test_mistakes_are_one_line(arguments, line, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=line) as error:
        main(["bench", "--quick", *arguments.split(" ")])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_memory_is_that_of_one_variant_alone(monkeypatch):
    # What they share in earnest takes seconds to import.
    monkeypatch.setattr(peak_memory, "IMPORTED", [])
    found = {name: peak_memory.peak_bytes(find_hungry, name) for name in MEBIBYTES}
    for name, expected in MEBIBYTES.items():
        assert found[name] == pytest.approx(expected << 20, abs=16 << 20)
    assert peak_memory.peak_bytes(find_hungry, "killed") is None


def run_to_the_end(run):
    while True:
        run.run()


def test_the_trainer_stands_still_between_its_stretches(tmp_path, monkeypatch):
    python, count = tmp_path / "python", tmp_path / "count"
    python.write_text(
        "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do sleep 0.1; "
        f'echo $i > {count}; echo "x | train_inner | $i"; done; echo the end\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    run = TrainerRun(Setting("convbert_small", 1, 8, str(tmp_path)), updates=1)
    try:
        run.run()
        before = count.read_text()
        time.sleep(0.5)
        assert count.read_text() == before
        run.run()
        assert int(count.read_text()) == int(before) + 1
        with pytest.raises(RuntimeError) as error:
            run_to_the_end(run)
        assert str(error.value) == "fairseq-train ended: the end"
    finally:
        run.close()
    assert run.process.returncode == 0


def test_a_trainer_that_is_closed_has_ended(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho '| train_inner |'; sleep 60\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    run = TrainerRun(Setting("convbert_small", 1, 8, str(tmp_path)), updates=1)
    run.run()
    run.close()
    assert run.process.returncode < 0
