"""Tokens of the directory: only those that the issuer signed, for us and for now; its keys, and how they are got."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ConfigurationError
from serving.auth import Authenticator
from serving.keys import KeyFile
from serving.problems import SigningKeysUnavailable, Unauthenticated
from serving.settings import Settings
from serving.signing_keys import (
    BETWEEN_READS_SECONDS,
    KEPT_SECONDS,
    LARGEST_SET,
    READ_AGAIN_SECONDS,
    SigningKeys,
    parse_keys,
)
from serving.tokens import Groups, TokenReader, token_reader
from tests.issuers import AUDIENCE, ISSUER, NOW_S, Issuer, claims, private_key, public_jwk, segment, token

NOW = NOW_S * 1_000_000
ALGORITHMS = ("RS256", "ES256", "EdDSA")
GROUPS = Groups(groups={"cx-desk": ("agent",), "cx-leads": ("agent", "marketer")})


class Clock:
    """A timer that is set by hand."""

    seconds = 1_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.seconds


@pytest.fixture(scope="module")
def served() -> Iterator[Issuer]:
    """An issuer that answers."""
    with Issuer().serving() as issuer:
        yield issuer


def _keys(location: str, clock: Clock | None = None) -> SigningKeys:
    return SigningKeys(location, timer=clock or Clock(), later=lambda work: work())


def _reader(keys: SigningKeys, groups: Groups = GROUPS, **changes: Any) -> TokenReader:
    deployed = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ALGORITHMS, "leeway_us": 30_000_000}
    return TokenReader(keys=keys, groups=groups, **(deployed | changes))


@pytest.fixture(scope="module")
def reader(served: Issuer) -> TokenReader:
    """What reads its tokens."""
    keys = _keys(served.url)
    keys.refresh()
    return _reader(keys)


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_the_issuer_is_accepted(reader: TokenReader, kind: str) -> None:
    """With each kind of key; who it is about is a hash, and the roles are those of their groups."""
    principal = reader.holder(token(kind=kind, kid=kind), at=NOW)

    assert (principal.source, principal.roles) == ("directory", {"agent"})
    assert principal.key_id.startswith("sub-")
    assert "ada" not in principal.key_id
    assert principal == reader.holder(token(claims(jti="another")), at=NOW)
    assert principal.key_id != reader.holder(token(claims(sub="bob")), at=NOW).key_id


@pytest.mark.parametrize(
    "good",
    [
        token(claims(aud=["another", AUDIENCE])),
        token(claims(nbf=None)),
        token(claims(exp=NOW_S - 29)),
        token(claims(iat=NOW_S + 29, nbf=NOW_S + 29)),
        token(typ="at+jwt"),
        token(typ="JWT"),
        token(typ=None),
        token(jku="https://evil.example.com/keys", x5u="https://evil.example.com/cert", jwk={"kty": "oct", "k": "eA"}),
    ],
    ids=["several audiences", "no nbf", "just expired", "just not yet", "at+jwt", "JWT", "no typ", "own keys"],
)
def test_what_a_token_may_say(reader: TokenReader, good: str) -> None:
    """Clocks may differ by the leeway; where a token says that its keys are is not even looked at."""
    assert reader.holder(good, at=NOW).roles == {"agent"}


def _forged_with_the_public_key() -> str:
    """Signed with HS256, the secret being the public key that everybody has."""
    pem = private_key("RS256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{segment({'alg': 'HS256', 'kid': 'RS256', 'typ': 'JWT'})}.{segment(claims())}"
    return f"{signed}.{segment(hmac.new(pem, signed.encode(), hashlib.sha256).digest())}"


def _with_header(**header: Any) -> str:
    """A good token whose header says something else, with the signature of the good one."""
    _, payload, signature = token().split(".")
    return f"{segment({'alg': 'RS256', 'kid': 'RS256', **header})}.{payload}.{signature}"


def _cut() -> str:
    return token()[:-20]


def _parts(header: Any, payload: Any) -> str:
    return f"{segment(header)}.{segment(payload)}.{segment(b'signature')}"


BAD: dict[str, tuple[Callable[[], str], str]] = {
    "none": (lambda: f"{segment({'alg': 'none', 'kid': 'RS256'})}.{segment(claims())}.", "three parts"),
    "none with a signature": (lambda: _with_header(alg="none"), "signed with 'none'"),
    "None in capitals": (lambda: _with_header(alg="NONE"), "signed with 'NONE'"),
    "no algorithm": (lambda: _with_header(alg=None), "signed with None"),
    "key confusion": (_forged_with_the_public_key, "signed with 'HS256'"),
    "another algorithm of the key": (lambda: token(alg="RS512"), "signed with 'RS512'"),
    "another key's algorithm": (lambda: token(kind="ES256", kid="RS256"), "signed with ES256"),
    "another key": (lambda: token(key=private_key("RS256", 1)), "signature that does not fit"),
    "changed claims": (
        lambda: ".".join([token().split(".")[0], segment(claims(groups=["cx-leads"])), token().split(".")[2]]),
        "signature that does not fit",
    ),
    "truncated": (_cut, "signature that does not fit"),
    "one part": (lambda: "a", "three parts"),
    "two parts": (lambda: token().rpartition(".")[0], "three parts"),
    "empty parts": (lambda: "..", "three parts"),
    "encrypted": (lambda: f"{token()}.{segment(b'a')}.{segment(b'b')}", "three parts"),
    "padded": (lambda: f"{token()}=", "three parts"),
    "no JSON": (lambda: _parts(b"{", {}), "not JSON"),
    "a list": (lambda: _parts([], {}), "no object"),
    "deep": (lambda: _parts(b"[" * 3_000, {}), "not JSON"),
    "a name twice": (lambda: _parts(b'{"alg":"none","alg":"RS256","kid":"RS256"}', claims()), "not JSON"),
    "no UTF-8": (lambda: _parts(b"\xff", {}), "not JSON"),
    "no key id": (lambda: token(kid=None), "does not name its key"),
    "key id of another type": (lambda: _with_header(kid=7), "does not name its key"),
    "another issuer": (lambda: token(claims(iss="https://login.example.com/other")), "from the issuer"),
    "no issuer": (lambda: token(claims(iss=None)), "from the issuer None"),
    "another audience": (lambda: token(claims(aud="api://another")), "is for 'api://another'"),
    "no audience": (lambda: token(claims(aud=None)), "is for None"),
    "part of an audience": (lambda: token(claims(aud=f"{AUDIENCE}/more")), "is for"),
    "expired": (lambda: token(claims(exp=NOW_S - 31)), "has expired"),
    "not yet": (lambda: token(claims(nbf=NOW_S + 31)), "not valid yet"),
    "made in the future": (lambda: token(claims(iat=NOW_S + 31)), "not valid yet"),
    "no exp": (lambda: token(claims(exp=None)), "no time exp"),
    "no iat": (lambda: token(claims(iat=None)), "no time iat"),
    "exp as text": (lambda: token(claims(exp="2099")), "no time exp"),
    "exp as a boolean": (lambda: token(claims(exp=True)), "no time exp"),
    "exp not finite": (lambda: token(json.dumps(claims(exp=float("inf"))).encode()), "not JSON"),
    "exp beyond numbers": (
        lambda: token(json.dumps(claims()).replace(str(NOW_S + 3_600), "1e999").encode()),
        "no time exp",
    ),
    "nbf as text": (lambda: token(claims(nbf="soon")), "no time nbf"),
    "no subject": (lambda: token(claims(sub=None)), "says of nobody"),
    "empty subject": (lambda: token(claims(sub="")), "says of nobody"),
    "another type": (lambda: token(typ="logout+jwt"), "of the type 'logout"),
    "type that is no text": (lambda: _with_header(typ=7), "of the type 7"),
    "critical extension": (lambda: token(crit=["exp"], exp=NOW_S), "crit in its header"),
    "nested": (lambda: token(token().encode(), cty="JWT"), "cty in its header"),
    "payload as it is": (lambda: _with_header(b64=False), "b64 in its header"),
    "huge": (lambda: token(claims(more="x" * 9_000)), "characters; expected at most 8192"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_accepted(reader: TokenReader, name: str) -> None:
    """Each with its own words, and never as an error of ours."""
    made, said = BAD[name]

    with pytest.raises(Unauthenticated, match=r"the token .*; expected ") as caught:
        reader.holder(made(), at=NOW)

    assert said in str(caught.value)


@settings(max_examples=60)
@given(st.text(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
def test_nothing_made_up_gets_in(text: str, header: bytes, payload: bytes) -> None:
    """Whatever is sent is refused, and never fails."""
    keys = parse_keys(json.dumps({"keys": [public_jwk("EdDSA", "EdDSA")]}).encode())
    signing = _keys("/nowhere")
    signing._keys, signing._read_at = keys, 1_000.0
    reader = _reader(signing)

    for made in (text, f"{segment(header)}.{segment(payload)}.{segment(b'sign')}"):
        with pytest.raises(Unauthenticated):
            reader.holder(made, at=NOW)


NESTED = Groups(claim=("realm_access", "roles"), groups={"a": ("admin",)})
NAMED = Groups(claim="https://example.com/groups", groups={"a": ("privacy",)})


@pytest.mark.parametrize(
    ("groups", "told", "roles"),
    [
        (GROUPS, {"groups": ["cx-leads", "unknown", 7]}, {"agent", "marketer"}),
        (GROUPS, {"groups": "cx-desk"}, {"agent"}),
        (GROUPS, {"groups": ["unknown"]}, set()),
        (GROUPS, {"groups": {"cx-desk": True}}, set()),
        (GROUPS, {}, set()),
        (NESTED, {"realm_access": {"roles": ["a"]}}, {"admin"}),
        (NESTED, {"realm_access": ["a"]}, set()),
        (NAMED, {"https://example.com/groups": ["a"]}, {"privacy"}),
    ],
)
def test_roles_come_from_groups(groups: Groups, told: dict[str, Any], roles: set[str]) -> None:
    """And from nothing else; who is in no group that has one has none."""
    assert groups.roles(told) == roles


# ---- the keys


def test_unknown_keys_are_asked_for_once_a_minute() -> None:
    """A flood of tokens with made-up keys makes one fetch a minute, and a new key of the issuer is found."""
    clock = Clock()
    with Issuer().serving() as issuer:
        keys = _keys(issuer.url, clock)
        keys.refresh()
        reader = _reader(keys)
        clock.seconds += BETWEEN_READS_SECONDS
        for number in range(200):
            with pytest.raises((Unauthenticated, SigningKeysUnavailable)):
                reader.holder(token(kid=f"made-up-{number}"), at=NOW)
        assert issuer.asked == 2

        issuer.keys.append(public_jwk("RS256", "next", 1))
        new = token(kid="next", key=private_key("RS256", 1))
        clock.seconds += BETWEEN_READS_SECONDS
        with pytest.raises(SigningKeysUnavailable):
            reader.holder(new, at=NOW)

        assert reader.holder(new, at=NOW).roles == {"agent"}
        assert issuer.asked == 3


def test_no_call_waits_for_the_issuer() -> None:
    """While the keys are being read whoever needs them is told to come back; nobody else notices."""
    begun: list[Callable[[], object]] = []
    with Issuer().serving() as issuer:
        keys = SigningKeys(issuer.url, timer=Clock(), later=begun.append)
        reader = _reader(keys)

        for _ in range(3):
            with pytest.raises(SigningKeysUnavailable, match="ask again"):
                reader.holder(token(), at=NOW)
        assert (len(begun), issuer.asked) == (1, 0)

        begun[0]()
        assert reader.holder(token(), at=NOW).roles == {"agent"}


@pytest.mark.parametrize(
    "broken",
    [
        {"status": 500},
        {"status": 302, "location": "http://127.0.0.1:9/elsewhere"},
        {"body": b"<html>"},
        {"body": b'{"keys": []}'},
        {"body": b"[1]"},
        {"body": b"[" * 100_000},
        {"body": b" " * (LARGEST_SET + 1)},
    ],
    ids=["down", "elsewhere", "a page", "no keys", "no set", "deep", "huge"],
)
def test_the_last_good_keys_stay(broken: dict[str, Any]) -> None:
    """For a day, whatever the issuer answers; then no token is accepted, until it does."""
    clock = Clock()
    with Issuer().serving() as issuer:
        keys = _keys(issuer.url, clock)
        keys.refresh()
        reader = _reader(keys)
        for name, value in broken.items():
            setattr(issuer, name, value)

        clock.seconds += READ_AGAIN_SECONDS
        keys.refresh()
        assert issuer.asked == 2
        assert reader.holder(token(), at=NOW).roles == {"agent"}

        clock.seconds += KEPT_SECONDS
        with pytest.raises(SigningKeysUnavailable):
            reader.holder(token(), at=NOW)

        issuer.status, issuer.body, issuer.location = 200, None, None
        clock.seconds += BETWEEN_READS_SECONDS
        keys.refresh()
        assert reader.holder(token(), at=NOW).roles == {"agent"}


def test_keys_may_lie_in_a_file(tmp_path: Path) -> None:
    """Nothing is fetched then; a new file is taken up."""
    path, clock = tmp_path / "jwks.json", Clock()
    keys = _keys(str(path), clock)
    reader = _reader(keys)
    with pytest.raises(SigningKeysUnavailable):
        reader.holder(token(), at=NOW)

    path.write_text(json.dumps({"keys": [public_jwk("RS256", "RS256")]}))
    clock.seconds += BETWEEN_READS_SECONDS
    keys.refresh()

    assert reader.holder(token(), at=NOW).roles == {"agent"}


def test_only_public_keys_that_are_strong_enough_are_used() -> None:
    """Secrets, private and short keys, keys for encryption, and keys without a name are passed over."""
    good = public_jwk("RS256", "good")
    listed = [
        good,
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        public_jwk("short RSA", "short"),
        public_jwk("RS256", "private", d="AQAB"),
        public_jwk("RS256", "encryption") | {"use": "enc"},
        public_jwk("RS256", "wrapping", key_ops=["wrapKey"]),
        public_jwk("RS256", "odd", key_ops=7),
        public_jwk("RS256", "other", alg="HS256"),
        {name: value for name, value in good.items() if name != "kid"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "no point"},
        {"kty": "RSA", "kid": "no numbers"},
        7,
    ]

    found = parse_keys(json.dumps({"keys": listed}).encode())

    assert list(found) == ["good"]


def test_a_key_for_one_algorithm_is_for_no_other() -> None:
    """Where the issuer says what a key is for."""
    found = parse_keys(json.dumps({"keys": [public_jwk("RS256", "one", alg="PS256")]}).encode())

    assert found["one"].algorithms == {"PS256"}


# ---- in a deployment


def _environment(tmp_path: Path, **changes: str) -> dict[str, str]:
    roles = tmp_path / "roles.yaml"
    roles.write_text("groups: {cx-desk: [agent]}\n")
    return {
        "HEADWAY_OIDC_ISSUER": ISSUER,
        "HEADWAY_OIDC_AUDIENCE": AUDIENCE,
        "HEADWAY_OIDC_JWKS": str(tmp_path / "jwks.json"),
        "HEADWAY_OIDC_ROLES": str(roles),
    } | changes


def test_the_settings_make_a_reader(tmp_path: Path) -> None:
    """With the file of roles; without an issuer there is none, and nothing is fetched."""
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public_jwk("ES256", "ES256")]}))
    reader = token_reader(Settings.from_environment(_environment(tmp_path)))
    assert reader is not None

    reader.refresh()

    assert reader.holder(token(kind="ES256", kid="ES256"), at=NOW).roles == {"agent"}
    assert token_reader(Settings()) is None


def test_all_settings_of_tokens_are_needed_together(tmp_path: Path) -> None:
    """An issuer without an audience would accept what was made for somebody else."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(
            _environment(tmp_path, HEADWAY_OIDC_AUDIENCE="", HEADWAY_OIDC_JWKS="http://a.example")
        )

    assert [one.path for one in caught.value.problems] == ["HEADWAY_OIDC_JWKS", "HEADWAY_OIDC_AUDIENCE"]


