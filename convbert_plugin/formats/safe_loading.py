"""Files of tensors from disk; nothing that stands in them is ever run."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Mapping

import torch

from convbert_plugin.errors import UserError
from convbert_plugin.formats.unsafe_loading import refuse_unsafe_loading

ZIP_MAGIC = b"PK\x03\x04"
# A config of fairseq holds about 500 values.
MOST_PLAIN_VALUES = 100_000
PLAIN_TYPES = (str, bool, int, float, type(None))


def load_pickled(path) -> object:
    """What ``torch.save`` wrote: tensors, mapped from the file, among Python's own types.

    Copy the tensors that are to outlive the file.

    Raises:
        UserError: no such file; damaged (every byte is compared with the checksum that the file
            holds for it); a pickle that names anything but tensors and their containers, by that
            name.
    """
    refuse_unsafe_loading()
    path = _existing_file(path)
    is_zip = _check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: {_refusal(str(error))}") from None
    except MemoryError:
        raise UserError(f"{path}: declares more numbers than memory holds: damaged") from None
    # Of a hostile pickle any error may come, and each says the same: it is no checkpoint.
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or no checkpoint ({_first_line(error)}): copy it again"
        ) from None


def load_safetensors(path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors`` file, by name.

    Raises:
        UserError: no such file, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _existing_file(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path}: damaged, or no safetensors file ({_first_line(error)}): copy it again"
        ) from None


def checked_tensors(values: object, path) -> dict[str, torch.Tensor]:
    """``values`` as a dictionary of named tensors, each an ordinary one of floating-point numbers.

    Raises:
        UserError: anything else, by its name; a tensor that declares more numbers than it has.
    """
    if not isinstance(values, Mapping) or not values:
        raise UserError(f"{path}: holds no dictionary of tensors: damaged, or no checkpoint")
    for name, tensor in values.items():
        _check_tensor(name, tensor, path)
    return dict(values)


def is_plain(value: object) -> bool:
    """Whether ``value`` is made of strings, numbers and None, in dictionaries, lists and tuples.

    A string that a config would still have to resolve (``${...}``) is not plain.
    """
    seen, rest = 0, [value]
    while rest and seen <= MOST_PLAIN_VALUES:
        value = rest.pop()
        seen += 1
        if isinstance(value, dict):
            rest += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            rest += value
        elif type(value) not in PLAIN_TYPES or (isinstance(value, str) and "${" in value):
            return False
    return not rest


def _check_tensor(name, tensor, path):
    if not isinstance(name, str):
        raise UserError(f"{path}: names a tensor {name!r}, where a text is expected: damaged")
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{path}: {name} is no tensor but {type(tensor).__name__}: damaged")
    if tensor.layout != torch.strided or tensor.is_quantized or not tensor.is_floating_point():
        raise UserError(
            f"{path}: {name} is {tensor.dtype} ({tensor.layout}), where ordinary floating-point "
            "numbers are expected"
        )
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(
            f"{path}: {name} declares {tensor.numel():,} numbers and does not hold them: damaged"
        )


def _existing_file(path) -> Path:
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: no file, where a checkpoint is expected")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: empty: copy it again")
    return path


def _check_zip(path: Path) -> bool:
    """Whether the file is a zip archive, as torch has written since 1.6; a sound one, if so."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
                raise UserError(f"{path}: cut short: copy it again")
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            # torch stores its records as they are; a packed one may unfold to any size.
            packed = [r.filename for r in archive.infolist() if r.compress_type]
            broken = packed or archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: damaged ({_first_line(error)}): copy it again") from None
    if packed:
        raise UserError(f"{path}: {packed[0]} is compressed, which torch never writes: refused")
    if broken:
        raise UserError(f"{path}: damaged ({broken} does not match its checksum): copy it again")
    return True


def _refusal(message: str) -> str:
    """What torch's unpickler says, in one line."""
    named = re.search(r"(?:GLOBAL|global|function|class) ([\w.]+\.[\w.]+)", message)
    if named:
        return (
            f"refused, nothing was run: its pickle names {named[1]}, and a checkpoint that is safe "
            "to load holds tensors and plain values alone"
        )
    return f"damaged, or no checkpoint ({_last_sentence(message)}): copy it again"


def _last_sentence(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("WeightsUnpickler error")), lines[0])
    return told[:200]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
