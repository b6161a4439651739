"""Checks of a home's files: what others can read, what cannot be written, and what was left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from features.file_checks import compiled_code_folder, left_overs, privacy, running_user, secret_files, writable
from features.home import Home

NOW = 1_800_000_000 * 1_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home for its owner alone."""
    home = Home(tmp_path / "home").create()
    home.root.chmod(0o750)
    return home


def test_a_home_that_everybody_can_enter_is_told(home: Home) -> None:
    """With the command that mends it."""
    assert privacy(home).status == "ok"

    home.root.chmod(0o755)

    finding = privacy(home)
    assert (finding.status, finding.remedy) == ("warning", f"chmod o-rwx {home.root}")


def test_a_secret_that_others_can_read_fails(home: Home) -> None:
    """Also the group."""
    keys, other = home.state / "keys.json", home.state / "none.json"
    assert secret_files([keys, other]).status == "not_applicable"
    keys.touch(mode=0o600)
    assert secret_files([keys, other]).status == "ok"

    keys.chmod(0o640)

    finding = secret_files([keys, other])
    assert (finding.status, finding.remedy) == ("failed", f"chmod 600 {keys}")


def test_what_cannot_be_written_fails(home: Home) -> None:
    """It is named, with the user."""
    home.records_db.touch()

    assert writable(home).status == "ok"
    finding = writable(home, lambda path: path != home.records_db)
    assert (finding.status, finding.found) == (
        "failed",
        f"{home.records_db} cannot be written by user {os.geteuid()}",
    )


def test_a_home_that_is_a_file_fails(tmp_path: Path) -> None:
    """It can be no folder, nor hold one."""
    (tmp_path / "file").touch()

    assert writable(Home(tmp_path / "file")).status == "failed"
    assert writable(Home(tmp_path / "file" / "home")).status == "failed"
    assert writable(Home(tmp_path / "none" / "home")).status == "ok"


def test_root_and_strangers_are_told(home: Home) -> None:
    """What they find need not be what the service finds."""
    owner = home.root.stat().st_uid

    assert running_user(home, 0).found == "this is run by root"
    assert (
        running_user(home, owner + 1).found
        == f"this is run by user {owner + 1}, and {home.root} belongs to user {owner}"
    )
    if owner != 0:
        assert running_user(home, owner).status == "ok"


def test_a_folder_for_compiled_code_that_cannot_be_written_is_told(home: Home, tmp_path: Path) -> None:
    """The home's own, or the operator's."""
    assert compiled_code_folder(home, None).status == "ok"
    (tmp_path / "file").touch()

    assert compiled_code_folder(home, str(tmp_path / "file")).status == "warning"


def test_folders_of_killed_commands_are_told_once_they_are_old(home: Home) -> None:
    """A young one may be in use; the remedy names them all."""
    old, young = home.state / "headway-old one", home.state / "headway-young"
    for folder, age in ((old, 3_700), (young, 3_500)):
        folder.mkdir()
        os.utime(folder, (NOW // 1_000_000 - age,) * 2)

    finding = left_overs(home, NOW)

    assert (finding.status, finding.remedy) == ("warning", f"delete them: rm -r '{old}'")
    old.rmdir()
    assert left_overs(home, NOW).status == "ok"
