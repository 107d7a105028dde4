"""What is wrong with a file or a folder: functions that make it at ``path``."""

import io
import json
import os
import shutil
import tarfile
import zipfile

from user_dir_tests.end_to_end.bad_inputs import WRONG_ARGUMENTS, Case

SENTENCE = "the small cat sees a dog.\n"


def holds(content):
    """A file of this text, or of these bytes."""
    data = content.encode() if isinstance(content, str) else content

    def spoil(path, world):
        path.write_bytes(data)

    return spoil


def folder_of(**files):
    """A folder of these files; two underscores stand for the dot in a name."""

    def spoil(path, world):
        path.mkdir()
        for name, content in files.items():
            holds(content)(path / name.replace("__", "."), world)

    return spoil


def copy_of(name, edit):
    """A copy of a folder of the world, changed."""

    def spoil(path, world):
        shutil.copytree(world[name], path)
        edit(path)

    return spoil


def vocabulary(edit):
    def spoil(path, world):
        path.write_text("\n".join(edit(world["vocab"].read_text().splitlines())) + "\n")

    return spoil


def archive(kind):
    def spoil(path, world):
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("text.txt", SENTENCE)
        else:
            with tarfile.open(path, "w") as file:
                entry = tarfile.TarInfo("text.txt")
                entry.size = len(SENTENCE)
                file.addfile(entry, io.BytesIO(SENTENCE.encode()))

    return spoil


def squad(entry=None, context="the small cat sees a dog.", **changes):
    """A file of one question, changed."""
    question = {
        "id": "1",
        "question": "the cat",
        "answers": [{"text": "small", "answer_start": 4}],
        **changes,
    }
    paragraph = {"context": context, "qas": [question] if entry is None else entry}
    return holds(
        json.dumps({"version": "1.1", "data": [{"title": "a", "paragraphs": [paragraph]}]})
    )


def nested(depth):
    return "[" * depth + "]" * depth


def edit_json(name, change):
    def edit(folder):
        path = folder / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def arguments(command, rows):
    """Cases of wrong arguments."""
    return [
        Case(command, wrong, words, told, status=WRONG_ARGUMENTS) for wrong, words, told in rows
    ]


def cases(command, usual, rows):
    """Cases that differ in what is wrong; ``usual``: their words, unless they have their own."""
    return [
        Case(command, wrong, row[1] if len(row) > 1 else usual, told, row[0])
        for wrong, told, *row in rows
    ]


def closed_folder(path, world):
    """A folder in which nobody may write."""
    path.mkdir()
    path.chmod(0o555)


def unreadable(name):
    """A copy of a file or folder of the world that nobody may read."""

    def spoil(path, world):
        copy = shutil.copytree if world[name].is_dir() else shutil.copy
        copy(world[name], path)
        path.chmod(0)

    return spoil


def read_only(name):
    """A copy of a folder of the world in which nobody may write anything."""

    def spoil(path, world):
        shutil.copytree(world[name], path)
        for place, _, files in os.walk(path, topdown=False):
            for file in files:
                os.chmod(os.path.join(place, file), 0o444)
            os.chmod(place, 0o555)

    return spoil


def none(path, world):
    """Nothing is made: the words alone are wrong."""
