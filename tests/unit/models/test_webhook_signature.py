"""Signatures of webhooks: known answers, and everything that must not be trusted."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.webhook_signature import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    WrongSignature,
    check_signature,
    secret_key,
    signature,
    signed_headers,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = secret_key(SECRET)
BODY = b'{"test": 2432232314}'
AT = 1614265330


def test_the_published_example_is_signed_alike() -> None:
    """Secret, id, time and body that libraries of Standard Webhooks test with give their signature."""
    found = signature(KEY, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=AT, body=BODY)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_was_signed_is_trusted() -> None:
    """Within the tolerance, whatever the case of the headers."""
    headers = {name.upper(): value for name, value in _headers().items()}
    check_signature(KEY, headers, BODY, now=AT + 300)
    check_signature(KEY, headers, BODY, now=AT - 300)


@pytest.mark.parametrize("now", [AT + 301, AT - 301])
def test_an_old_message_is_not_trusted(now: int) -> None:
    """Nor one from the future: it may be sent again by whoever saw it."""
    with pytest.raises(WrongSignature, match="more than 300 s"):
        check_signature(KEY, _headers(), BODY, now=now)


@pytest.mark.parametrize(
    "change",
    [
        {ID_HEADER: "msg_other"},
        {TIMESTAMP_HEADER: str(AT + 1)},
        {SIGNATURE_HEADER: "v1,AAAA"},
        {SIGNATURE_HEADER: "v1a,g0hM9SsE"},
        {SIGNATURE_HEADER: "v1,ü"},
    ],
)
def test_what_was_changed_is_not_trusted(change: dict[str, str]) -> None:
    """Id and time are signed with the body."""
    with pytest.raises(WrongSignature, match="no signature fits"):
        check_signature(KEY, {**_headers(), **change}, BODY, now=AT)


@pytest.mark.parametrize("name", [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER])
def test_every_header_is_needed(name: str) -> None:
    """The message names the one that is missing."""
    headers = _headers()
    del headers[name]
    with pytest.raises(WrongSignature, match=name):
        check_signature(KEY, headers, BODY, now=AT)


@pytest.mark.parametrize("stamp", ["soon", "-1", "1e9", "\u0661"])
def test_a_time_is_a_whole_number(stamp: str) -> None:
    """Digits of ASCII only, as they were signed."""
    with pytest.raises(WrongSignature, match="expected seconds"):
        check_signature(KEY, {**_headers(), TIMESTAMP_HEADER: stamp}, BODY, now=AT)


def test_one_of_several_signatures_is_enough() -> None:
    """While a secret is changed, messages bear one of the old and one of the new."""
    headers = _headers()
    headers[SIGNATURE_HEADER] = f"v1,AAAA {headers[SIGNATURE_HEADER]}"
    check_signature(KEY, headers, BODY, now=AT)


@pytest.mark.parametrize("identity", ["", "a.b"])
def test_an_id_parts_from_the_time(identity: str) -> None:
    """With a full stop in it two messages could have one signature."""
    with pytest.raises(ValueError, match="without a full stop"):
        signature(KEY, message_id=identity, timestamp=AT, body=BODY)


@pytest.mark.parametrize(
    "text",
    ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "?" * 32, "whsec_" + "A" * 100],
)
def test_a_bad_secret_is_refused_unseen(text: str) -> None:
    """The message says what is expected and never what was given."""
    with pytest.raises(ValueError, match="the base64 of 24 to 64 bytes") as caught:
        secret_key(text)
    assert text.removeprefix("whsec_") not in str(caught.value) or text in ("", "whsec_")


@given(key=st.binary(min_size=24, max_size=64), body=st.binary(max_size=200), flipped=st.integers(min_value=0))
def test_any_body_is_trusted_whole_and_only_whole(key: bytes, body: bytes, flipped: int) -> None:
    """Whatever the bytes, one flipped bit is noticed; the secret's text gives its bytes back."""
    assert secret_key("whsec_" + base64.b64encode(key).decode()) == key
    headers = signed_headers(key, message_id="msg_1", timestamp=AT, body=body)
    check_signature(key, headers, body, now=AT)
    changed = bytearray(body or b"\0")
    changed[flipped % len(changed)] ^= 1
    with pytest.raises(WrongSignature):
        check_signature(key, headers, bytes(changed), now=AT)


def _headers() -> dict[str, str]:
    return signed_headers(KEY, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=AT, body=BODY)
