"""What errors become: STATUS codes and texts. Knows every TruckeeError; touches the log.

A class without its own row takes that of its nearest base, so a new error is answered sensibly
before anybody thinks of it; a test still demands a row for each. Nothing of an error's own text is
sent: messages from below are for the log.
"""

from collections.abc import Callable
from itertools import count

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from truckee.core import errors as e
from truckee.frontends.vfs.paths import printable

_log = Logger()

NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED = 2, 3, 4, 5, 8


class Refused(Exception):
    """A request is answered with this code and text, whatever the filestore would say."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


STATUS: dict[type[e.TruckeeError], tuple[int, str]] = {
    e.TruckeeError: (FAILURE, "the request failed"),
    # capabilities and formats
    e.BadURIError: (FAILURE, "not a usable capability"),
    e.MustBeDeepImmutableError: (FAILURE, "only immutable things may stand here"),
    e.MustBeReadonlyError: (FAILURE, "only read authority may stand here"),
    e.MustNotBeUnknownRWError: (PERMISSION_DENIED, "of a kind this version does not know"),
    e.FormatError: (FAILURE, "stored data breaks its format"),
    e.LayoutError: (FAILURE, "stored data breaks its format"),
    e.UnknownVersionError: (FAILURE, "stored data is of a newer format"),
    e.BadHashError: (FAILURE, "stored data failed its integrity check"),
    e.NotEnoughHashesError: (FAILURE, "stored data cannot be checked"),
    e.AbsurdGeometryError: (FAILURE, "stored data claims sizes that are refused"),
    e.DirectoryFormatError: (FAILURE, "the directory's table cannot be read"),
    e.ErasureError: (FAILURE, "stored data cannot be decoded"),
    # reading
    e.DownloadError: (FAILURE, "file not available"),
    e.NotEnoughSharesError: (FAILURE, "file not available: too few shares can be reached"),
    e.NoSharesError: (FAILURE, "file not available: none of its shares can be reached"),
    e.UnrecoverableFileError: (FAILURE, "not available: too few shares of any version"),
    e.BadSegmentNumberError: (FAILURE, "read beyond the end of the file"),
    e.BadCiphertextHashError: (FAILURE, "stored data failed its integrity check"),
    e.CorruptShareError: (FAILURE, "stored data failed its integrity check"),
    e.DownloadStopped: (FAILURE, "the file was closed meanwhile"),
    # writing
    e.UploadError: (FAILURE, "upload failed"),
    e.NoServersError: (FAILURE, "upload failed: no storage server can be reached"),
    e.UploadUnhappinessError: (FAILURE, "upload failed: too few storage servers take shares"),
    e.ServersFullError: (FAILURE, "no space left on the storage servers"),
    e.NotEnoughServersError: (FAILURE, "upload failed: too few storage servers take shares"),
    e.SourceChangedError: (FAILURE, "upload failed: the data changed on the way"),
    e.UncoordinatedWriteError: (FAILURE, "somebody else changed it at the same time, try again"),
    e.NotWriteableError: (PERMISSION_DENIED, "permission denied: read-only"),
    e.FileTooLargeError: (FAILURE, "too large for this kind of file"),
    e.SequenceNumberExhaustedError: (PERMISSION_DENIED, "this file cannot be changed any more"),
    e.RepairRequiresWritecapError: (PERMISSION_DENIED, "permission denied: read-only"),
    e.MustForceRepairError: (FAILURE, "damaged, needs repair first"),
    # storage servers
    e.StorageError: (FAILURE, "a storage server failed"),
    e.ServerGoneError: (FAILURE, "a storage server cannot be reached"),
    e.ServerTimeoutError: (FAILURE, "a storage server did not answer in time"),
    e.NoSpaceError: (FAILURE, "no space left on the storage servers"),
    e.BadWriteEnablerError: (FAILURE, "a storage server refused the change"),
    e.NoSuchShareError: (FAILURE, "a storage server lost data"),
    e.ShareConflictError: (FAILURE, "a storage server holds other data"),
    # directories
    e.NoSuchChildError: (NO_SUCH_FILE, "no such file or directory"),
    e.ExistingChildError: (FAILURE, "already exists"),
    e.ChildOfWrongTypeError: (FAILURE, "not of the right kind (file or directory)"),
    e.DirectoryNotEmptyError: (FAILURE, "directory not empty"),
    e.BadNameError: (FAILURE, "name not allowed"),
    e.FileProhibited: (PERMISSION_DENIED, "access is switched off on this node"),
    # frontends and node
    e.SpoolFullError: (FAILURE, "no space for upload buffer"),
    e.AccountError: (FAILURE, "the account file has an error"),
    e.TemporaryLoginError: (FAILURE, "login temporarily impossible, try again later"),
    e.ConfigError: (FAILURE, "the node's configuration has an error"),
    e.OperationCancelledError: (FAILURE, "cancelled"),
    e.ShuttingDownError: (FAILURE, "the node is shutting down"),
}

# The text says what a client can do about it; the numbers behind it are the operator's.
_TOLD_TO_THE_LOG = (e.DownloadError, e.UploadError, e.StorageError, e.FormatError)

_incidents = count(1)  # so that a user's report finds its place in the log


def status_for(
    error: BaseException, *, number: Callable[[], int] = lambda: next(_incidents)
) -> tuple[int, str]:
    """Return code and text for `error`. To be called while `error` is being handled.

    An error that nobody raised on purpose is logged with its traceback under a number, and the
    text names the number only.
    """
    if isinstance(error, Refused):
        return error.code, error.text
    if isinstance(error, NotImplementedError):
        return OP_UNSUPPORTED, "operation not supported"
    if isinstance(error, CancelledError):
        return FAILURE, "cancelled"
    for kind in type(error).__mro__:
        if kind in STATUS:
            if isinstance(error, _TOLD_TO_THE_LOG) and not isinstance(error, e.DownloadStopped):
                reason = printable(str(error)[:500])
                _log.info("sftp: {kind}: {reason}", kind=kind.__name__, reason=reason)
            return STATUS[kind]
    incident = number()
    _log.failure("sftp: internal error {incident}", incident=incident)
    return FAILURE, f"internal error, id {incident}"
