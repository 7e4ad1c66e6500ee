"""What core's errors become: replies. Knows every TruckeeError and FTP's codes; touches the log.

A class without its own row takes that of its nearest base, so a new error is answered sensibly
before anybody thinks of it; a test still demands a row for each. Nothing of an error's own text is
sent: messages from below are for the log.
"""

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from truckee.core import errors as e
from truckee.frontends.vfs.paths import printable

_log = Logger()

REPLIES: dict[type[e.TruckeeError], tuple[int, str]] = {
    e.TruckeeError: (451, "the request failed"),
    # capabilities and formats
    e.BadURIError: (553, "not a usable capability"),
    e.MustBeDeepImmutableError: (553, "only immutable things may stand here"),
    e.MustBeReadonlyError: (553, "only read authority may stand here"),
    e.MustNotBeUnknownRWError: (550, "of a kind this version does not know"),
    e.FormatError: (451, "stored data breaks its format"),
    e.LayoutError: (451, "stored data breaks its format"),
    e.UnknownVersionError: (451, "stored data is of a newer format"),
    e.BadHashError: (451, "stored data failed its integrity check"),
    e.NotEnoughHashesError: (451, "stored data cannot be checked"),
    e.AbsurdGeometryError: (451, "stored data claims sizes that are refused"),
    e.DirectoryFormatError: (451, "the directory's table cannot be read"),
    e.ErasureError: (451, "stored data cannot be decoded"),
    # reading
    e.DownloadError: (450, "file not available"),
    e.NotEnoughSharesError: (450, "file not available: too few of its shares can be reached"),
    e.NoSharesError: (450, "file not available: none of its shares can be reached"),
    e.UnrecoverableFileError: (450, "not available: too few shares of any version can be reached"),
    e.BadSegmentNumberError: (451, "read beyond the end of the file"),
    e.BadCiphertextHashError: (451, "stored data failed its integrity check"),
    e.CorruptShareError: (451, "stored data failed its integrity check"),
    e.DownloadStopped: (426, "transfer stopped"),
    # writing
    e.UploadError: (451, "upload failed"),
    e.NoServersError: (451, "upload failed: no storage server can be reached"),
    e.UploadUnhappinessError: (451, "upload failed: too few storage servers take shares"),
    e.ServersFullError: (452, "no space left on the storage servers"),
    e.NotEnoughServersError: (451, "upload failed: too few storage servers take shares"),
    e.SourceChangedError: (451, "upload failed: the data changed on the way"),
    e.UncoordinatedWriteError: (450, "somebody else changed it at the same time, try again"),
    e.NotWriteableError: (550, "permission denied: read-only"),
    e.FileTooLargeError: (552, "too large for this kind of file"),
    e.SequenceNumberExhaustedError: (550, "this file cannot be changed any more"),
    e.RepairRequiresWritecapError: (550, "permission denied: read-only"),
    e.MustForceRepairError: (450, "damaged, needs repair first"),
    # storage servers
    e.StorageError: (451, "a storage server failed"),
    e.ServerGoneError: (451, "a storage server cannot be reached"),
    e.ServerTimeoutError: (451, "a storage server did not answer in time"),
    e.NoSpaceError: (452, "no space left on the storage servers"),
    e.BadWriteEnablerError: (451, "a storage server refused the change"),
    e.NoSuchShareError: (451, "a storage server lost data"),
    e.ShareConflictError: (451, "a storage server holds other data"),
    # directories
    e.NoSuchChildError: (550, "no such file or directory"),
    e.ExistingChildError: (550, "already exists"),
    e.ChildOfWrongTypeError: (550, "not of the right kind (file or directory)"),
    e.DirectoryNotEmptyError: (550, "directory not empty"),
    e.BadNameError: (553, "name not allowed"),
    e.FileProhibited: (550, "access is switched off on this node"),
    # frontends and node
    e.SpoolFullError: (452, "no space for the upload buffer"),
    e.AccountError: (451, "the account file has an error"),
    e.TemporaryLoginError: (421, "login temporarily impossible, try again later"),
    e.ConfigError: (451, "the node's configuration has an error"),
    e.OperationCancelledError: (426, "cancelled"),
    e.ShuttingDownError: (421, "the node is shutting down"),
}

# The reply says what a client can do about it; the numbers behind it are the operator's.
_TOLD_TO_THE_LOG = (e.DownloadError, e.UploadError, e.StorageError, e.FormatError)


class _Incidents:
    """Numbers for unexpected errors, so that a user's report finds its place in the log."""

    def __init__(self) -> None:
        self.count = 0

    def next(self) -> int:
        self.count += 1
        return self.count


_incidents = _Incidents()


def reply_for(
    error: BaseException, *, started: bool = False, number: Callable[[], int] = _incidents.next
) -> tuple[int, str]:
    """Return code and text for `error`; `started` when data of the file were already sent.

    To be called while `error` is being handled.

    An error that nobody raised on purpose is logged with its traceback under a number, and the
    reply names the number only.
    """
    if isinstance(error, CancelledError):
        return 426, "cancelled"
    for kind in type(error).__mro__:
        if kind in REPLIES:
            code, text = REPLIES[kind]
            if started and isinstance(error, e.DownloadError) and code == 450:
                code = 451
            if isinstance(error, _TOLD_TO_THE_LOG):
                reason = printable(str(error)[:500])
                _log.info(
                    "ftp {code}: {kind}: {reason}", code=code, kind=kind.__name__, reason=reason
                )
            return code, text
    incident = number()
    _log.failure("internal error {incident}", incident=incident)
    return 451, f"internal error, id {incident}"
