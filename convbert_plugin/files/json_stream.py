"""A JSON document of any size, read value by value: only the one at hand is in memory."""

import json
import re
from typing import Any, Callable, Iterator, NoReturn

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike

CHARACTERS_AT_ONCE = 1 << 20
MOST_CHARACTERS = 1 << 26
NO_SPACE = re.compile(r"[^ \t\n\r]")
# Where a value that has not been read to its end fails: in its last characters (such as those of
# -Infinity), or where its last text begins.
LAST_CHARACTERS = 10
OPEN_TEXT = "Unterminated string"


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


class JsonStream:
    """The values of a document, in their order.

    ``read`` gives up to so many characters more, none at the end. Every method raises UserError,
    with file and line, for what is no JSON.
    """

    def __init__(self, path: PathLike, read: Callable[[int], str]):
        self.path = path
        self._read = read
        self._text = ""
        self._place = 0
        self._line = 1
        self._decode = json.JSONDecoder(parse_constant=_refuse).raw_decode

    def next(self) -> str:
        """The next character that is no space, which stays; nothing at the end."""
        while not (found := NO_SPACE.search(self._text, self._place)):
            self._place = len(self._text)
            if not self._read_on():
                return ""
        self._place = found.start()
        return found[0]

    def value(self) -> Any:
        """The value that comes next, whole."""
        self.next()
        while True:
            try:
                value, end = self._decode(self._text, self._place)
                # A number may go on.
                if end < len(self._text) or not self._read_on():
                    self._place = end
                    return value
            except json.JSONDecodeError as error:
                is_open = error.msg.startswith(OPEN_TEXT)
                is_at_end = error.pos >= len(self._text) - LAST_CHARACTERS
                if not ((is_open or is_at_end) and self._read_on()):
                    raise self._broken(error.msg, error.pos) from None
            except RecursionError:
                raise self._broken("nested too deeply", self._place) from None
            except ValueError as error:
                raise self._broken(str(error), self._place) from None

    def members(self) -> Iterator[str]:
        """The names in the object that comes next; after each of them its value is to be taken."""
        for _ in self._several("{", "}"):
            if self.next() != '"':
                raise self._broken("a name between quotation marks is expected", self._place)
            name = self.value()
            self._take(":")
            yield name

    def elements(self) -> Iterator[None]:
        """One turn for each element of the list that comes next, in which it is to be taken."""
        return self._several("[", "]")

    def end(self) -> None:
        """Raise UserError unless nothing is left."""
        if self.next():
            raise self._broken("more behind its end", self._place)

    def _several(self, first: str, last: str) -> Iterator[None]:
        self._take(first)
        if self.next() == last:
            self._take(last)
            return
        while True:
            yield
            if self._take(",", last) == last:
                return

    def _take(self, *expected: str) -> str:
        found = self.next()
        if found not in expected:
            raise self._broken(f"{' or '.join(map(repr, expected))} is expected", self._place)
        self._place += 1
        return found

    def _read_on(self) -> bool:
        """Read more, and forget what has been taken; whether there was more."""
        rest = len(self._text) - self._place
        if rest > MOST_CHARACTERS:
            raise self._broken(f"a value of more than {MOST_CHARACTERS:,} characters", self._place)
        # So that what does not end is not looked at too often.
        more = self._read(max(CHARACTERS_AT_ONCE, rest))
        if more:
            self._line += self._text.count("\n", 0, self._place)
            self._text = self._text[self._place :] + more
            self._place = 0
        return bool(more)

    def _broken(self, what: str, place: int) -> UserError:
        line = self._line + self._text.count("\n", 0, place)
        what = what if self._text or what[:1].islower() else "it is empty"
        return UserError(f"{self.path}:{line}: broken JSON ({what}): fetch or write the file again")
