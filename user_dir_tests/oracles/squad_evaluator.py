"""An evaluator of SQuAD by its published rules, which reads files as the official ones do."""

import collections
import json
import re
import string


def words(text):
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def exact_match(prediction, gold):
    return float(words(prediction) == words(gold))


def f1(prediction, gold, version):
    ours, theirs = words(prediction), words(gold)
    if version == 2 and not (ours and theirs):
        return float(ours == theirs)
    shared = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def questions_of(path):
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    return [question for paragraph in paragraphs for question in paragraph["qas"]]


def mean(values):
    values = list(values)
    return 100.0 * sum(values) / len(values)


def evaluate_1(data, predictions):
    """What evaluate-v1.1.py says of a file of predictions."""
    said = json.loads(predictions.read_text(encoding="utf-8"))
    rows = [
        (said[question["id"]], [answer["text"] for answer in question["answers"]])
        for question in questions_of(data)
    ]
    return {
        "exact_match": mean(max(exact_match(text, one) for one in gold) for text, gold in rows),
        "f1": mean(max(f1(text, one, version=1) for one in gold) for text, gold in rows),
    }


def evaluate_2(data, predictions, null_odds=None, threshold=1.0):
    """What evaluate-v2.0.py says of a file of predictions, and of one of null odds."""
    said = json.loads(predictions.read_text(encoding="utf-8"))
    odds = dict.fromkeys(said, 0.0) if null_odds is None else json.loads(null_odds.read_text())
    raw, final, has_answer = {}, {}, {}
    for question in questions_of(data):
        name = question["id"]
        gold = [answer["text"] for answer in question["answers"] if words(answer["text"])] or [""]
        has_answer[name] = bool(question["answers"])
        raw[name] = (
            max(exact_match(said[name], one) for one in gold),
            max(f1(said[name], one, version=2) for one in gold),
        )
        is_blank = odds[name] > threshold
        final[name] = (float(not has_answer[name]),) * 2 if is_blank else raw[name]
    scores = {}
    for place, measure in enumerate(("exact_match", "f1")):
        scores[measure] = mean(values[place] for values in final.values())
        for group, wanted in (("has", True), ("no", False)):
            members = [name for name in final if has_answer[name] is wanted]
            scores[f"{group}_answer_{measure}"] = mean(final[name][place] for name in members)
        if null_odds is not None:
            total = best = sum(not answered for answered in has_answer.values())
            best_threshold = 0.0
            for name in sorted(odds, key=odds.get):
                total += raw[name][place] if has_answer[name] else -bool(said[name])
                if total > best:
                    best, best_threshold = total, odds[name]
            scores[f"best_{measure}"] = 100.0 * best / len(raw)
            scores[f"best_{measure}_threshold"] = best_threshold
    return scores
