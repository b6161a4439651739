"""Subject buckets: whoever is in a folder is found, and most who are not are not looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import StoreCorrupted
from features.subjects import BUCKETS, SUBJECTS_FILE, bucket_of, may_hold, subject_buckets, write_subjects

CUSTOMERS = [f"c-{i}" for i in range(20)]


def test_whoever_is_in_a_folder_is_found(tmp_path: Path) -> None:
    """No customer is missed."""
    write_subjects(tmp_path, CUSTOMERS)

    assert all(may_hold(tmp_path, customer_id) for customer_id in CUSTOMERS)


def test_others_are_told_apart_by_their_bucket(tmp_path: Path) -> None:
    """Of 1,000 others just those are possible whose bucket somebody in the folder shares."""
    write_subjects(tmp_path, CUSTOMERS)
    taken = {bucket_of(customer_id) for customer_id in CUSTOMERS}
    others = [f"x-{i}" for i in range(1_000)]

    assert [may_hold(tmp_path, one) for one in others] == [bucket_of(one) in taken for one in others]
    assert 0 < len(taken) < BUCKETS


def test_the_order_of_customers_does_not_matter() -> None:
    """The same customers are the same buckets."""
    assert subject_buckets(CUSTOMERS) == subject_buckets(reversed(CUSTOMERS))
    assert len(subject_buckets(CUSTOMERS)) == BUCKETS // 4


def test_a_folder_that_does_not_say_may_hold_anyone(tmp_path: Path) -> None:
    """Nothing is left out because nobody wrote it down."""
    assert may_hold(tmp_path, "c-1")


@pytest.mark.parametrize("content", ["", "{}", '{"buckets": "xyz"}', "[]"])
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    """A damaged register is an error, not an empty one."""
    (tmp_path / SUBJECTS_FILE).write_text(content)

    with pytest.raises(StoreCorrupted, match=SUBJECTS_FILE):
        may_hold(tmp_path, "c-1")
