"""Put foreign words into held-out sentences and let the discriminator find them.

python detect.py OUT reads OUT/run (the checkpoint) and OUT/text/valid.txt.
"""

import logging
import random
import sys
from pathlib import Path
from typing import List

from convbert_plugin.errors import mistakes_end_the_program

SENTENCES = 200
WORDS = range(10, 25)
REPLACED = 2


def held_out_sentences(path: Path) -> List[List[str]]:
    """Sentences of the held-out documents, as lists of words, each once."""
    lines = dict.fromkeys(path.read_text(encoding="utf-8").splitlines())
    return [words for line in lines if len(words := line.split()) in WORDS and line.endswith(".")]


def suspicion(convbert, words: List[str]) -> List[float]:
    """Probability that each word was replaced: the highest of its pieces."""
    probabilities = convbert.detect_replaced(convbert.encode(" ".join(words)))[0].tolist()
    begin, highest = 1, []
    for word in words:
        end = begin + len(convbert.encode(word)) - 2
        highest.append(max(probabilities[begin:end]))
        begin = end
    return highest


def main(out: Path):
    # fairseq logs while it is imported.
    logging.disable(logging.INFO)
    from convbert_plugin import ConvBertModel

    convbert = ConvBertModel.from_pretrained(out / "run", "checkpoint_last.pt")
    rng = random.Random(1)
    sentences = held_out_sentences(out / "text/valid.txt")
    strangers = [word for words in sentences for word in words if word.isalpha()]
    found = chance = 0
    clearest = (-1.0, None, None, None)
    sentences = rng.sample(sentences, min(SENTENCES, len(sentences)))
    for words in sentences:
        places = rng.sample(range(len(words)), REPLACED)
        changed = words.copy()
        for place in places:
            changed[place] = rng.choice(strangers)
        scores = suspicion(convbert, changed)
        ranked = sorted(range(len(words)), key=scores.__getitem__, reverse=True)
        found += len(set(ranked[:REPLACED]) & set(places))
        chance += REPLACED * REPLACED / len(words)
        if scores[ranked[0]] > clearest[0] and set(ranked[:REPLACED]) == set(places):
            clearest = (scores[ranked[0]], words, changed, scores)

    total = REPLACED * len(sentences)
    print(
        f"In each of {len(sentences)} held-out sentences {REPLACED} words were replaced. The "
        f"discriminator finds {found / total:.0%} of them\namong its {REPLACED} most suspicious "
        f"words ({chance / total:.0%} would be found by chance)."
    )
    _, words, changed, scores = clearest
    if changed is not None:
        marked = (
            f"[{word} {score:.0%}]" if word != original else word
            for word, original, score in zip(changed, words, scores, strict=True)
        )
        print("The clearest case, with the probability of having been replaced:")
        print("  original:", " ".join(words))
        print("  changed: ", " ".join(marked))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python detect.py OUT")
    with mistakes_end_the_program():
        main(Path(sys.argv[1]))
