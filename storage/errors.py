"""Everything likeme raises on purpose.

    LikemeError
    ├── BadInput          a file, an option or a setting is not usable as given
    │   ├── NotAnExport   the file is no Telegram export
    │   └── MissingSetting
    ├── StorageError      the database is locked, damaged or from a newer version
    ├── ModelError        the model server refused, failed or is not there
    │   ├── ModelAway     nothing answers there now
    │   ├── OutOfMemory   the accelerator's memory does not hold the smallest plan
    │   └── Damaged       a voice's files are not what was published
    └── TelegramError     Telegram refused or is not there
        └── NotSignedIn   no session of the owner's account, or it was ended

A message is one line: what, which, what to do. The command line prints it and exits with
`exit_code`; nothing of this tree ever reaches a person as a traceback.
"""


class LikemeError(Exception):
    """Base of the tree. `str(error)` is the line a person reads."""

    exit_code = 1
    code: str | None = None  # by which the model server's answers tell it from its kin


class BadInput(LikemeError):
    """Something given to us can't be used as it is."""

    exit_code = 2


class NotAnExport(BadInput):
    """The file is no Telegram Desktop export in JSON."""


class MissingSetting(BadInput):
    """A setting the command needs is not there; the message names the variable."""


class StorageError(LikemeError):
    """The database can't be used; the message says what to do."""

    exit_code = 3


class ModelError(LikemeError):
    """The model server refused, failed or can't be reached."""

    exit_code = 4


class ModelAway(ModelError):
    """Nothing answers where the model server should be; it may come back."""


class OutOfMemory(ModelError):
    """Even the smallest plan does not fit the accelerator's memory."""


class Damaged(ModelError):
    """A voice's files have changed since they were published."""

    code = "voice_damaged"


class TelegramError(LikemeError):
    """Telegram refused, or can't be reached."""

    exit_code = 5


class NotSignedIn(TelegramError):
    """There is no session of the owner's own account, or Telegram has ended it."""
