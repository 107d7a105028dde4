"""Files of tensors from disk; nothing that stands in them is ever run."""

import collections
import contextlib
import io
import itertools
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional

import torch
from torch import Tensor

from convbert_plugin.errors import UserError, readable, shown
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.pickle_reading import MOST_OPCODES, ForeignName
from convbert_plugin.formats.unsafe_loading import refuse_unsafe_loading
from convbert_plugin.formats.wholeness import (
    LONGEST_PICKLE,
    PICKLE,
    damage_of,
    is_archive,
    plain_values,
)

HARMLESS_MODULES = ("torch", "collections")
# A config of transformers holds four values for each of its labels.
MOST_PLAIN_VALUES = 1_000_000
DEEPEST = 50
# Tied tensors have their numbers in common.
MOST_TIED = 16
PLAIN_TYPES = (str, bool, int, float, type(None))
# What torch's wrappers for several devices put before each name.
WRAPPER = "module."


def load_pickled(path: PathLike) -> object:
    """What ``torch.save`` wrote: tensors among Python's own types.

    Raises:
        UserError: no such file; damaged (every byte is compared with the checksum that the file
            holds for it); a pickle that names anything but tensors and their containers, by that
            name; one that declares more, or makes more work, than a checkpoint does.
    """
    refuse_unsafe_loading()
    path = _existing_file(path)
    if damage := damage_of(path):
        raise UserError(f"{path}: {damage}: copy it again")
    try:
        plain_values(path)
        with warnings.catch_warnings():
            # torch asks to report a protocol that is not its own; what is wrong is told below.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise UserError(f"{path}: declares more numbers than memory holds: damaged") from None
    # Of a hostile pickle any error may come; what it names is told, whatever stopped it.
    except Exception as error:
        names = _foreign_globals(path)
        if not names:
            # torch may have refused one that cannot be read here.
            told = isinstance(error, ForeignName)
            names = [str(error)] if told else re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
        if names:
            raise UserError(
                f"{path}: refused, nothing was run: its pickle names {', '.join(names)}, and a "
                "checkpoint that is safe to load holds tensors and plain values alone"
            ) from None
        raise UserError(
            f"{path}: damaged, or no checkpoint ({_reason(error)}): copy it again"
        ) from None


def load_safetensors(path: PathLike) -> dict[str, Tensor]:
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
            f"{path}: damaged, or no safetensors file ({_reason(error)}): copy it again"
        ) from None


def checked_tensors(
    values: object, path: PathLike, passed_over: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """``values`` as a dictionary of named tensors, each an ordinary one of numbers that fp32 has.

    Less those whose names end in one of ``passed_over``.

    Raises:
        UserError: anything else, by its name; tensors that declare more numbers than there are.
    """
    tensors = {
        name: tensor
        for name, tensor in (values.items() if isinstance(values, Mapping) else ())
        if not (isinstance(name, str) and name.endswith(passed_over))
    }
    if not tensors:
        raise UserError(f"{path}: holds no dictionary of tensors: damaged, or no checkpoint")
    _check_is_bare(tensors, path)
    if repeat_themselves(tensors.values()):
        raise UserError(f"{path}: its tensors declare more numbers than they hold: damaged")
    for name, tensor in tensors.items():
        _check_tensor(name, tensor, path)
    return tensors


def repeat_themselves(values: Iterable[object]) -> bool:
    """Whether tensors have more of their numbers in common than tied ones do."""
    tensors = [v for v in values if isinstance(v, Tensor) and tensor_problem(v) is None]
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    declared = sum(tensor.nbytes for tensor in tensors)
    return declared > MOST_TIED * sum(storage.nbytes() for storage in held.values())


def _check_is_bare(values: Mapping, path: PathLike) -> None:
    """Raise UserError for what training scripts save around a model's tensors and their names."""
    nested = next((name for name, value in values.items() if _holds_tensors(value)), None)
    if nested is not None:
        raise UserError(
            f"{path}: its tensors stand one level down, under {shown(nested)}: save that "
            "dictionary alone"
        )
    if all(isinstance(name, str) and name.startswith(WRAPPER) for name in values):
        raise UserError(
            f"{path}: its names begin with {WRAPPER} (DataParallel): save the state_dict() of the "
            "model inside, its .module"
        )


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values())


