"""The one class for mistakes of the user."""


class UserError(SystemExit):
    """A mistake of the user, told in one line that says what to do.

    It is a ``SystemExit``, so that ``fairseq-train`` and the ``convbert`` command end with that
    line on stderr and status 1, without a traceback. (Where fairseq itself starts one process a
    GPU, torch's own traceback follows the line.)
    """
