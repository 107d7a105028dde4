"""What is said of courses that are known: of real runs, as they were logged, and made up."""

import math

import pytest

from convbert_plugin.training.divergence import Course, Logged, low_auc

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

# The loss of the generator and discriminator_auc of each hundred updates of runs on the
# quickstart's text (2 layers of 128, 16 examples of 64 tokens, warm-up 100 updates), and the first.
FIRST = (44.1, 8.72)
GOOD = [
    *((7.1, 0.6194), (6.43, 0.5342), (6.12, 0.5487), (5.83, 0.5673), (5.57, 0.5643)),
    *((5.35, 0.5726), (5.22, 0.5822), (5.12, 0.5987)),
]
TOO_FAST = [
    *((7.01, 0.5185), (6.61, 0.5137), (6.29, 0.5156), (6.17, 0.5153), (6.04, 0.5117)),
    *((5.9, 0.5184), (5.87, 0.5157), (5.88, 0.5156)),
]
EXAMPLES, TOKENS, REPLACED = 16, 989.5, 0.138


def course_of(first=FIRST):
    course = Course()
    course.begin(dict(zip(("loss", "generator_loss"), first, strict=True)))
    return course


def told_at(course, lines):
    """The first update after which something is said, and what."""
    for logged in lines:
        course.add(logged)
        if course.words:
            return logged.update, course.words
    return None


def hundreds(scores):
    low = low_auc(EXAMPLES, TOKENS, REPLACED)
    return [
        Logged(100 * number, 100, 3 * generator, generator, auc, low)
        for number, (generator, auc) in enumerate(scores, start=1)
    ]


def test_what_is_low_of_short_texts():
    """Counted: of 32 tokens 4 are replaced and 3 special; these come last, and others tie."""
    pairs = [(1 if special else 0.5) for special in [True] * 3 + [False] * 25 for _ in range(4)]
    expected = sum(pairs) / len(pairs) + 0.02
    assert low_auc(1, 32, 4 / 32) == pytest.approx(expected, abs=1e-12)
    assert low_auc(1, 512, 0.15) == 0.53


def test_a_run_that_learns_is_left_alone():
    course = course_of()
    assert told_at(course, hundreds(GOOD)) is None
    assert course.sound_until == 800


def test_a_discriminator_that_learns_nothing_is_told_of():
    course = course_of()
    update, words = told_at(course, hundreds(TOO_FAST))
    assert update == 600
    assert words == (
        "for 600 updates the discriminator has told replaced tokens hardly better than chance "
        "(discriminator_auc 0.516), while the generator learns (generator_loss 7.01 to 5.9)"
    )
    assert course.sound_until == 0


def test_but_not_before_the_generator_learns():
    """Both know nothing yet, in a long warm-up."""
    assert (
        told_at(course_of(), hundreds([(8.6 - number / 100, 0.5) for number in range(60)])) is None
    )


def test_a_score_that_rises_with_what_the_generator_learns():
    """By a mean that ends just above, and just below, what is low: 0.548 there."""
    low = low_auc(EXAMPLES, TOKENS, REPLACED)
    losses = [7.0 - 0.3 * number for number in range(6)]
    for change, is_told in ((0.001, False), (-0.001, True)):
        scores = [low + (number - 2.5) / 100 + change for number in range(6)]
        told = told_at(course_of(), hundreds(zip(losses, scores, strict=True)))
        assert bool(told) is is_told


@pytest.mark.parametrize("length", [1, 7, 20, 50])
def test_a_loss_far_above_the_first_is_told_of(length):
    """After 20 updates at least, of which the mean counts."""
    lines = [Logged(update, length, 1000.0) for update in range(length, 200, length)]
    course = course_of((45.0,) * 2)
    update, words = told_at(course, lines)
    assert update == next(n for n in range(length, 200, length) if n >= 20)
    assert words == "the loss is 22.2 times that of the first update (45)"


def test_a_spike_is_not():
    """The worst of a real run that was none: 61 after 45 at first; and one update far above."""
    losses = [45, 35, 49, 61, 31, 28]
    lines = [Logged(20 * number, 20, loss) for number, loss in enumerate(losses, start=1)]
    assert told_at(course_of((45.0, 10.3)), lines) is None
    lines = [Logged(update, 1, 800.0 if update == 30 else 30.0) for update in range(1, 100)]
    assert told_at(course_of((45.0, 10.3)), lines) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_none(loss):
    told = (20, "the loss is not finite, of 44.1 in the first update")
    assert told_at(course_of(), [Logged(20, 20, loss)]) == told


def test_a_fine_tuning_that_begins_near_zero():
    course = course_of((0.001, 0.001))
    assert told_at(course, [Logged(20, 20, 0.7), Logged(40, 20, 2.9)]) is None
    assert told_at(course, [Logged(60, 20, 3.1)])[0] == 60


def test_what_a_checkpoint_keeps_is_gone_on_from():
    course = course_of()
    for logged in hundreds(TOO_FAST[:4]):
        course.add(logged)
    later = Course()
    later.go_on(400, course.kept())
    assert later.start == course.start
    assert later.sound_until == 0
    assert told_at(later, hundreds(TOO_FAST)[4:]) == told_at(course, hundreds(TOO_FAST)[4:])
    # Of none, or another than is written, nothing is known.
    for kept in (None, [1], {"loss": "x"}, {"loss": math.inf}, {"scores": 1}, {"scores": [[1], 2]}):
        other = Course()
        other.go_on(400, kept)
        assert (other.start, other.scores, other.sound_until) == ({}, [], 400)
