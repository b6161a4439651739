"""Trials of a policy: one at a time, from the first look at the documents on."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from features.errors import ConfigurationError
from models.memory_records import MemoryRecordStore
from serving.problems import TooManyRequests
from serving.replays import ReplayDesk, Trial


class _Checking:
    """A configuration that refuses every document, and tries another one while it looks at the first."""

    def __init__(self) -> None:
        self.history = SimpleNamespace()
        self.desk: ReplayDesk | None = None

    def checked(self, documents: Mapping[str, object]) -> Any:
        """Never gives one."""
        if self.desk is not None:
            desk, self.desk = self.desk, None
            with pytest.raises(TooManyRequests):
                desk.tried({"policy": {}}, decisions=1)
        raise ConfigurationError("not valid", [])


def test_documents_are_checked_one_trial_at_a_time() -> None:
    """A document of a megabyte takes seconds to check: several at once would slow every decision."""
    checking: Any = _Checking()
    nothing: Any = None
    desk = ReplayDesk(records=MemoryRecordStore(), configurations=checking, registry=nothing, prices=nothing)
    checking.desk = desk

    tried = desk.tried({"policy": {}}, decisions=1)

    assert tried == Trial(versions={})
    assert checking.desk is None
    assert desk.tried({"policy": {}}, decisions=1) == Trial(versions={})
