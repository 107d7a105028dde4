"""Work of another library on files and texts that nobody vouches for, bounded in time."""

import threading
from typing import Callable, TypeVar

from convbert_plugin.errors import UserError

Result = TypeVar("Result")


def within(seconds: int, work: Callable[[], Result], subject: str) -> Result:
    """The result of ``work``, which may take about so many seconds and has to release the GIL.

    What takes longer is left behind in its thread, which does not keep the process alive: nothing
    can end a thread inside another library.
    Errors: UserError, which begins with ``subject``, for what takes longer and for any failure.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        # A panic in Rust is no Exception.
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    # In turns, so that a process that was stopped for a while goes on afterwards.
    for _ in range(seconds):
        thread.join(timeout=1)
        if not thread.is_alive():
            break
    if errors:
        raise failure(subject, errors[0]) from None
    if not results:
        raise UserError(f"{subject}: not done after {seconds} seconds: take another tokenizer")
    return results[0]


def failure(subject: str, error: BaseException) -> UserError:
    """What to tell of a failure of the tokenizers library."""
    words = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{subject}: the tokenizers library fails ({words:.100}): copy the file again")
