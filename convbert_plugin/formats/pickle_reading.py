"""The plain values of a pickle of tensors, read without torch and within bounds.

What the pickle would have torch do is judged here, before torch does any of it: which functions it
calls with what, how many numbers it declares, how much work it makes.
"""

import pickletools
from typing import Any, BinaryIO, Callable, Mapping, NamedTuple, Sequence

# A tensor takes 40 of them, an option 5: a checkpoint of convbert_base has 60,000.
MOST_OPCODES = 1_000_000
# Each copies a dictionary; a checkpoint has one, for what torch notes of the modules of its model.
MOST_BUILDS = 16
# What is no text and no small number may be made to collide.
MOST_ODD_KEYS = 1000
SMALL = 1 << 60
DIMENSIONS = 64

TABLE, SIZE = "collections.OrderedDict", "torch.Size"
STORAGE = "storage"
# Of the functions that torch allows, those that make no more than what is declared to them.
REBUILT_ON_A_STORAGE = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2")}
REBUILT = {
    *("torch._utils._rebuild_parameter", "torch._utils._rebuild_sparse_tensor"),
    *("torch._utils._rebuild_meta_tensor_no_storage", "torch.serialization._get_layout"),
}
CALLED = {TABLE, SIZE, *REBUILT_ON_A_STORAGE, *REBUILT}
CONSTANTS: Mapping[str, Callable] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
ARGUMENTS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
}
PUTS, GETS = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class OddPickle(ValueError):
    """What is wrong with a pickle, in words."""


class ForeignName(OddPickle):
    """It calls, or names, what no checkpoint needs."""


class Name(str):
    """A function or type that a pickle names."""


class Storage(NamedTuple):
    """So many numbers, declared."""

    size: int


class Declared(NamedTuple):
    """What a pickle would have torch make by a function."""

    function: str


