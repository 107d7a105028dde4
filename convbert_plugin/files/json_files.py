"""JSON files of one object each: read with distrust, written whole."""

import contextlib
import json
from typing import Any, BinaryIO, Collection, Iterable, Union, get_args, get_origin, get_type_hints

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike, read_text
from convbert_plugin.files.whole_output import whole_file


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


def write_json(path: PathLike, content: dict, rows: Collection[str] = ()) -> None:
    """Write an object as indented JSON, whole or not at all; errors as ``whole_file``.

    ``rows`` name lists in it of which each item gets a line.
    """
    with whole_file(path) as file:
        file.write(indented(content, rows))


def indented(content: dict, rows: Collection[str] = ()) -> bytes:
    """An object as a file of indented JSON holds it, of ``rows`` each item on a line."""
    if not rows:
        return (json.dumps(content, indent=2) + "\n").encode()
    parts = (f"  {json.dumps(name)}: {_part(content[name], name in rows)}" for name in content)
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def _part(value: Any, is_rows: bool) -> str:
    if is_rows and value:
        lines = ",\n    ".join(map(json.dumps, value))
        return f"[\n    {lines}\n  ]"
    return json.dumps(value, indent=2).replace("\n", "\n  ")


def write_json_rows(file: BinaryIO, items: Iterable[tuple[str, Any]]) -> None:
    """Write an object of many items, a row each, none of which is kept. No number is NaN."""
    before = "{"
    for key, value in items:
        file.write(f"{before}\n{json.dumps(key)}: {json.dumps(value, allow_nan=False)}".encode())
        before = ","
    file.write(b"\n}\n" if before == "," else b"{}\n")


def typed(kind: Any, value: Any) -> Any:
    """What JSON made of a ``kind``, as it was: named tuples of plain types, tuples and dicts.

    Raises:
        ValueError: it is something else. (OverflowError: a whole number beyond all floats.)
    """
    origin, kinds = get_origin(kind), get_args(kind)
    if origin is Union:
        for possible in kinds:
            with contextlib.suppress(ValueError):
                return typed(possible, value)
    elif origin is tuple and type(value) is list:
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        return tuple(typed(*pair) for pair in zip(kinds, value, strict=True))
    elif origin is dict and type(value) is dict:
        return {key: typed(kinds[1], held) for key, held in value.items()}
    elif hasattr(kind, "_fields") and type(value) is dict:
        fields = get_type_hints(kind)
        if fields.keys() == value.keys():
            return kind(**{name: typed(fields[name], held) for name, held in value.items()})
    elif type(value) is kind:
        return value
    elif kind is float and type(value) is int:
        return float(value)
    raise ValueError(f"{shown(value)} is no {kind}")
