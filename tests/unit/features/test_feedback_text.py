"""What texts of feedback say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from features import feedback_text
from features.events import FactValue, JourneyEvent
from features.feedback_text import EnglishReader, FeedbackTexts, Told, text_readers
from features.taxonomy import Taxonomy, Theme
from tests.histories import event

THEMES = {
    "price": Theme(title="Price", words=("fee*", "rate", "too dear")),
    "waiting": Theme(title="Waiting", words=("wait*", "weeks")),
}
RATED = {
    "title": "Rated",
    "role": "feedback",
    "facts": {"nps": {"dtype": "number"}, "sentiment": {"dtype": "number"}, "theme": {"dtype": "text"}},
}


def _taxonomy(**more: object) -> Taxonomy:
    kinds = {"rated": RATED, "chatted": {"title": "Chatted", "facts": {"theme": {"dtype": "text"}}}}
    themes = {name: theme.model_dump() for name, theme in THEMES.items()}
    channels = {"web": {"title": "Web", "digital": True}}
    base = {"version": 1, "currency": "EUR", "time_zone": "UTC", "channels": channels, "kinds": kinds, "themes": themes}
    return Taxonomy.model_validate({**base, **more})


def _event(kind: str, text: str | None, facts: dict[str, FactValue] | None = None) -> JourneyEvent:
    return replace(event("a", kind=kind, facts=facts or {}), text=text)


@pytest.mark.parametrize(
    ("text", "theme"),
    [
        ("The FEES are absurd", "price"),
        ("what a rate", "price"),
        ("it is overrated", None),
        ("Waited for weeks, and the fee rose", "waiting"),
        ("a fee, after a wait", "price"),
        ("far too dear", "price"),
        ("nothing to say", None),
        ("", None),
    ],
)
def test_a_theme_is_shown_by_its_words(text: str, theme: str | None) -> None:
    """Whole words, beginnings of words and phrases; most different words win, of equals the first declared."""
    assert EnglishReader(THEMES)(text).theme == theme


def test_sentiment_has_a_sign_and_is_unknown_where_no_word_shows_it() -> None:
    """A text without a word of the lexicon is not neutral: nothing is known of it."""
    read = EnglishReader({})
    good, bad, none = (read(text).sentiment for text in ("Great, I love it!", "A terrible, useless app.", "The form."))
    assert good is not None
    assert bad is not None
    assert -1.0 <= bad < -0.4 < 0.4 < good <= 1.0
    assert none is None


def test_what_a_text_says_becomes_facts() -> None:
    """Sentiment and theme where the kind has such facts; the text stays as it was."""
    told = FeedbackTexts(_taxonomy()).told(_event("rated", "Terrible: the fees!", {"nps": 2.0}))
    assert told.facts["theme"] == "price"
    assert float(told.facts["sentiment"]) < 0.0
    assert (told.facts["nps"], told.text) == (2.0, "Terrible: the fees!")
    assert dict(FeedbackTexts(_taxonomy()).told(_event("chatted", "Terrible fees")).facts) == {"theme": "price"}


def test_what_the_sender_said_stays() -> None:
    """A sentiment that came with the event is not overruled."""
    told = FeedbackTexts(_taxonomy()).told(_event("rated", "Terrible fees", {"sentiment": 0.5, "theme": "waiting"}))
    assert dict(told.facts) == {"sentiment": 0.5, "theme": "waiting"}


@pytest.mark.parametrize("text", [None, "", "The form."])
def test_no_text_and_no_finding_change_nothing(text: str | None) -> None:
    """The very same event comes back."""
    given = _event("rated", text)
    assert FeedbackTexts(_taxonomy()).told(given) is given


def test_nobody_reads_where_nobody_shall() -> None:
    """With the reader ``none`` texts are kept and never read."""
    given = _event("rated", "Terrible fees")
    assert FeedbackTexts(_taxonomy(text_reader="none")).told(given) is given


def test_an_installed_reader_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in the taxonomy; what it says beyond the bounds is cut, and themes that nobody declared are dropped."""
    point = EntryPoint("dutch", f"{__name__}:_loud_reader", feedback_text.GROUP)
    monkeypatch.setattr(feedback_text, "entry_points", lambda group: EntryPoints([point]))
    assert text_readers() == ("english", "none", "dutch")
    told = FeedbackTexts(_taxonomy(text_reader="dutch")).told(_event("rated", "Vreselijk"))
    assert dict(told.facts) == {"sentiment": -1.0}


def _loud_reader(themes: Mapping[str, Theme]) -> feedback_text.TextReader:
    assert tuple(themes) == ("price", "waiting")
    return lambda text: Told(sentiment=-7.0, theme="weather")
