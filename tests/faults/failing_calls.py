"""Calls that fail for the n-th time that they are made, of the system or a driver, where no store can stand between."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def failing_calls(owner: Any, name: str, fails: Callable[[int], BaseException | None]) -> Iterator[None]:
    """Inside, calls of an attribute of a module or class raise what ``fails`` gives for their number, from 1 on.

    Args:
        owner: the module or class.
        name: the attribute.
        fails: told the number of a call: what it raises, or None where it is to work as always.
    """
    function = getattr(owner, name)
    numbers = itertools.count(1)

    def called(*args: Any, **kwargs: Any) -> Any:
        if (error := fails(next(numbers))) is not None:
            raise error
        return function(*args, **kwargs)

    setattr(owner, name, called)
    try:
        yield
    finally:
        setattr(owner, name, function)
