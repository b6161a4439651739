"""``headway accept-loss``: deliberate, by the code of the refusal, and never while somebody writes the store."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from features.errors import HomeLocked, Refused, StoreCorrupted
from features.event_store import SqlEventLog
from features.home import HOME_VARIABLE, Home
from features.store_commands import accept_loss
from tests.histories import event


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose log lost its file."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    home = Home(tmp_path).create()
    with closing(SqlEventLog(home.events_db)) as log:
        log.append([event("e-1")])
    home.events_db.unlink()
    return home


def _code(home: Home) -> str:
    with pytest.raises(StoreCorrupted) as refused:
        SqlEventLog(home.events_db)
    found = re.search(r"`headway accept-loss events (\w+)`", str(refused.value))
    assert found is not None
    return found[1]


def test_what_the_refusal_says_is_what_works(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """The store begins anew, and the head that was given up stays."""
    code = _code(home)

    accept_loss("events", code)

    assert f"kept in events.head.given-up-{code}" in capsys.readouterr().out
    with closing(SqlEventLog(home.events_db)) as log:
        assert log.head() == 0
    assert (home.state / f"events.head.given-up-{code}").is_file()


def test_another_code_another_store_and_another_writer_are_refused(home: Home) -> None:
    """Nothing is given up by mistake."""
    code = _code(home)
    with pytest.raises(Refused, match=f"has the code {code}, not 00000000"):
        accept_loss("events", "00000000")
    with pytest.raises(Refused, match="there is no store online; expected one of events, records"):
        accept_loss("online", code)
    accept_loss("events", code)
    with closing(SqlEventLog(home.events_db)), pytest.raises(HomeLocked):
        accept_loss("events", code)
