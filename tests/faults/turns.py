"""Two pieces of work that take turns: which of them goes on after each step is said beforehand."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any


class Turns:
    """Lets threads run one at a time, each up to its next step.

    Args:
        order: which piece of work goes on, at each step; where that one has ended, or nothing more is said, the first
            one that has not.

    Attributes:
        steps: how many each piece of work has taken.
    """

    def __init__(self, order: Iterable[int]) -> None:
        self._order = iter(order)
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._unfinished: set[int] = set()
        self._running: int | None = None
        self.steps: Counter[int] = Counter()

    def run(self, *works: Callable[[], object]) -> list[BaseException]:
        """Do all of the works; what they raised."""
        raised: list[BaseException] = []

        def attempt(number: int) -> None:
            try:
                self.step(number)
                works[number]()
            except BaseException as error:
                raised.append(error)
            finally:
                with self._changed:
                    self._unfinished.discard(number)
                    self._running = None
                    self._choose()

        self._unfinished = set(range(len(works)))
        threads = [threading.Thread(target=attempt, args=(number,), daemon=True) for number in self._unfinished]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return raised

    def step(self, number: int) -> None:
        """Wait until it is the turn of a piece of work."""
        with self._changed:
            self._waiting.add(number)
            self._running = None if self._running == number else self._running
            self._choose()
            self._changed.wait_for(lambda: self._running == number)
            self._waiting.discard(number)
            self.steps[number] += 1

    def _choose(self) -> None:
        if self._running is None and self._unfinished and self._waiting == self._unfinished:
            chosen = next(self._order, None)
            self._running = chosen if chosen in self._waiting else min(self._waiting)
            self._changed.notify_all()


class Stepping:
    """Passes calls on to another object, each once it is the turn of its piece of work.

    Args:
        inner: does the work.
        turns: says when.
        number: whose work it is.
        names: the calls that are steps; others are passed on at once.
    """

    def __init__(self, inner: object, turns: Turns, number: int, names: Iterable[str]) -> None:
        self._inner = inner
        self._turns = turns
        self._number = number
        self._names = frozenset(names)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        def called(*arguments: Any, **named: Any) -> Any:
            self._turns.step(self._number)
            return found(*arguments, **named)

        return called
