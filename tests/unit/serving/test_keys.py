"""API keys over time: rotated with two valid secrets, ended, publishable, and last used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from features.errors import InvalidInput, Refused, StoreCorrupted
from serving.key_use import KeyUse
from serving.keys import LONGEST_OVERLAP_US, KeyFile

AT = 1_772_366_400_000_000
DAY_US = 86_400_000_000
SECRETS = [bytes([number]) * 36 for number in range(1, 9)]
PAGE = "https://www.example.com"


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """The keys of a home."""
    return KeyFile(tmp_path / "keys.json")


def _created(keys: KeyFile, number: int = 0, source: str = "crm", **more: object) -> str:
    told = {"roles": ["caller"]} if "origins" not in more else {"roles": []}
    return keys.create(source=source, secret=SECRETS[number], at=AT, **(told | more))  # type: ignore[arg-type]  # a test


def test_both_secrets_are_valid_until_the_overlap_ends(keys: KeyFile) -> None:
    """Callers change over one by one; the key, its source and its roles stay the same."""
    old = _created(keys)
    new = keys.rotate("01010101", secret=SECRETS[1], at=AT, overlap_us=2 * DAY_US)

    during = [keys.holder(one, at=AT + 2 * DAY_US - 1) for one in (old, new)]
    after = [keys.holder(one, at=AT + 2 * DAY_US) for one in (old, new)]

    assert new.startswith("hw_01010101_")
    assert during[0] == during[1] is not None
    assert after == [None, during[0]]


def test_a_key_never_has_three_secrets(keys: KeyFile) -> None:
    """Rotating again ends what the rotation before had left."""
    first = _created(keys)
    second = keys.rotate("01010101", secret=SECRETS[1], at=AT, overlap_us=DAY_US)
    third = keys.rotate("01010101", secret=SECRETS[2], at=AT + 1, overlap_us=DAY_US)

    assert [keys.holder(one, at=AT + 2) is not None for one in (first, second, third)] == [False, True, True]


def test_no_overlap_ends_the_old_secret_at_once(keys: KeyFile) -> None:
    """For one that was lost."""
    old = _created(keys)
    new = keys.rotate("01010101", secret=SECRETS[1], at=AT, overlap_us=0)

    assert [keys.holder(one, at=AT) is not None for one in (old, new)] == [False, True]


def test_revoking_ends_all_secrets(keys: KeyFile) -> None:
    """Also during a rotation."""
    both = [_created(keys), keys.rotate("01010101", secret=SECRETS[1], at=AT, overlap_us=DAY_US)]

    keys.revoke("01010101", at=AT)

    assert [keys.holder(one, at=AT) for one in both] == [None, None]


def test_a_key_ends(keys: KeyFile) -> None:
    """With all its secrets, and is not rotated any more."""
    key = _created(keys, expires_at=AT + DAY_US)

    assert keys.holder(key, at=AT + DAY_US - 1) is not None
    assert keys.holder(key, at=AT + DAY_US) is None
    with pytest.raises(Refused, match=r"key 01010101 is expired .*; expected a valid one"):
        keys.rotate("01010101", secret=SECRETS[1], at=AT + DAY_US, overlap_us=0)


@pytest.mark.parametrize("overlap", [-1, LONGEST_OVERLAP_US + 1])
def test_an_overlap_is_bounded(keys: KeyFile, overlap: int) -> None:
    """A rotation that never ends is none."""
    _created(keys)

    with pytest.raises(Refused, match="expected 0 to 90 days"):
        keys.rotate("01010101", secret=SECRETS[1], at=AT, overlap_us=overlap)


def test_no_secret_is_kept(keys: KeyFile, tmp_path: Path) -> None:
    """Neither of both."""
    made = [_created(keys), keys.rotate("01010101", secret=SECRETS[1], at=AT, overlap_us=DAY_US)]
    content = (tmp_path / "keys.json").read_text()

    assert [one.rpartition("_")[2] in content for one in made] == [False, False]


def test_a_publishable_key_has_origins_and_no_role(keys: KeyFile) -> None:
    """And may say what it is allowed to."""
    key = _created(keys, source="shop", origins=[PAGE], rights=["profile"])
    found = keys.holder(key, at=AT)

    assert found is not None
    assert (found.is_public, found.roles, found.rights, found.origins) == (True, set(), {"profile"}, {PAGE})
    assert keys.origins() == {PAGE}


def test_what_cannot_be_a_key(keys: KeyFile) -> None:
    """Every problem at once, with what is allowed."""
    _created(keys, 5, source="web")
    with pytest.raises(InvalidInput) as caught:
        keys.create(
            source="web",
            roles=["caller", "boss"],
            rights=["all"],
            origins=["https://www.example.com/", "*", "null", "www.example.com", "https://[::1"],
            expires_at=AT,
            secret=SECRETS[0],
            at=AT,
        )

    assert [one.path for one in caught.value.problems] == [
        *("source", "role", "may", "role"),
        *["origin"] * 5,
        "expires",
    ]


def test_a_source_is_not_shared_with_a_page(keys: KeyFile) -> None:
    """Whoever reads the page could send under ids of the company's own events; a revoked key shares nothing."""
    _created(keys, source="web")
    with pytest.raises(InvalidInput, match="the key cannot be made"):
        _created(keys, 1, source="web", origins=[PAGE])

    keys.revoke("01010101", at=AT)

    assert keys.holder(_created(keys, 1, source="web", origins=[PAGE]), at=AT) is not None


@pytest.mark.parametrize("source", ["directory", "bootstrap"])
def test_some_sources_are_taken(keys: KeyFile, source: str) -> None:
    """Those of tokens and of the first steps."""
    with pytest.raises(InvalidInput):
        _created(keys, source=source)


def test_keys_of_an_older_release_are_read(keys: KeyFile, tmp_path: Path) -> None:
    """As they were."""
    key = _created(keys)
    path = tmp_path / "keys.json"
    content = json.loads(path.read_text())
    content["format"] = 1
    for one in content["keys"]:
        one["revoked_at"] = None
    path.write_text(json.dumps(content))

    assert KeyFile(path).holder(key, at=AT) == keys.holder(key, at=AT)


def test_keys_of_a_later_release_are_refused(keys: KeyFile, tmp_path: Path) -> None:
    """What they mean is not known, and they let nobody in."""
    _created(keys)
    path = tmp_path / "keys.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))

    with pytest.raises(StoreCorrupted, match="a later release wrote it"):
        KeyFile(path).keys()


def test_use_is_noted_without_a_write(tmp_path: Path) -> None:
    """Written down when it is saved; what another process saved stays; only what was valid counts."""
    use = KeyUse(tmp_path / "use.json")
    keys = KeyFile(tmp_path / "keys.json", use)
    key, other = _created(keys), _created(keys, 1)
    keys.holder(key, at=AT)
    keys.holder(key, at=AT + 1)
    keys.holder("hw_02020202_wrong", at=AT + 2)
    assert not (tmp_path / "use.json").exists()

    use.save()
    second = KeyUse(tmp_path / "use.json")
    KeyFile(tmp_path / "keys.json", second).holder(other, at=AT + 3)
    second.save()

    assert use.saved() == {
        "01010101": "2026-03-01T12:00:00.000001Z",
        "02020202": "2026-03-01T12:00:00.000003Z",
    }


def test_a_damaged_note_of_use_counts_as_none(tmp_path: Path) -> None:
    """Nothing depends on it."""
    (tmp_path / "use.json").write_bytes(b"{")
    use = KeyUse(tmp_path / "use.json")
    use.note("k", AT)

    use.save()

    assert list(use.saved()) == ["k"]
