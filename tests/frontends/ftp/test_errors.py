"""Every error of core has a reply, and no reply says more than it may."""

import pytest
from twisted.internet.defer import CancelledError
from twisted.logger import formatEvent, globalLogPublisher

from truckee.core import errors
from truckee.frontends.ftp.errors import REPLIES, reply_for


def everything(kind: type) -> set[type]:
    return {kind}.union(*(everything(sub) for sub in kind.__subclasses__()))


OWN = sorted(
    (k for k in everything(errors.TruckeeError) if k.__module__ == errors.__name__),
    key=lambda k: k.__name__,
)


@pytest.mark.parametrize("kind", OWN)
def test_every_error_has_its_own_reply(kind: type[errors.TruckeeError]) -> None:
    code, text = REPLIES[kind]
    assert 400 <= code <= 599
    assert text
    assert len(text) <= 200
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.threat("L1")
def test_the_reply_says_nothing_of_the_errors_own_text() -> None:
    _, text = reply_for(errors.NoSuchChildError("URI:DIR2:secret /etc/passwd"))
    assert "secret" not in text


def test_an_error_that_is_new_is_answered_like_its_base() -> None:
    class NewError(errors.UploadError):
        pass

    assert reply_for(NewError()) == REPLIES[errors.UploadError]


def test_missing_shares_are_450_before_data_and_451_after() -> None:
    assert reply_for(errors.NotEnoughSharesError())[0] == 450
    assert reply_for(errors.NotEnoughSharesError(), started=True)[0] == 451


def test_a_cancelled_operation_is_426() -> None:
    assert reply_for(CancelledError())[0] == 426


def test_a_bug_is_a_number_and_stays_in_the_log() -> None:
    try:
        raise ValueError("URI:CHK:secret")
    except ValueError as error:
        assert reply_for(error, number=lambda: 7) == (451, "internal error, id 7")


def test_the_log_has_the_numbers_behind_a_failure() -> None:
    events: list[dict[str, object]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        reply_for(errors.UploadUnhappinessError("shares could be placed on only 2 server(s)"))
        reply_for(errors.NoSuchChildError("quiet"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = [x for x in events if x.get("log_namespace") == "truckee.frontends.ftp.errors"]
    assert "451" in formatEvent(event)
    assert "only 2 server(s)" in formatEvent(event)
