"""JSON files that others wrote: one object each."""

import json

from convbert_plugin.data.text_files import PathLike, read_text
from convbert_plugin.errors import UserError


def read_json_object(path: PathLike) -> dict:
    """The object in a JSON file. Raises UserError: no regular file, not UTF-8, no JSON object."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except RecursionError:
        raise UserError(f"{path}: nested too deeply: copy the file again") from None
    except ValueError as error:
        raise UserError(f"{path}: broken JSON ({error}): copy the file again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object: copy the file again")
    return content
