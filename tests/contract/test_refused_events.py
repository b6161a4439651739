"""Every memory of refused events: bounded whatever is sent, newest first, and by source; two of one Redis are one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from features.errors import StoreUnavailable
from features.events import shown
from features.online_location import RedisLocation
from features.redis_refused import RedisRefusedEvents
from features.refused_events import (
    KEPT_OF_SOURCE,
    KEPT_SOURCES,
    LONGEST_TEXT,
    MemoryRefusedEvents,
    RefusedEvent,
    RefusedEvents,
)

NOW = 1_772_366_400_000_000


def _refused(number: int, *, source: str = "shop", **changes: Any) -> RefusedEvent:
    fields: dict[str, Any] = {
        "source": source,
        "received_at": NOW + number,
        "status": "rejected",
        "door": "events",
        "event_id": f"e-{number}",
        "kind": "page_viewed",
        "pointer": f"/events/{number}/occurred_at",
        "reason": "invalid",
        "expected": "a time",
    }
    return RefusedEvent(**(fields | changes))


@pytest.fixture(params=["memory", "redis"])
def kept(request: pytest.FixtureRequest) -> Iterator[RefusedEvents]:
    """Each of them, empty."""
    if request.param == "memory":
        yield MemoryRefusedEvents()
        return
    with closing(RedisRefusedEvents(request.getfixturevalue("redis_location"))) as shared:
        yield shared


def _ids(kept: RefusedEvents, source: str | None = "shop", *, since: int = 0) -> list[str | None]:
    return [one.event_id for one in kept.newest(source, since=since)]


def test_the_newest_stand_first(kept: RefusedEvents) -> None:
    """Also of one batch, which came at one moment."""
    kept.keep("shop", [_refused(0)])
    kept.keep("shop", [_refused(1), _refused(1, event_id="later")])

    assert _ids(kept) == ["later", "e-1", "e-0"]
    assert _ids(kept, since=NOW + 1) == ["later", "e-1"]


def test_what_is_kept_is_what_was_told(kept: RefusedEvents) -> None:
    """Field by field."""
    told = [_refused(0), _refused(1, status="dropped", door="tracking", event_id=None, kind=None, expected="")]
    kept.keep("shop", told)

    assert kept.newest("shop", since=0) == told[::-1]


def test_of_a_source_so_many_are_kept(kept: RefusedEvents) -> None:
    """The newest, in batches or at once."""
    for first in range(0, 300, 100):
        kept.keep("shop", [_refused(number) for number in range(first, first + 100)])
    kept.keep("mail", [_refused(number, source="mail") for number in range(5_000)])

    assert _ids(kept) == [f"e-{number}" for number in range(299, 299 - KEPT_OF_SOURCE, -1)]
    assert _ids(kept, "mail") == [f"e-{number}" for number in range(4_999, 4_999 - KEPT_OF_SOURCE, -1)]


def test_sources_are_apart(kept: RefusedEvents) -> None:
    """Whoever asks for one gets no other's, and for all gets all, newest first."""
    kept.keep("shop", [_refused(0), _refused(3)])
    kept.keep("mail", [_refused(1, source="mail")])

    assert (_ids(kept), _ids(kept, "mail"), _ids(kept, "nobody")) == (["e-3", "e-0"], ["e-1"], [])
    assert _ids(kept, None) == ["e-3", "e-1", "e-0"]


def test_so_many_sources_are_kept(kept: RefusedEvents) -> None:
    """Those that were refused something last."""
    for number in range(KEPT_SOURCES + 20):
        kept.keep(f"s-{number}", [_refused(number, source=f"s-{number}")])
    kept.keep("s-30", [_refused(999, source="s-30")])

    sources = {one.source for one in kept.newest(None, since=0)}
    assert sources == {f"s-{number}" for number in range(20, KEPT_SOURCES + 20)}


def test_what_a_sender_wrote_is_cut_and_values_are_not_kept(kept: RefusedEvents) -> None:
    """5,000 refusals of 32 kB each leave no more than 200 short ones, and no id of anybody in what was expected."""
    huge = "x" * 32_768
    hostile = _refused(
        0, event_id=huge, kind=huge, pointer=huge, expected=f"not 'eve@example.com' nor {huge!r}, {huge}"
    )
    kept.keep("shop", [hostile] * 5_000)
    kept.keep("mail", [_refused(1, expected="a customer who is not linked to 'it''s me' already")])

    found = kept.newest("shop", since=0)
    assert len(found) == KEPT_OF_SOURCE
    assert max(len(str(text)) for one in found for text in msgspec.structs.astuple(one)) == LONGEST_TEXT
    assert found[0].expected.startswith("not (masked) nor (masked), xxx")
    assert kept.newest("mail", since=0)[0].expected == "a customer who is not linked to (masked)(masked) already"


@pytest.mark.parametrize(
    "alias", ["x" * 200, "it's " + "x" * 200, '"' + "x" * 200, "a...b" * 40, "\\" * 200, "a'b" * 60]
)
def test_an_id_that_is_shown_cut_is_masked_too(kept: RefusedEvents, alias: str) -> None:
    """What was expected shows a long id without its end."""
    kept.keep("shop", [_refused(1, expected=f"a customer who is not linked to {shown(alias)} already: link them")])

    assert kept.newest("shop", since=0)[0].expected == "a customer who is not linked to (masked) already: link them"


def test_nothing_is_nothing(kept: RefusedEvents) -> None:
    """An empty batch changes nothing."""
    kept.keep("shop", [])

    assert _ids(kept, None) == []


# ---- on a Redis


def test_what_one_process_keeps_the_other_finds(redis_location: RedisLocation) -> None:
    """Whoever looks may be answered by any worker."""
    with closing(RedisRefusedEvents(redis_location)) as one, closing(RedisRefusedEvents(redis_location)) as other:
        one.keep("shop", [_refused(0)])
        other.keep("shop", [_refused(1)])

        assert _ids(one) == _ids(other) == ["e-1", "e-0"]


@pytest.mark.parametrize("ask", [lambda one: one.keep("s", [_refused(0)]), lambda one: one.newest(None, since=0)])
def test_a_redis_that_is_down_is_not_asked_again_at_once(ask: Callable[[RefusedEvents], object]) -> None:
    """Who sends events should not wait for it; after a while it is asked again."""
    now = [0.0]
    with closing(RedisRefusedEvents(RedisLocation.of("redis://127.0.0.1:1/0"), timer=lambda: now[0])) as down:
        for seconds, told in ((0.0, "expected a Redis"), (0.5, "a moment ago"), (1.1, "expected a Redis")):
            now[0] = seconds
            with pytest.raises(StoreUnavailable, match=told):
                ask(down)
