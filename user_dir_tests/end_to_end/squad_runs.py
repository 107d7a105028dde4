"""Small files of SQuAD over the words of the tiny corpus, and a run on them."""

import json
import random

from user_dir_tests.end_to_end.conftest import ADJECTIVES, NOUNS, TINY, USER_DIR, sentence

SQUAD_TASK = ("--user-dir", USER_DIR, "--task", "squad")
SQUAD_RECIPE = (
    *("--criterion", "squad", "--optimizer", "convbert_adamw", "--lr-scheduler", "convbert_linear"),
    *("--lr", "4e-3", "--clip-norm", "1.0", "--layer-lr-decay", "0.8", "--batch-size", "8"),
    # Room for 15 tokens of a context beside a question of two.
    *("--tokens-per-sample", "20", "--doc-stride", "6", "--max-answer-length", "4"),
    *("--cpu", "--num-workers", "0", "--seed", "3"),
    *("--log-format", "json", "--log-interval", "1", "--no-epoch-checkpoints"),
)
SQUAD_USUAL = (*SQUAD_TASK, *TINY, *SQUAD_RECIPE)


def answer_to(context, text):
    return {"text": text, "answer_start": context.index(text)}


def write_document(path, paragraphs, version):
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"title": "Animals", "paragraphs": paragraphs}
    path.write_text(json.dumps({"version": version, "data": [document]}))
    return path


def write_easy(path, seed=5):
    """Eight questions of different words: "the cat" asks for the word before the first cat."""
    rng = random.Random(seed)
    held = {}
    while len(held) < len(NOUNS):
        context = f"{sentence(rng)} {sentence(rng)}"
        _, adjective, noun, *_ = context.split()
        question = {
            "id": noun,
            "question": f"the {noun}",
            "answers": [answer_to(context, adjective)],
        }
        held[noun] = {"context": context, "qas": [question]}
    return write_document(path, [*held.values()], "1.1")


def write_squad(path, paragraphs, impossible=0, seed=5):
    """Questions on paragraphs of one to five sentences; ``impossible``: of how many each third is.

    "the cat" asks for what the cat is or does, as far as the context tells.
    """
    rng = random.Random(seed)
    held = []
    for number in range(paragraphs):
        context = " ".join(sentence(rng) for _ in range(rng.randint(1, 5)))
        told = [noun for noun in NOUNS if f" {noun} " in context]
        questions = []
        for noun in told[:2]:
            adjective = ADJECTIVES[NOUNS.index(noun) % 5]
            begin = context.index(f"{adjective} {noun} ")
            # The subject's adjective, then the verb after the noun.
            verb = context[begin + len(f"{adjective} {noun} ") :].split()[0]
            gold = [answer_to(context, adjective), answer_to(context, f"{noun} {verb}")]
            questions.append({"question": f"the {noun}", "answers": gold[len(questions) :]})
        for entry in questions:
            entry["id"] = f"{seed}-{number}-{entry['question'].split()[1]}"
        if impossible and number % impossible == 0:
            absent = next(noun for noun in NOUNS if noun not in context)
            entry = {"question": f"the {absent}", "id": f"{seed}-{number}-{absent}", "answers": []}
            questions.append({**entry, "is_impossible": True})
        if impossible:
            questions = [{"is_impossible": False, **entry} for entry in questions]
        held.append({"context": context, "qas": questions})
    return write_document(path, held, "v2.0" if impossible else "1.1")
