"""What a tokenizer.json may ask for: nobody vouches for the file, and a load cannot be ended."""

import base64
import contextlib
import os
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any, Iterator

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.files.text_files import read_file
from convbert_plugin.tokenization.time_bound import failure

# The largest in use, of 900,000 pieces, has about 60 MB.
MOST_BYTES = 1 << 26
MOST_SYMBOLS = 1 << 20
LONGEST_PIECE = 1000
MOST_STEPS = 100
# The longest patterns in use list the letters of all scripts.
LONGEST_LITERAL = 10_000
# By how much the steps that are free to may lengthen a text.
MOST_GROWTH = 100
# NFKC makes so many characters of one at most, and so does sentencepiece's own table.
USUAL_GROWTH = 18

PARTS = ("normalizer", "pre_tokenizer", "decoder")
CHARACTERS_MAP = "precompiled_charsmap"
# Added tokens go through the normalizer when they are loaded; a few words are done at once.
FEW_CHARACTERS = 1 << 16

# What stands in a file is loaded there first, within these bounds.
TRIAL_SECONDS = 60
TRIAL_MEMORY = 4 << 30
TRIAL = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({TRIAL_MEMORY}, {TRIAL_MEMORY}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from tokenizers import Tokenizer
Tokenizer.from_str(sys.stdin.buffer.read().decode('utf-8-sig'))
"""


def read_within_limits(path: Path) -> tuple[bytes, dict]:
    """The bytes of a tokenizer.json, and what they say. Raises UserError unless it loads safely."""
    if os.path.isfile(path) and os.path.getsize(path) > MOST_BYTES:
        raise UserError(
            f"{path}: {os.path.getsize(path):,} bytes, where a tokenizer has at most "
            f"{MOST_BYTES:,}: copy the file again"
        )
    file, content = read_file(path), read_json_object(path)
    check_pipeline(content, path)
    try_loading(file, content, path)
    return file, content


def check_pipeline(content: dict, path: Path) -> None:
    """Raise UserError for a pipeline that could run for very long or fill the memory."""
    for part in PARTS:
        steps = list(_steps(content.get(part)))
        texts = [v for step in steps for k, v in step.items() if k != CHARACTERS_MAP]
        longest = max((len(text) for text in texts if isinstance(text, str)), default=0)
        problem = None
        if len(steps) > MOST_STEPS:
            problem = f"{len(steps):,} steps, where at most {MOST_STEPS} are allowed"
        elif longest > LONGEST_LITERAL:
            problem = f"a pattern or text of more than {LONGEST_LITERAL:,} characters"
        elif prod(map(_growth, steps)) > MOST_GROWTH:
            problem = f"steps that may make a text more than {MOST_GROWTH} times as long"
        if problem:
            raise UserError(f"{path}: its {part} has {problem}: take another tokenizer")


def check_vocabulary(symbols: list[str], path: Path) -> None:
    """Raise UserError for too many pieces, or one that is too long."""
    longest = max(map(len, symbols))
    if len(symbols) > MOST_SYMBOLS or longest > LONGEST_PIECE:
        raise UserError(
            f"{path}: {len(symbols):,} pieces of up to {longest:,} characters, where at most "
            f"{MOST_SYMBOLS:,} of {LONGEST_PIECE:,} are allowed: take another tokenizer"
        )


def try_loading(file: bytes, content: dict, path: Path) -> None:
    """Load in a process of its own what may hang, fill the memory or crash while it is loaded.

    That is a regular expression, a map of characters, and many added tokens. Errors: UserError
    where that process does not come to a good end.
    """
    steps = _steps([content.get(part) for part in PARTS])
    is_foreign = any("Regex" in step or CHARACTERS_MAP in step for step in steps)
    if not is_foreign and len(str(content.get("added_tokens"))) <= FEW_CHARACTERS:
        return
    try:
        subprocess.run(
            # Nothing is imported from the current folder.
            [sys.executable, "-P", "-c", TRIAL],
            input=file,
            env={**os.environ, "RUST_BACKTRACE": "0"},
            capture_output=True,
            timeout=TRIAL_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{path}: not loaded after {TRIAL_SECONDS} seconds: take another tokenizer"
        ) from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().split("\n")
        told = [line for line in lines if line and not line.startswith("note: ")]
        raise failure(str(path), RuntimeError(told[-1] if told else error)) from None


def _steps(part: Any) -> Iterator[dict]:
    """The step that a part is, and all objects inside it: other steps, and patterns."""
    waiting = [part]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _growth(step: dict) -> float:
    """How many times as long a step makes a text at most, beyond what its kind always may."""
    replacement, pattern = step.get("content"), step.get("pattern")
    if isinstance(replacement, str):
        replaced = pattern.get("String") if isinstance(pattern, dict) else pattern
        shortest = len(replaced) if isinstance(replaced, str) else 1
        return max(1.0, len(replacement) / max(1, shortest))
    if CHARACTERS_MAP in step:
        return max(1.0, _longest_replacement(step[CHARACTERS_MAP]) / USUAL_GROWTH)
    # A character may have four bytes, and each becomes a character.
    return 4.0 if step.get("type") == "ByteLevel" or "trim_offsets" in step else 1.0


def _longest_replacement(encoded: Any) -> int:
    """In bytes; of a map that is none, nothing: it does not load."""
    with contextlib.suppress(TypeError, ValueError):
        table = base64.b64decode(encoded)
        # First the length of a tree, then the tree, then the replacements, each ended by a zero.
        texts = table[4 + int.from_bytes(table[:4], "little") :]
        return max(map(len, texts.split(b"\0")))
    return 0
