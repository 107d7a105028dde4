"""A run that diverges says so early, keeps its last sound checkpoint, and stops if it is to."""

import os

import pytest

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

SAVING = (
    *("--save-interval-updates", "10", "--keep-interval-updates", "1"),
    *("--total-num-update", "200", "--warmup-updates", "5"),
)
LAST, BEST, SOUND = (f"checkpoint_{name}.pt" for name in ("last", "best", "sound"))


@pytest.fixture
def sound(corpus, fairseq_train, tmp_path):
    """A run of 20 updates at a good rate."""
    run = fairseq_train(corpus.data, tmp_path / "run", *SAVING, "--max-update", "20")
    assert not (run.folder / SOUND).exists()
    return run


def warnings(caplog):
    return [r.message for r in caplog.records if "the loss is" in r.message]


def test_a_rate_far_too_high_is_told_of_and_what_was_sound_stays(
    corpus, fairseq_train, sound, caplog
):
    first = sound.logs["train_inner"][0]
    assert sound.checkpoint()["extra_state"]["course"] == {
        "loss": pytest.approx(first["loss"], abs=1e-4),
        "generator_loss": pytest.approx(first["generator_loss"], abs=1e-4),
    }
    before = {name: (sound.folder / name).read_bytes() for name in (LAST, BEST)}
    run = fairseq_train(corpus.data, sound.folder, *SAVING, "--lr", "10", "--max-update", "70")
    [line] = warnings(caplog)
    held = run.folder / SOUND
    assert line.startswith("update 40: the loss is ")
    assert f" times that of the first update ({first['loss']:.4g}): " in line
    assert line.endswith(
        f": copy {held} over {LAST} and go on with a lower --lr than 10, or longer "
        "--warmup-updates (--stop-on-divergence ends such a run)"
    )
    assert held.read_bytes() == before[LAST]
    assert (run.folder / BEST).read_bytes() == before[BEST]
    # As it says.
    os.replace(held, run.folder / LAST)
    os.utime(run.folder / LAST)
    run = fairseq_train(corpus.data, run.folder, *SAVING, "--max-update", "50")
    assert warnings(caplog) == []
    assert run.logs["train_inner"][0]["num_updates"] == "21"
    assert not held.exists()


def test_it_stops_if_it_is_to(corpus, fairseq_train, tmp_path):
    arguments = ("--lr", "10", "--max-update", "70", "--stop-on-divergence")
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, tmp_path / "run", *SAVING, *arguments)
    assert ended.value.code.startswith("update 20: the loss is ")
    assert ended.value.code.endswith(
        ": begin anew with a lower --lr than 10, or longer --warmup-updates"
    )