class PickleReader:
    """Reads pickles one after the other; ``most_numbers`` all of their storages may hold."""

    def __init__(self, most_numbers: int):
        self.most_numbers = most_numbers
        self.storages: dict[str, int] = {}
        self.opcodes = self.builds = self.odd_keys = self.declared = 0

    def read(self, stream: BinaryIO) -> Any:
        """The next value: tensors as ``Declared``, functions and types as ``Name``.

        Raises:
            OddPickle: it holds what torch's own reader of weights does not take, or what would take
                it beyond the bounds.
        """
        self.stack: list[Any] = []
        self.marked: list[list] = []
        self.memo: dict[int, Any] = {}
        try:
            while (opcode := self._next(stream)).name != "STOP":
                self._do(opcode.name, opcode.arg.reader(stream) if opcode.arg else None)
            return self.stack.pop()
        except (IndexError, KeyError, TypeError, AttributeError) as error:
            raise OddPickle(f"its pickle is broken: {error}") from None

    def _next(self, stream: BinaryIO) -> pickletools.OpcodeInfo:
        self.opcodes += 1
        if self.opcodes > MOST_OPCODES:
            raise OddPickle(f"its pickle has more than {MOST_OPCODES:,} steps")
        code = stream.read(1)
        if not code:
            raise OddPickle("its pickle has no end")
        opcode = OPCODES.get(code)
        if opcode is None:
            raise OddPickle(f"Unsupported operand {code[0]}")
        return opcode

    def _do(self, name: str, argument: Any) -> None:
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in ARGUMENTS:
            self.stack.append(argument)
        elif name in PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[argument])
        elif name in TUPLES:
            parts = self.stack[-TUPLES[name] :]
            del self.stack[-TUPLES[name] :]
            self.stack.append(tuple(parts))
        elif name in STEPS:
            STEPS[name](self, argument)

    def _mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list:
        parts, self.stack = self.stack, self.marked.pop()
        return parts

    def _tuple(self, _: Any) -> None:
        parts = self._since_mark()
        self.stack.append(tuple(parts))

    def _append(self, _: Any) -> None:
        part = self.stack.pop()
        self._extend([part])

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, parts: list) -> None:
        if type(self.stack[-1]) is not list:
            raise OddPickle("its pickle appends to what is no list")
        self.stack[-1].extend(parts)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _set_items(self, _: Any) -> None:
        self._update(self._since_mark())

    def _update(self, parts: list) -> None:
        if type(self.stack[-1]) is not dict:
            raise OddPickle("its pickle sets items of what is no dictionary")
        for key, value in zip(parts[::2], parts[1::2], strict=True):
            self._check_key(key)
            self.stack[-1][key] = value

    def _check_key(self, key: Any) -> None:
        """Refuse keys that take long to hash."""
        if type(key) is str or (type(key) is int and -SMALL < key < SMALL):
            return
        self.odd_keys += 1
        parts = key if type(key) is tuple else (key,)
        if self.odd_keys > MOST_ODD_KEYS or len(parts) > DIMENSIONS:
            raise OddPickle("its dictionaries have too many odd keys")
        if not all(part is None or type(part) in (str, int, float, bool) for part in parts):
            raise OddPickle("its dictionaries have odd keys")

    def _global(self, argument: str) -> None:
        name = Name(argument.replace(" ", "."))
        # As the types of numbers and storages.
        is_of_torch = name.startswith("torch.") and name.count(".") == 1
        if name not in CALLED and not is_of_torch:
            raise ForeignName(name)
        self.stack.append(name)

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Name or function not in CALLED:
            raise ForeignName(function if type(function) is Name else type(function).__name__)
        if type(arguments) is not tuple:
            raise OddPickle("its pickle calls with what are no arguments")
        if function == TABLE:
            if arguments:
                raise OddPickle("its pickle copies dictionaries")
            self.stack.append({})
            return
        if function == SIZE and len(arguments[0]) > DIMENSIONS:
            raise OddPickle("its pickle copies lists")
        if function in REBUILT_ON_A_STORAGE:
            _check_extent(*arguments[:4])
        self.stack.append(Declared(function))

    def _build(self, _: Any) -> None:
        self.stack.pop()
        self.builds += 1
        if type(self.stack[-1]) is not dict or self.builds > MOST_BUILDS:
            raise OddPickle("its pickle sets attributes")

    def _storage(self, _: Any) -> None:
        kind, _, key, _, size, *_ = self.stack.pop()
        if kind != STORAGE or type(key) is not str or type(size) is not int or size < 0:
            raise OddPickle("its pickle declares an odd storage")
        known = self.storages.get(key, 0)
        self.storages[key] = max(size, known)
        self.declared += self.storages[key] - known
        if self.declared > self.most_numbers:
            raise OddPickle(f"its pickle declares {self.declared:,} numbers, and it is too short")
        self.stack.append(Storage(size))


STEPS: Mapping[str, Callable[[PickleReader, Any], None]] = {
    "MARK": PickleReader._mark,
    "TUPLE": PickleReader._tuple,
    "APPEND": PickleReader._append,
    "APPENDS": PickleReader._appends,
    "SETITEM": PickleReader._set_item,
    "SETITEMS": PickleReader._set_items,
    "GLOBAL": PickleReader._global,
    "REDUCE": PickleReader._reduce,
    "BUILD": PickleReader._build,
    "BINPERSID": PickleReader._storage,
}
KNOWN = {"PROTO", "STOP", *CONSTANTS, *ARGUMENTS, *PUTS, *GETS, *TUPLES, *STEPS}
OPCODES = {one.code.encode("latin-1"): one for one in pickletools.opcodes if one.name in KNOWN}


def _check_extent(storage: Any, offset: Any, size: Sequence, stride: Sequence) -> None:
    """Refuse a tensor that reaches beyond its storage, which torch would enlarge."""
    numbers = (offset, *size, *stride)
    if (
        type(storage) is not Storage
        or len(size) != len(stride)
        or len(size) > DIMENSIONS
        or not all(type(number) is int and number >= 0 for number in numbers)
    ):
        raise OddPickle("its pickle declares an odd tensor")
    steps = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and offset + steps >= storage.size:
        raise OddPickle("its pickle declares a tensor of more numbers than it holds")
