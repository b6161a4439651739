"""What the text of feedback says: its sentiment and its theme, offline, told once and kept as facts of the event.

What was told is stored with the event, so that training sees what serving saw, whatever reads the texts later. Another
reader is an installed package with an entry point in the group ``headway.text_readers``, named in ``taxonomy.yaml``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Final, Protocol, TypeAlias

from features.events import FactValue, JourneyEvent
from features.taxonomy import SENTIMENT, THEME, Taxonomy, Theme

ENGLISH: Final = "english"
NO_READER: Final = "none"
GROUP: Final = "headway.text_readers"

MAX_CHARACTERS: Final = 2_000
"""So much of a text is read: 2 ms at the most."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a text says.

    Attributes:
        sentiment: -1 to 1; None where the text shows none.
        theme: one of the declared themes; None where it is about none of them.
    """

    sentiment: float | None = None
    theme: str | None = None


class TextReader(Protocol):
    """Reads texts: the same text always gives the same answer."""

    def __call__(self, text: str, /) -> Told:
        """What a text says."""


MakeReader: TypeAlias = Callable[[Mapping[str, Theme]], TextReader]
"""What an entry point of the group names: gives the reader for the declared themes."""


class EnglishReader:
    """Reads English: sentiment by the VADER lexicon, themes by the words that the taxonomy declares.

    A text without any word of the lexicon has no sentiment, rather than a neutral one. The theme is the one with most
    different words or phrases in the text; of equals the first declared.

    References:
        Hutto and Gilbert, 2014, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text,
        ICWSM 8(1): the compound score.
    """

    def __init__(self, themes: Mapping[str, Theme]) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._scores = SentimentIntensityAnalyzer().polarity_scores
        self._themes = {name: _patterns(theme) for name, theme in themes.items()}

    def __call__(self, text: str, /) -> Told:
        """What a text says."""
        return Told(self._sentiment(text), self._theme(text.lower()))

    def _sentiment(self, text: str) -> float | None:
        scores = self._scores(text)
        return None if scores["neg"] == scores["pos"] == 0.0 else float(scores["compound"])

    def _theme(self, text: str) -> str | None:
        hits = {name: sum(bool(one.search(text)) for one in words) for name, words in self._themes.items()}
        best = max(hits, key=lambda name: hits[name], default=None)
        return best if best is not None and hits[best] > 0 else None


def _patterns(theme: Theme) -> tuple[re.Pattern[str], ...]:
    return tuple(_pattern(word) for word in theme.words)


def _pattern(word: str) -> re.Pattern[str]:
    written = re.escape(word.removesuffix("*").lower())
    return re.compile(rf"\b{written}" if word.endswith("*") else rf"\b{written}\b")


def text_readers() -> tuple[str, ...]:
    """The names that ``taxonomy.text_reader`` may have."""
    return (ENGLISH, NO_READER, *sorted(one.name for one in entry_points(group=GROUP)))


def text_reader(name: str, themes: Mapping[str, Theme]) -> TextReader | None:
    """The reader of a name, for the declared themes; None where texts are not read.

    Raises:
        KeyError: no such reader is installed.
    """
    if name == NO_READER:
        return None
    if name == ENGLISH:
        return EnglishReader(themes)
    make: MakeReader = entry_points(group=GROUP)[name].load()
    return make(themes)


class FeedbackTexts:
    """Adds to events what their texts say.

    Args:
        taxonomy: says which kinds can carry the facts ``sentiment`` and ``theme``, and which reader reads.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        wanted = (SENTIMENT, THEME)
        self._facts = {
            name: tuple(fact for fact in wanted if fact in kind.facts) for name, kind in taxonomy.all_kinds.items()
        }
        # Opened with the first text: most installations have none, and a lexicon takes 20 ms to load.
        self._reader = lru_cache(maxsize=1)(lambda: text_reader(taxonomy.text_reader, taxonomy.themes))
        self._themes = taxonomy.themes

    def told(self, event: JourneyEvent) -> JourneyEvent:
        """The event with the sentiment and the theme of its text, where it has a text and nobody said them."""
        if not event.text:
            return event
        missing = [fact for fact in self._facts.get(event.kind, ()) if fact not in event.facts]
        reader = self._reader() if missing else None
        if reader is None:
            return event
        told = reader(event.text[:MAX_CHARACTERS])
        found: dict[str, FactValue] = {}
        if told.sentiment is not None and SENTIMENT in missing and math.isfinite(told.sentiment):
            found[SENTIMENT] = min(max(float(told.sentiment), -1.0), 1.0)
        if told.theme in self._themes and THEME in missing:
            found[THEME] = str(told.theme)
        return replace(event, facts={**event.facts, **found}) if found else event
