"""The marketers' page is followed to the letter: every block of shell, against a service as people run it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from features.home import Home
from models.record_store import open_record_store
from tests.integration.serving.test_process import KEY, Service
from tests.pages import DOCS, Followed, calm_home, follow, section, steps_of

PAGE = (DOCS / "how-to" / "marketer.md").read_text(encoding="utf-8")
FIRST_STEPS = (DOCS / "first-steps" / "caller.md").read_text(encoding="utf-8")
RENDERING = section(PAGE, "Ask at render time")
EVENTS = steps_of(section(FIRST_STEPS, "4. Send three events"))
PATIENCE = (("--max-time 0.6", "--max-time 30"), (r"_ms\": 500", r"_ms\": 20000"))
"""Time limits of the page, and those of a machine that is busy with tests."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of the service that the page is followed against."""
    return calm_home(tmp_path_factory.mktemp("marketer") / "home")


@pytest.fixture(scope="module")
def followed(home: Home) -> Iterator[list[Followed]]:
    """What came of each block, one after the other in one shell, after the customer's events."""
    service = Service(home.root)
    try:
        service.wait_until_ready()
        environment = {"HEADWAY_HOME": str(home.root), "URL": service.url, "KEY": KEY}
        yield follow([*EVENTS, *steps_of(PAGE)], home.root.parent, environment=environment, changes=PATIENCE)
    finally:
        service.kill()


def _of(followed: list[Followed], text: str) -> Followed:
    """The step of the page that says something."""
    (found,) = [one for one in followed if text in one.step.commands]
    return found


def test_the_commands_ask_what_the_template_asks() -> None:
    """Whoever copies one or the other gets the same."""
    template = re.search(r"^\{\"customer_id\".*?\}$", RENDERING, re.DOTALL | re.MULTILINE)
    assert template is not None
    asked = re.search(r"-d \"(\{.*?\})\"", steps_of(RENDERING)[0].commands, re.DOTALL)
    assert asked is not None

    filled = template[0].replace("{{contact.id}}", "c-7").replace("{{campaign.id}}", "camp-7")
    sent = asked[1].replace('\\"', '"').replace("$1", "c-7").replace("$2", "camp-7")

    assert json.loads(filled) == json.loads(sent)


@pytest.mark.slow
def test_every_call_succeeds(followed: list[Followed]) -> None:
    """None of the page is refused."""
    assert {status for one in followed for status in one.statuses} <= {200, 202}


@pytest.mark.slow
def test_a_policy_that_nobody_edited_is_valid_and_put(followed: list[Followed]) -> None:
    """What was read can be tried and put as it is."""
    tried, put = _of(followed, "/v1/policies/validate").values

    assert (tried["valid"], tried["errors"]) == (True, [])
    assert put["document"]["version"] == 1


@pytest.mark.slow
def test_a_send_is_shown_again_as_it_was(followed: list[Followed]) -> None:
    """The same treatment in every render of it, and the default content for who is not known."""
    first, again, nobody = _of(followed, "ask nobody").printed.split()

    assert first.startswith("email_")
    assert (again, nobody) == (first, "default_content")


@pytest.mark.slow
def test_a_send_that_was_shown_is_one_contact(followed: list[Followed], home: Home) -> None:
    """However often it was asked for."""
    told = _of(followed, "ID=$(ask c-7 camp-7").values[0]
    with closing(open_record_store(home, readonly=True)) as records:
        (contact,) = records.customer("c-7", since=0, now=2**60).contacts

    assert (told["accepted"], told["rejected"]) == (1, 0)
    assert contact.status == "confirmed"
