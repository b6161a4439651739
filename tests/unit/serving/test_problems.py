"""Problem details: every error has its type, says what was wrong, and tells nothing of the inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import (
    Conflict,
    HeadwayError,
    InFlight,
    InvalidInput,
    Problem,
    StoreCorrupted,
    StoreUnavailable,
    UnknownObject,
    path_step,
)
from serving import problems
from serving.problems import PROBLEM_TYPES, pointer, problem_details

PAGES = Path(__file__).parents[3] / "docs" / "problems"


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (problems.MalformedBody("x"), 400, "malformed-body"),
        (problems.Unauthenticated("x"), 401, "unauthenticated"),
        (problems.Forbidden("x"), 403, "forbidden"),
        (UnknownObject("x"), 404, "not-found"),
        (InFlight("x"), 409, "in-flight"),
        (problems.BodyTooLarge("x"), 413, "body-too-large"),
        (problems.UnsupportedEncoding("x"), 415, "unsupported-encoding"),
        (InvalidInput("x", []), 422, "invalid-input"),
        (Conflict("x"), 422, "request-id-reused"),
        (problems.TooManyRequests("x"), 429, "too-many-requests"),
        (StoreUnavailable("x"), 503, "unavailable"),
        (StoreCorrupted("x"), 503, "unavailable"),
        (HeadwayError("x"), 500, "internal-error"),
        (ZeroDivisionError("x"), 500, "internal-error"),
    ],
)
def test_every_error_has_its_type(error: Exception, status: int, slug: str) -> None:
    """Status and type follow from the error's class alone."""
    details = problem_details(error)

    assert (details.status, details.type) == (status, f"/docs/problems/{slug}")


def test_bad_fields_are_listed_with_pointers() -> None:
    """A caller's program can find the field."""
    error = InvalidInput("bad", [Problem("events[3].facts.a/b", "'x'", "a number"), Problem("channel", "", "a value")])

    details = problem_details(error)

    assert [(one.pointer, one.value, one.expected) for one in details.errors] == [
        ("/events/3/facts/a~1b", "'x'", "a number"),
        ("/channel", "", "a value"),
    ]


@pytest.mark.parametrize("error", [RuntimeError("/home/x secret"), StoreUnavailable("/home/x secret")])
def test_the_inside_stays_inside(error: Exception) -> None:
    """Paths and messages of what failed are for the log."""
    assert "secret" not in problem_details(error).detail


def test_the_pointer_of_the_whole_body_is_empty() -> None:
    """RFC 6901 says so."""
    assert pointer("") == ""


def test_every_type_has_its_page() -> None:
    """docs/problems holds one page for each type, as the code says it."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}

    assert pages == {kind.slug: kind.page() for kind in PROBLEM_TYPES}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b", "/context/a.b"),
        ("x[0]", "/context/x[0]"),
        ("", "/context/"),
        ("\\e.", "/context/\\e."),
        ("a/b~", "/context/a~1b~0"),
    ],
)
def test_a_name_of_the_caller_is_one_step_of_the_pointer(name: str, expected: str) -> None:
    """Whatever characters it has: the pointer leads to the very field."""
    assert pointer(f"context.{path_step(name)}") == expected


def test_a_hundred_errors_are_listed_and_the_others_counted() -> None:
    """A body with a thousand bad fields is not answered with a thousand times a list of what was expected."""
    found = problem_details(InvalidInput("bad", [Problem(f"f{place}", "", "none") for place in range(101)]))

    assert (len(found.errors), found.errors[-1].pointer) == (100, "/f99")
    assert found.detail == "bad; of 101 errors the first 100 are listed"


def test_every_error_of_the_service_has_a_type_of_its_own_making() -> None:
    """One that is added without a type would leave as a failure of the service, which it is not."""
    raised = [
        one
        for one in vars(problems).values()
        if isinstance(one, type) and issubclass(one, HeadwayError) and one.__module__ == problems.__name__
    ]

    untyped = [one.__name__ for one in raised if problems.problem_type(one.__new__(one)) is problems.INTERNAL]
    assert (len(raised) > 10, untyped) == (True, [])


def test_every_type_is_published() -> None:
    """One that stands in the code, and not in the list, would lead to a page that is not there."""
    made = {one.slug for one in vars(problems).values() if isinstance(one, problems.ProblemType)}

    assert {kind.slug for kind in PROBLEM_TYPES} == made
    assert len(PROBLEM_TYPES) == len(made)


@pytest.mark.parametrize("kind", PROBLEM_TYPES, ids=lambda kind: kind.slug)
def test_every_page_says_what_to_do(kind: problems.ProblemType) -> None:
    """What it means, in a sentence at least, and a remedy; the status is one of a failure."""
    page = kind.page()

    assert kind.status in range(400, 600)
    assert page.startswith(f"# {kind.title}\n\nStatus {kind.status} · type `{kind.path}`\n")
    assert page.partition("**What to do.** ")[2].strip() == kind.remedy
    assert (kind.meaning.endswith("."), kind.remedy.endswith("."), kind.title.endswith(".")) == (True, True, False)
