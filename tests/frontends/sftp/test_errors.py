"""Every error of core has a status, and no text says more than it may."""

import pytest
from twisted.internet.defer import CancelledError
from twisted.logger import formatEvent, globalLogPublisher

from truckee.core import errors
from truckee.frontends.sftp.errors import STATUS, Refused, status_for


def everything(kind: type) -> set[type]:
    return {kind}.union(*(everything(sub) for sub in kind.__subclasses__()))


OWN = sorted(
    (k for k in everything(errors.TruckeeError) if k.__module__ == errors.__name__),
    key=lambda k: k.__name__,
)

# spec: the rows that are not FAILURE
CODES = {
    "NoSuchChildError": 2,
    "NotWriteableError": 3,
    "RepairRequiresWritecapError": 3,
    "SequenceNumberExhaustedError": 3,
    "MustNotBeUnknownRWError": 3,
    "FileProhibited": 3,
}


@pytest.mark.parametrize("kind", OWN)
def test_every_error_has_its_own_status(kind):
    code, text = STATUS[kind]
    assert code == CODES.get(kind.__name__, 4)
    assert 0 < len(text) <= 200
    assert text.isascii()
    assert text.isprintable()
    assert status_for(kind("anything")) == (code, text)


@pytest.mark.threat("L1")
@pytest.mark.parametrize("kind", OWN)
def test_the_text_says_nothing_of_the_errors_own(kind):
    assert "secret" not in status_for(kind("URI:DIR2:secret /etc/passwd"))[1]


def test_an_error_that_is_new_is_answered_like_its_base():
    class NewError(errors.UploadError):
        pass

    assert status_for(NewError()) == STATUS[errors.UploadError]


def test_what_the_protocol_itself_refuses_keeps_its_code():
    assert status_for(Refused(5, "no")) == (5, "no")


def test_what_is_not_there_is_unsupported_and_a_cancelled_request_a_failure():
    assert status_for(NotImplementedError())[0] == 8
    assert status_for(CancelledError())[0] == 4


@pytest.mark.threat("L1")
def test_a_bug_is_a_number_and_stays_in_the_log():
    events: list = []
    globalLogPublisher.addObserver(events.append)
    try:
        raise ValueError("URI:CHK:secret")
    except ValueError as error:
        assert status_for(error, number=lambda: 7) == (4, "internal error, id 7")
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert any("internal error 7" in (formatEvent(event) or "") for event in events)


def test_the_log_has_the_numbers_behind_a_failure():
    events: list = []
    globalLogPublisher.addObserver(events.append)
    try:
        status_for(errors.UploadUnhappinessError("shares could be placed on only 2 server(s)"))
        status_for(errors.NoSuchChildError("quiet"))
        status_for(errors.DownloadStopped("quiet"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = [x for x in events if x.get("log_namespace") == "truckee.frontends.sftp.errors"]
    assert "only 2 server(s)" in formatEvent(event)
