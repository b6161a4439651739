"""API keys: shown once, kept hashed, bound to a source and roles, gone when revoked."""

from __future__ import annotations

import stat
from base64 import b64encode
from pathlib import Path

import pytest

from features.errors import InvalidInput, StoreCorrupted, UnknownObject
from serving.access import rule_of
from serving.auth import Authenticator, Principal
from serving.keys import KeyFile
from serving.problems import Forbidden, Unauthenticated

AT = 1_700_000_000_000_000
SECRET = bytes(range(36))
BOOTSTRAP = "hw_bootstrap_0123456789"


def _created(path: Path, *, roles: tuple[str, ...] = ("caller",), secret: bytes = SECRET) -> str:
    return KeyFile(path).create(source="crm", roles=roles, secret=secret, at=AT)


def test_a_created_key_tells_its_source_and_roles(tmp_path: Path) -> None:
    """The source of events and decisions comes from the key."""
    key = _created(tmp_path / "keys.json", roles=("caller", "analyst"))

    principal = Authenticator(KeyFile(tmp_path / "keys.json"), None, clock=lambda: AT).principal(f"Bearer {key}")

    assert principal == Principal("00010203", "crm", frozenset({"caller", "analyst"}))


def test_the_key_itself_is_not_kept(tmp_path: Path) -> None:
    """Who reads the file cannot call with it, and others cannot read the file."""
    key = _created(tmp_path / "keys.json")

    assert key.encode() not in (tmp_path / "keys.json").read_bytes()
    assert key.rpartition("_")[2].encode() not in (tmp_path / "keys.json").read_bytes()
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic aGk6aG8=",
        "Bearer hw_00010203_wrong",
        "Bearer hw_ffffffff_00",
        "Bearer hw_",
        "Bearer \udcff",
    ],
)
def test_anything_but_a_valid_key_is_refused(tmp_path: Path, header: str | None) -> None:
    """Missing, malformed, unknown and wrong keys are all turned away."""
    _created(tmp_path / "keys.json")
    authenticator = Authenticator(KeyFile(tmp_path / "keys.json"), BOOTSTRAP, clock=lambda: AT)

    with pytest.raises(Unauthenticated, match="expected"):
        authenticator.principal(header)


def _basic(credentials: str) -> str:
    return f"Basic {b64encode(credentials.encode()).decode()}"


def test_a_tracking_sdk_may_send_the_key_as_a_user(tmp_path: Path) -> None:
    """Basic without a password says the same as a bearer, there and only there."""
    key = _created(tmp_path / "keys.json")
    authenticator = Authenticator(KeyFile(tmp_path / "keys.json"), BOOTSTRAP, clock=lambda: AT)

    found = [authenticator.tracking_principal(one) for one in (_basic(f"{key}:"), f"Bearer {key}")]

    assert [one.source for one in found] == ["crm", "crm"]
    assert authenticator.tracking_principal(_basic(f"{BOOTSTRAP}:")).roles == {"admin"}
    with pytest.raises(Unauthenticated, match="expected `Authorization: Bearer"):
        authenticator.principal(_basic(f"{key}:"))


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "Basic", "Basic ", "Basic ???", "Basic /w==", "Basic \udcff"),
        *(_basic(one) for one in ("", ":", BOOTSTRAP, f"{BOOTSTRAP}:x", f":{BOOTSTRAP}", "hw_00010203_wrong:")),
    ],
)
def test_anything_but_a_key_as_user_is_refused(tmp_path: Path, header: str | None) -> None:
    """No user, a password, or nothing that is base64."""
    _created(tmp_path / "keys.json")
    authenticator = Authenticator(KeyFile(tmp_path / "keys.json"), BOOTSTRAP, clock=lambda: AT)

    with pytest.raises(Unauthenticated, match="expected"):
        authenticator.tracking_principal(header)


def test_a_revoked_key_stops_working_without_a_restart(tmp_path: Path) -> None:
    """A running service sees what another process revoked."""
    key = _created(tmp_path / "keys.json")
    authenticator = Authenticator(KeyFile(tmp_path / "keys.json"), None, clock=lambda: AT)
    authenticator.principal(f"Bearer {key}")

    KeyFile(tmp_path / "keys.json").revoke("00010203", at=AT)

    with pytest.raises(Unauthenticated):
        authenticator.principal(f"Bearer {key}")


def test_revoking_again_keeps_the_first_time(tmp_path: Path) -> None:
    """The file says since when a key is invalid."""
    _created(tmp_path / "keys.json")
    keys = KeyFile(tmp_path / "keys.json")
    first = keys.revoke("00010203", at=AT)

    again = keys.revoke("00010203", at=AT + 1_000_000)

    assert again == first


def test_revoking_an_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    """A typing mistake is answered with what there is."""
    _created(tmp_path / "keys.json")

    with pytest.raises(UnknownObject, match="no key ff; expected one of 00010203"):
        KeyFile(tmp_path / "keys.json").revoke("ff", at=AT)


def test_keys_are_kept_beside_each_other(tmp_path: Path) -> None:
    """Making a key takes none away."""
    first = _created(tmp_path / "keys.json")
    second = _created(tmp_path / "keys.json", secret=bytes(reversed(SECRET)))
    authenticator = Authenticator(KeyFile(tmp_path / "keys.json"), None, clock=lambda: AT)

    assert authenticator.principal(f"Bearer {first}").key_id == "00010203"
    assert authenticator.principal(f"Bearer {second}").key_id == "23222120"


def test_the_bootstrap_key_is_admin(tmp_path: Path) -> None:
    """The first steps need no file."""
    principal = Authenticator(KeyFile(tmp_path / "keys.json"), BOOTSTRAP, clock=lambda: AT).principal(
        f"bearer {BOOTSTRAP}"
    )

    assert principal == Principal("bootstrap", "bootstrap", frozenset({"admin"}))


def test_a_source_or_role_that_is_not_valid_is_refused(tmp_path: Path) -> None:
    """Both problems are named, with what is allowed."""
    with pytest.raises(InvalidInput) as caught:
        KeyFile(tmp_path / "keys.json").create(source="bootstrap", roles=["boss"], secret=SECRET, at=AT)

    assert [problem.path for problem in caught.value.problems] == ["source", "role"]
    assert not (tmp_path / "keys.json").exists()


def test_a_damaged_key_file_is_told(tmp_path: Path) -> None:
    """A damaged file lets nobody in, and is not taken for an empty one."""
    (tmp_path / "keys.json").write_bytes(b'{"format": 1, "keys": [')

    with pytest.raises(StoreCorrupted, match=r"keys\.json is no key file"):
        KeyFile(tmp_path / "keys.json").keys()


def test_a_role_is_required() -> None:
    """A key may do what its roles say, and nothing else."""
    analyst = Principal("k", "crm", frozenset({"analyst"}))

    rule_of("GET", "/v1/models").require(analyst)
    with pytest.raises(Forbidden, match="key k has the roles analyst; expected one of admin, caller"):
        rule_of("PUT", "/v1/workforce").require(analyst)


def test_admin_may_do_everything() -> None:
    """Admin needs no other role."""
    rule_of("PUT", "/v1/workforce").require(Principal("k", "crm", frozenset({"admin"})))
