"""Validation, ``convbert predict-squad`` and an evaluator of its files say the same."""

import json

import fairseq_cli.train
import pytest

from convbert_plugin.cli import main as convbert
from user_dir_tests.end_to_end.squad_runs import SQUAD_USUAL, write_squad
from user_dir_tests.oracles.squad_evaluator import evaluate_1, evaluate_2

pytestmark = [pytest.mark.squad, pytest.mark.slow]

TOLERANCE = 1e-9
# fp32 logits of other batches.
ODDS_AGREE = 1e-5


@pytest.mark.parametrize(
    ("kind", "impossible"), [("released", 2), ("transformers", 2), ("released", 0)]
)
def test_one_checkpoint_scores_alike_everywhere(
    corpus, run_fairseq, tmp_path, capsys, kind, impossible
):
    for split, paragraphs, seed in (("train", 16, 5), ("dev", 9, 6)):
        write_squad(tmp_path / f"{split}.json", paragraphs, impossible, seed)
    data, source = tmp_path / "data", tmp_path / "dev.json"
    words = ("--tokenizer", corpus.pieces, "--workers", "1", tmp_path, data)
    assert convbert(["prepare-squad", *map(str, words)]) == 0
    options = ("--save-dir", tmp_path / "run", "--question-answering-head", kind)
    run_fairseq(fairseq_cli.train, data, *SQUAD_USUAL, *options, "--max-update", "12")
    entry = json.loads((tmp_path / "run/scores.json").read_text())["validations"][-1]
    told = json.loads((tmp_path / "run/answers_valid.json").read_text())["questions"]

    checkpoint, output = tmp_path / "run/checkpoint_last.pt", tmp_path / "out"
    for asked in (("--split", "valid", data), (source,)):
        capsys.readouterr()
        words = ("--path", checkpoint, "--batch-size", "5", *asked, output)
        assert convbert(["predict-squad", *map(str, words)]) == 0
        _, *lines = capsys.readouterr().out.splitlines()
        printed = {name: float(value) for name, value in map(str.split, lines)}
        assert len(printed) == (10 if impossible else 2)
        for name, value in printed.items():
            tolerance = ODDS_AGREE if name.endswith("_threshold") else TOLERANCE
            assert entry[name] == pytest.approx(value, abs=tolerance), name
        files = [output / f"{name}.json" for name in ("predictions", "null_odds")]
        said = (evaluate_2 if impossible else evaluate_1)(source, files[0])
        assert {name: printed[name] for name in said} == pytest.approx(said, abs=TOLERANCE)
        assert 0 < printed["f1"] < 100
        # What would be answered is told at every threshold.
        threshold = ("--null-threshold", "inf") if impossible else ()
        assert convbert(["predict-squad", *threshold, *map(str, words)]) == 0
        assert json.loads(files[0].read_text()) == {one["id"]: one["answer"] for one in told}
        if impossible:
            best = evaluate_2(source, *files)
            for name in printed.keys() - said.keys():
                assert printed[name] == pytest.approx(best[name], abs=TOLERANCE), name
