"""Where a rollback goes, whatever was promoted and rolled back before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.promotion_log import Entry, Kind, Placed, history_of

AT = 1_700_000_000_000_000


def _placed(version: int) -> Placed:
    return Placed(version=version, manifest_sha256=f"{version:x}")


@given(st.lists(st.integers(0, 5), max_size=30))
def test_a_rollback_undoes_the_last_promotion_that_stands(moves: list[int]) -> None:
    """0 rolls back, another number promotes that version: the history is the stack that this leaves."""
    stack, entries = [9], []
    for number, move in enumerate(moves):
        kind: Kind = "promote" if move else "rollback"
        if (not move and len(stack) < 2) or move == stack[-1]:
            continue
        before = stack[-1]
        if move:
            stack.append(move)
        else:
            stack.pop()
        after = stack[-1]
        entries.append(
            Entry(
                number=number,
                step="done",
                kind=kind,
                name="nba-card",
                at=AT,
                by="ann",
                before=_placed(before),
                after=_placed(after),
            )
        )

    assert [one.version for one in history_of(entries, "nba-card")] == (stack if entries else [])
    assert history_of(entries, "nba-other") == []