@pytest.mark.parametrize("names", ["HS256", "none", "RS256,HS256", ""])
def test_no_shared_secret_can_be_allowed(tmp_path: Path, names: str) -> None:
    """The list of what may be allowed is fixed; empty means the default."""
    env = _environment(tmp_path, HEADWAY_OIDC_ALGORITHMS=names)
    if not names:
        assert Settings.from_environment(env).oidc_algorithms == ("RS256", "ES256", "EdDSA")
        return

    with pytest.raises(ConfigurationError, match="HEADWAY_OIDC_ALGORITHMS"):
        Settings.from_environment(env)


def test_a_group_with_an_unknown_role_stops_the_start(tmp_path: Path) -> None:
    """With the file and what it may say."""
    env = _environment(tmp_path)
    (tmp_path / "roles.yaml").write_text("groups: {cx-desk: [boss]}\n")

    with pytest.raises(ConfigurationError, match=r"roles\.yaml"):
        token_reader(Settings.from_environment(env))


def test_tokens_come_as_bearer_only(tmp_path: Path, reader: TokenReader) -> None:
    """Not as the user of Basic; keys go on beside them."""
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.create(source="crm", roles=["caller"], secret=bytes(range(36)), at=NOW)
    authenticator = Authenticator(keys, None, clock=lambda: NOW, tokens=reader)
    assert authenticator.principal(f"Bearer {token()}").source == "directory"
    assert authenticator.principal(f"Bearer {key}").source == "crm"
    with pytest.raises(Unauthenticated, match="the API key is unknown"):
        authenticator.tracking_principal(f"Basic {b64encode(f'{token()}:'.encode()).decode()}")
