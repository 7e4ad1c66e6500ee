"""Every error raised on purpose. Knows nothing else and touches nothing.

Names are those of Tahoe-LAFS where it has one. A class is chosen for what a frontend must do with
it. Messages carry numbers and short texts; never a capability, a key, a storage index or a path.
"""


class TruckeeError(Exception):
    """The base of every error that Truckee raises on purpose."""


# capabilities and formats


class BadURIError(TruckeeError):
    """The text is not a capability of the kind asked for, or breaks its grammar."""


class MustBeDeepImmutableError(TruckeeError):
    """Something mutable was put where all must be immutable."""


class MustBeReadonlyError(TruckeeError):
    """A write capability was put where only read authority may stand."""


class MustNotBeUnknownRWError(TruckeeError):
    """An unknown capability was given in the write slot alone."""


class FormatError(TruckeeError):
    """Bytes break the format they are said to have."""


class LayoutError(FormatError):
    """A share's header, offsets or sections are not as its format says."""


class UnknownVersionError(FormatError):
    """A share or container carries a version number that is not known here."""


class BadHashError(FormatError):
    """A hash tree node contradicts one that is already trusted."""


class NotEnoughHashesError(FormatError):
    """A hash tree node lacks the sibling needed to check it."""


class AbsurdGeometryError(FormatError):
    """Sizes in authentic data exceed what this implementation is willing to hold in memory."""


class DirectoryFormatError(FormatError):
    """The packed table of a directory cannot be read."""


class ErasureError(TruckeeError):
    """The blocks given to the erasure code cannot be decoded as asked."""


# reading


class DownloadError(TruckeeError):
    """The base of the ways in which reading fails."""


class NotEnoughSharesError(DownloadError):
    """Some shares were found, fewer than k of them usable."""


class NoSharesError(NotEnoughSharesError):
    """No share was found at all."""


class UnrecoverableFileError(DownloadError):
    """No version of a mutable file has k reachable shares."""


class BadSegmentNumberError(DownloadError):
    """A segment beyond the end of the file was asked for."""


class BadCiphertextHashError(DownloadError):
    """Validated blocks decode to a segment that the file's own hash tree refuses."""


class CorruptShareError(DownloadError):
    """A share's bytes fail their integrity check, or the authentic header is malformed."""


class DownloadStopped(DownloadError):
    """The consumer asked to stop."""


# writing


class UploadError(TruckeeError):
    """The base of the ways in which writing fails."""


class NoServersError(UploadError):
    """There is no storage server to write to."""


class UploadUnhappinessError(UploadError):
    """Shares cannot be spread over enough servers."""


class ServersFullError(UploadUnhappinessError):
    """They could be spread if servers that can be reached had room for them."""


class NotEnoughServersError(UploadError):
    """Fewer than k shares of a mutable file could be placed."""


class SourceChangedError(UploadError):
    """The plaintext gave other bytes, or another length, on its second reading."""


class UncoordinatedWriteError(TruckeeError):
    """Somebody else changed the mutable file at the same time."""


class NotWriteableError(TruckeeError):
    """A change was asked of something that this capability can only read."""


class FileTooLargeError(TruckeeError):
    """The contents exceed what this kind of file may hold."""


class SequenceNumberExhaustedError(TruckeeError):
    """The mutable file carries the highest sequence number there is and cannot be written again."""


class RepairRequiresWritecapError(TruckeeError):
    """Only a write capability can repair a mutable file."""


class MustForceRepairError(TruckeeError):
    """Repair would discard a version that may still come back."""


# storage servers


class StorageError(TruckeeError):
    """The base of what a storage server can answer other than a result."""


class ServerGoneError(StorageError):
    """The server cannot be reached, broke off, or its answer made no sense."""


class ServerTimeoutError(ServerGoneError):
    """The server did not answer in time."""


class NoSpaceError(StorageError):
    """The server or the local disk has no room."""


class BadWriteEnablerError(StorageError):
    """The server refused the write enabler of a mutable share."""


class NoSuchShareError(StorageError):
    """The server does not hold the share that was asked for."""


class ShareConflictError(StorageError):
    """Bytes were written twice to one place of a share, and differ."""


# directories


class NoSuchChildError(TruckeeError):
    """The directory has no child of that name."""


class ExistingChildError(TruckeeError):
    """The directory has a child of that name already."""


class ChildOfWrongTypeError(TruckeeError):
    """The child is a file where a directory was asked for, or the other way round."""


class DirectoryNotEmptyError(TruckeeError):
    """The directory still has children."""


class BadNameError(TruckeeError):
    """The name may not be given to a child here."""


class FileProhibited(TruckeeError):
    """Access to this object is switched off by the node's blacklist."""


# frontends and node


class SpoolFullError(TruckeeError):
    """The upload buffer on this machine has no room left."""


class AccountError(TruckeeError):
    """The account file, or an edit of it, breaks a rule."""


class TemporaryLoginError(TruckeeError):
    """A login could neither be confirmed nor denied; trying again later may work."""


class ConfigError(TruckeeError):
    """A configuration file or option is wrong."""


class OperationCancelledError(TruckeeError):
    """The operation was cancelled by the one who started it."""


class ShuttingDownError(TruckeeError):
    """The node is stopping and takes no new work."""
