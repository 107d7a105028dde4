"""Put foreign words into a held-out sentence and let the discriminator find them.

python detect.py OUT reads OUT/run (the checkpoint) and OUT/text/valid.txt.
"""

import logging
import random
import sys
from pathlib import Path

from convbert_plugin import ConvBertModel

WORDS = range(14, 25)
REPLACED = 2
SEED = 4


def main(out: Path):
    logging.disable(logging.INFO)
    rng = random.Random(SEED)
    lines = [
        words
        for line in (out / "text/valid.txt").read_text(encoding="utf-8").splitlines()
        if len(words := line.split()) in WORDS and line.endswith(".")
    ]
    words = rng.choice(lines)
    strangers = rng.sample([word for line in lines for word in line if word.isalpha()], REPLACED)
    places = sorted(rng.sample(range(1, len(words) - 1), REPLACED))
    changed = words.copy()
    for place, stranger in zip(places, strangers, strict=True):
        changed[place] = stranger

    convbert = ConvBertModel.from_pretrained(out / "run", "checkpoint_last.pt")
    tokens = convbert.encode(" ".join(changed))
    probabilities = convbert.detect_replaced(tokens)[0].tolist()

    print("original:", " ".join(words))
    print("changed: ", " ".join(changed))
    print("the five tokens most likely replaced:")
    likeliest = sorted(zip(probabilities, tokens.tolist(), strict=True), reverse=True)[:5]
    foreign = {piece for word in strangers for piece in convbert.encode(word).tolist()[1:-1]}
    for probability, token in likeliest:
        mark = "<- replaced" if token in foreign else ""
        print(f"  {probability:5.1%}  {convbert.vocabulary[token]:16} {mark}".rstrip())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
