"""Lists as they come in: what is too long, or all wrong, costs no more than it takes to say so."""

from __future__ import annotations

import pytest

from features.errors import InvalidInput
from models.configuration import built_in_configuration
from models.screen_lists import MOST_ROWS
from serving.audience_requests import parse_list, sent_document, sent_table
from serving.problems import MOST_ERRORS, MalformedBody


def test_of_a_table_that_is_too_long_no_more_is_read_than_shows_it() -> None:
    """What stands behind is not even looked at: millions of short rows would fill the memory."""
    table = b"customer_id\n" + b"c\n" * (MOST_ROWS + 1) + b'"c" is no cell\n'

    with pytest.raises(InvalidInput) as refused:
        sent_table(table, {})

    (problem,) = refused.value.problems
    assert (problem.path, problem.value) == ("rows", f"more than {MOST_ROWS} rows")


@pytest.mark.parametrize("table", [b'customer_id\n"c-1\nc-2\n', b'customer_id,channel\n"c"1,email\n'])
def test_a_table_with_a_stray_quote_is_not_guessed_at(table: bytes) -> None:
    """The rest of the list would be one id, and nobody would hear of it."""
    with pytest.raises(MalformedBody, match="expected a table in UTF-8"):
        sent_table(table, {})


def test_names_are_guessed_at_only_where_the_answer_lists_them() -> None:
    """A hundred thousand guesses take 20 s, of which the answer would show a hundred."""
    rows = [{"customer_id": "c", "action_id": "offer_protectio", "channel": "emial"}] * MOST_ERRORS

    with pytest.raises(InvalidInput) as refused:
        parse_list(sent_document({"rows": rows}), built_in_configuration(), now=0)

    assert len(refused.value.problems) == 2 * MOST_ERRORS
    guessed = ["did you mean" in problem.expected for problem in refused.value.problems]
    assert guessed == [True] * MOST_ERRORS + [False] * MOST_ERRORS
