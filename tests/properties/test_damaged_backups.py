"""A backup that is damaged anywhere is refused, and nothing is put in place of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.backup_file import BackupReader, open_backup
from features.errors import Refused, StoreCorrupted
from features.home import Home
from models.restore import restore_backup
from tests.backups import backed_up, edited, small_home
from tests.doors import NOW


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small backup."""
    folder = tmp_path_factory.mktemp("small")
    return backed_up(small_home(folder / "home", events=1), folder / "backup.zip").path


def _refused(data: bytes, folder: Path) -> bool:
    damaged, home = folder / "damaged.zip", Home(folder / "restored")
    damaged.write_bytes(data)
    with pytest.raises(Refused):
        restore_backup(damaged, home, at=NOW)
    return not home.root.exists()


@given(data=st.data())
def test_a_cut_backup_is_refused(backup: Path, data: st.DataObject) -> None:
    """At whatever byte."""
    whole = backup.read_bytes()
    size = data.draw(st.integers(0, len(whole) - 1))

    assert _refused(whole[:size], backup.parent)


@given(data=st.data())
def test_a_backup_with_other_bytes_is_refused(backup: Path, data: st.DataObject) -> None:
    """Changed, or put in between; in what it holds, in what the zip says of it, or in the seal."""
    whole = bytearray(backup.read_bytes())
    for place, change in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(1, 255)), min_size=1)
    ):
        whole[place] ^= change
    at = data.draw(st.integers(0, len(whole)))
    more = data.draw(st.binary(max_size=3))
    damaged = bytes(whole[:at]) + more + bytes(whole[at:])

    if damaged != backup.read_bytes():
        assert _refused(damaged, backup.parent)


@settings(max_examples=30)
@given(data=st.data())
def test_a_forged_backup_is_refused_or_comes_to_the_same(backup: Path, data: st.DataObject) -> None:
    """Bytes changed under a seal that fits: nothing but refusals, or what the zip says twice or to nobody."""
    forged, home = bytearray(backup.read_bytes()[:-64]), Home(backup.parent / "forged")
    changes = st.tuples(st.integers(0, len(forged) - 1), st.integers(1, 255))
    for place, change in data.draw(st.lists(changes, min_size=1, max_size=4)):
        forged[place] ^= change
    strange = backup.parent / "forged.zip"
    strange.write_bytes(bytes(forged) + sha256(forged).hexdigest().encode())

    try:
        restore_backup(strange, home, at=NOW)
    except (Refused, StoreCorrupted):
        assert not home.root.exists()
    else:
        with open_backup(strange) as changed, open_backup(backup) as sound:
            assert changed.manifest == sound.manifest
        shutil.rmtree(home.root)


_OTHER = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=2), st.just({})
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for step, one in steps for below in _places(one, (*path, step)))]


def _replacing(data: st.DataObject) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
        *steps, last = data.draw(st.sampled_from([one for one in _places(manifest) if one]))
        place: Any = manifest
        for step in steps:
            place = place[step]
        place[last] = data.draw(_OTHER)

    return change


@settings(max_examples=50)
@given(data=st.data())
def test_a_backup_whose_manifest_was_edited_is_refused_or_comes_to_the_same(backup: Path, data: st.DataObject) -> None:
    """Also under a seal that fits: nothing but refusals; what tells of the backup alone may say anything."""
    home, strange = Home(backup.parent / "strange"), backup.parent / "strange.zip"
    edited(backup, strange, _replacing(data))

    try:
        restore_backup(strange, home, at=NOW)
    except (Refused, StoreCorrupted):
        assert not home.root.exists()
    else:
        with open_backup(strange) as changed, open_backup(backup) as sound:
            assert _contents(changed) <= _contents(sound)
        shutil.rmtree(home.root)


def _contents(backup: BackupReader) -> set[tuple[str, int, str]]:
    return {(one.name, one.size, one.sha256) for one in backup.manifest.files}
