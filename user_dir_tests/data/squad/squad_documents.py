"""Files of SQuAD made by hand."""

import json
from pathlib import Path


def question(name, text="who ?", *answers, **more):
    """``answers``: texts and where they begin; none and no ``is_impossible``: nothing is told."""
    told = [{"text": answer, "answer_start": start} for answer, start in answers]
    return {"id": name, "question": text, "answers": told, **more}


def document(*paragraphs):
    """``paragraphs``: a context and its questions, each."""
    held = [{"context": context, "qas": questions} for context, *questions in paragraphs]
    return {"version": "1.1", "data": [{"title": "A", "paragraphs": held}]}


def write_squad(path: Path, *paragraphs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(*paragraphs)), encoding="utf-8")
    return path


def asked_about(context, *answers):
    """A paragraph with a question for each text, which is answered where that stands first."""
    return (
        context,
        *(
            question(f"{n}", "what ?", (text, context.index(text)))
            for n, text in enumerate(answers)
        ),
    )