def is_plain(value: object, most: int = MOST_PLAIN_VALUES) -> bool:
    """Whether JSON can say ``value``: strings, numbers and None, in lists and under strings.

    No more than ``most`` of them, and not deep in each other.
    """
    return all(map(_is_plain_alone, _parts_of(value, most)))


def resolves(value: object) -> bool:
    """Whether a plain ``value`` holds a string that a config would resolve (``${...}``)."""
    return any(isinstance(part, str) and "${" in part for part in _parts_of(value))


def _parts_of(value: object, most: int = MOST_PLAIN_VALUES) -> Iterator[object]:
    """``value`` and all that stands in its containers, or, where there is no end, the type."""
    rest: list[tuple[object, int]] = [(value, 0)]
    for _ in range(most):
        if not rest:
            return
        value, depth = rest.pop()
        yield value
        if depth == DEEPEST:
            break
        if isinstance(value, dict):
            rest += [(part, depth + 1) for part in (*value, *value.values())]
        elif isinstance(value, (list, tuple)):
            rest += [(part, depth + 1) for part in value]
    yield object()


def _is_plain_alone(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) for name in value)
    return type(value) in (list, tuple, *PLAIN_TYPES)


def _check_tensor(name: object, tensor: Any, path: PathLike) -> None:
    if not isinstance(name, str):
        raise UserError(f"{path}: names a tensor {shown(name)}, where a text is expected: damaged")
    name = readable(name)
    if isinstance(tensor, Tensor) and tensor.dim() == 0:
        raise UserError(f"{path}: {name} is a single number, where a table is expected: damaged")
    if problem := tensor_problem(tensor):
        raise UserError(f"{path}: {name} {problem}")
    if not tensor.is_floating_point():
        raise UserError(
            f"{path}: {name} is {tensor.dtype}, where floating-point numbers are expected"
        )
    # Where one number is NaN, so are both; to ask each number takes thirty times as long.
    if tensor.numel() and not torch.stack(tensor.to(torch.float32).aminmax()).isfinite().all():
        raise UserError(
            f"{path}: {name} holds NaN, or numbers that are infinite in float32: use a checkpoint "
            "from before training diverged"
        )


def tensor_problem(tensor: object) -> Optional[str]:
    """What keeps ``tensor`` from being an ordinary one that holds its numbers, in words."""
    if not isinstance(tensor, Tensor):
        return f"is no tensor but {type(tensor).__name__}: damaged"
    if tensor.device.type != "cpu":
        return f"has no numbers in it ({tensor.device}): damaged"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"is {tensor.dtype} ({tensor.layout}), where ordinary numbers are expected"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"declares {tensor.numel():,} numbers and does not hold them: damaged"
    return None


def _existing_file(path: PathLike) -> Path:
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: no file, where a checkpoint is expected")
    return path


def _foreign_globals(path: Path) -> list[str]:
    """What the pickles in a file, as far as they can be read, name outside of torch, each once."""
    names: dict[str, None] = {}
    texts: collections.deque[str] = collections.deque(maxlen=2)
    with contextlib.suppress(Exception), _open_pickle(path) as stream:
        pickles = (pickletools.genops(stream) for _ in iter(lambda: stream.peek(1), b""))
        steps = itertools.chain.from_iterable(pickles)
        for opcode, argument, _ in itertools.islice(steps, MOST_OPCODES):
            if opcode.name in ("GLOBAL", "INST"):
                names[str(argument).replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL":
                names[".".join(texts)] = None
            elif isinstance(argument, str):
                texts.append(argument)
    return [name for name in names if name.split(".")[0] not in HARMLESS_MODULES]


def _open_pickle(path: Path) -> io.BufferedReader:
    if not is_archive(path):
        return open(path, "rb")
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(PICKLE))
        with archive.open(name) as record:
            return io.BufferedReader(io.BytesIO(record.read(LONGEST_PICKLE)))


def _reason(error: BaseException) -> str:
    """The line of a message that says what was wrong, which torch wraps into advice."""
    # It may stand on a line of its own.
    told = str(error).split("WeightsUnpickler error:")[-1]
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
