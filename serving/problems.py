"""Errors as they leave by HTTP: problem details (RFC 9457), one documented type per kind of failure.

Refusals that only a door can make, beside the tree of ``features.errors``:

Refused
├── MalformedBody         the body is not the JSON that it should be
├── Unauthenticated       no key, or one that is not valid
├── Forbidden             a valid key without the role
├── BodyTooLarge          more bytes than this door takes
├── UnsupportedEncoding   a content encoding that this door does not read
├── PreconditionRequired  a change that does not say what it was made to
├── PreconditionFailed    a change to something that has changed meanwhile
├── ConfigurationFixed    a change to a configuration that is the deployment's
├── NotActivatable        a decision that counts no contact, or none any more
├── LeaseOver             a contact that was reserved and is no longer
├── NotExplainable        a decision that no model here can take apart
├── PromotionRefused      a model that may not decide, or for no more people
├── NoResult              a job that has none, or none yet
├── ResultGone            a job whose result is not here any more
├── CommandRefused        what a command that was run for the caller does not take
├── TooManyRequests       more requests are waiting than can be answered soon
│   └── KeyLimitReached   the key asks more often than it may
├── SigningKeysUnavailable  tokens cannot be checked now
├── Stopping              the service is starting or stopping
└── BodyTooSlow           the body did not come in time

References:
    M. Nottingham, E. Wilde, S. Dalal (2023), RFC 9457, Problem Details for HTTP APIs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from features.errors import (
    EMPTY_STEP,
    CannotReplay,
    Conflict,
    InFlight,
    InvalidInput,
    NotEnoughData,
    Problem,
    Refused,
    StoreError,
    UnknownObject,
)
from models.jobs import JobOver

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PATH: Final = "/docs/problems/"

MOST_ERRORS: Final = 100
"""So many bad fields of a body, or of one item of a batch, are listed: an answer must not be many times the request."""


class MalformedBody(Refused):
    """The body is not the JSON that it should be."""


class Unauthenticated(Refused):
    """No key, or one that is not valid."""


class Forbidden(Refused):
    """A valid key without the role."""


class BodyTooLarge(Refused):
    """More bytes than this door takes."""


class UnsupportedEncoding(Refused):
    """A content encoding that this door does not read."""


class PreconditionRequired(Refused):
    """A change that does not say what it was made to."""


class PreconditionFailed(Refused):
    """A change to something that has changed meanwhile."""


class ConfigurationFixed(Refused):
    """A change to a configuration that is the deployment's."""


class NotActivatable(Refused):
    """A decision that counts no contact, or none any more."""


class LeaseOver(Refused):
    """A contact that was reserved and is no longer."""


class NotExplainable(Refused):
    """A decision that no model here can take apart."""


class PromotionRefused(Refused):
    """A model that may not decide, or for no more people.

    Attributes:
        reasons: why, as JSON values that each have a ``code``; empty where the gate was not asked.
        evidence: what the gate found, as JSON values; None where it was not asked.
    """

    def __init__(
        self, message: str, *, reasons: Sequence[Mapping[str, Any]] = (), evidence: Mapping[str, Any] | None = None
    ) -> None:
        self.reasons, self.evidence = tuple(reasons), evidence
        super().__init__(message)


class NoResult(Refused):
    """A job that has no result, or none yet."""


class ResultGone(Refused):
    """A job whose result is not here any more."""


class CommandRefused(Refused):
    """What a command that was run for the caller does not take."""


class TooManyRequests(Refused):
    """More requests are waiting than can be answered soon.

    Attributes:
        retry_after: seconds after which asking again is worth it.
    """

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class KeyLimitReached(TooManyRequests):
    """The key asks more often than it may.

    Attributes:
        headers: what is left for the key, and of how much.
    """

    def __init__(self, message: str, *, retry_after: int, headers: Mapping[str, str]) -> None:
        self.headers = headers
        super().__init__(message, retry_after=retry_after)


class Stopping(Refused):
    """The service is starting or stopping and takes no requests."""


class SigningKeysUnavailable(Refused):
    """The keys that tokens are signed with are not there, or not yet."""


class BodyTooSlow(Refused):
    """The body did not come within the time that this door waits for it."""


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One bad field.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the body; empty for the body itself, `/?name` for a query parameter.
        value: the offending value as text, shortened; empty where something is missing.
        expected: what would have been accepted.
    """

    pointer: str
    value: str
    expected: str


class RefusalReason(msgspec.Struct, frozen=True, kw_only=True):
    """One reason of a promotion gate.

    Attributes:
        code: for machines; never changes its meaning.
        value: what was found; null where it cannot be told.
        threshold: what was expected; null where it is no number.
        text: for people.
    """

    code: str
    value: float | None
    threshold: float | None
    text: str


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success.

    Attributes:
        type: path of the page that explains this type of problem.
        detail: what was wrong this time, and what to do.
        errors: every bad field, where fields are at fault; a hundred at most.
        reasons: of a promotion gate that refused; there with `promotion-refused` only.
        evidence: what that gate found; likewise, and where it was asked.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] = ()
    reasons: tuple[RefusalReason, ...] | UnsetType = UNSET
    evidence: dict[str, Any] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One documented kind of failure."""

    slug: str
    status: int
    title: str
    meaning: str
    remedy: str

    @property
    def path(self) -> str:
        """Path of its page."""
        return TYPE_PATH + self.slug

    def page(self) -> str:
        """Its page, as Markdown; ``docs/problems/<slug>.md`` is this text."""
        return (
            f"# {self.title}\n\nStatus {self.status} · type `{self.path}`\n\n"
            f"{self.meaning}\n\n**What to do.** {self.remedy}\n"
        )


MALFORMED = ProblemType(
    "malformed-body",
    400,
    "The body is not valid JSON",
    "The body could not be read as JSON in UTF-8, is nested more than 32 levels deep, or has a field twice in one "
    "object. Nothing of it was used.",
    "Correct the body; `detail` says where reading stopped.",
)
UNAUTHENTICATED = ProblemType(
    "unauthenticated",
    401,
    "No valid API key",
    "The request carries no API key or token, or one that is unknown, expired or revoked; `detail` says what of a "
    "token is not accepted.",
    "Send `Authorization: Bearer <key>`, once. An operator makes keys with `headway keys create`; tokens come from the "
    "company's sign-on, if the service knows one.",
)
FORBIDDEN = ProblemType(
    "forbidden",
    403,
    "The API key may not do this",
    "The API key or token is valid, but none of its roles may use this call, or a publishable key was used from a page "
    "that it is not for.",
    "Use a key with one of the roles that `detail` names.",
)
NOT_FOUND = ProblemType(
    "not-found",
    404,
    "Nothing here by that name",
    "The path or the identifier names nothing, or nothing that this key may see.",
    "Check the identifier. A decision can be read by the key's own source, and by the roles admin, analyst and "
    "privacy; a job likewise, until its time is over.",
)
METHOD = ProblemType(
    "method-not-allowed",
    405,
    "The path does not take this method",
    "The path exists, but not with this HTTP method.",
    "See `/docs` for the methods of every path.",
)
IN_FLIGHT = ProblemType(
    "in-flight",
    409,
    "The same request is being answered",
    "A request with the same request id from the same source has not been answered yet, or what was asked for takes "
    "longer than a request may and is still being made.",
    "Ask again with the same body after `Retry-After`: the answer will be the one that was committed, or what was "
    "being made. It is not begun anew.",
)
FIXED = ProblemType(
    "configuration-fixed",
    409,
    "The configuration belongs to the deployment",
    "The service was started with `HEADWAY_CONFIG`: its configuration is a folder that the deployment owns, and "
    "nothing else may write to it. Nothing was changed.",
    "Change the files in that folder: a valid policy and catalogue are in force within seconds. Or start the service "
    "without `HEADWAY_CONFIG`, and let the home hold the configuration.",
)
NOT_REPLAYABLE = ProblemType(
    "not-replayable",
    409,
    "The decision cannot be made again here",
    "Something that the decision was made with is not here: it was imported, its configuration or its bundle is not "
    "kept, or this release reads other features from its configuration. `detail` says which.",
    "Put back what is missing, or replay with the release that made it. An imported decision cannot be replayed.",
)
PRECONDITION_FAILED = ProblemType(
    "precondition-failed",
    412,
    "Another version is in force",
    "`If-Match` names a version that is not, or is no longer, in force. Nothing was changed.",
    "Read the document again, make the change to what it says now, and send it with its `ETag`.",
)
NOT_ACTIVATABLE = ProblemType(
    "not-activatable",
    409,
    "The decision cannot be activated",
    "The decision reserved no contact: it chose no action, it was made in the holdout or not live. Or the customer may "
    "not be contacted any more: a limit was reached or a consent withdrawn since. Nothing was counted.",
    "Ask for a new decision, and do not contact the customer on this one.",
)
NOT_EXPLAINABLE = ProblemType(
    "not-explainable",
    409,
    "The decision cannot be explained",
    "The decision was made with a model or features that this installation does not have, or not any more.",
    "Read the decision itself: its record holds every candidate with its numbers and the rules that dropped it.",
)
PROMOTION_REFUSED = ProblemType(
    "promotion-refused",
    409,
    "The model is not promoted",
    "The promotion gate found reasons against this version, or it cannot be promoted at all: it is the champion "
    "already, or there is no champion to go back to. `reasons` lists what the gate found, each with a `code` that "
    "never changes its meaning, `evidence` holds its figures. The aliases are where they were; that the gate refused "
    "is in the promotion log.",
    "Read `reasons`. Start with a smaller share where more has to be seen first, or promote with `force` and a "
    "`reason` where you know better.",
)
NOT_ENOUGH_DATA = ProblemType(
    "not-enough-data",
    409,
    "There is too little to compute it from",
    "What was asked for needs more decisions, outcomes or customers than there are. `detail` says which.",
    "Ask again when more has been recorded, or ask about more: a longer time, a larger share.",
)
JOB_OVER = ProblemType(
    "job-over",
    409,
    "The job has ended",
    "The job has succeeded or failed, and cannot be cancelled any more. Nothing was changed.",
    "Read the job: it says how it ended, and where its result is.",
)
NO_RESULT = ProblemType(
    "no-result",
    409,
    "The job has no result",
    "The job is still queued or running, has failed or was cancelled, or its kind leaves no file. `detail` says which.",
    "Ask `GET /v1/jobs/{job_id}` until `state` is `succeeded` and `links.result` is there. A job that failed says why "
    "in `error`: ask for a new one.",
)
RESULT_GONE = ProblemType(
    "result-gone",
    410,
    "The result is not here any more",
    "The job has succeeded, but its file is gone: backups hold no results, so a restored installation has only the "
    "summaries.",
    "Ask for the job again, with a new request id.",
)
LEASE_ENDED = ProblemType(
    "lease-ended",
    410,
    "The reserved contact is no longer reserved",
    "The contact was reserved until the decision's `expires_at`, which has passed, or a later decision for the same "
    "`send_id` took its place. Nothing was counted.",
    "Ask for a new decision. If the customer was contacted all the same, say so with an exposure.",
)
TOO_SLOW = ProblemType(
    "body-too-slow",
    408,
    "The body came too slowly",
    "The body had not come in full within the time that this service waits for one. Nothing of it was used.",
    "Send the request again over a faster connection, or send smaller batches.",
)
TOO_LARGE = ProblemType(
    "body-too-large",
    413,
    "The body is too large",
    "The body, after decompression, has more bytes than this call takes. Nothing of it was used.",
    "Send smaller batches, or raise the limit in the settings.",
)
ENCODING = ProblemType(
    "unsupported-encoding",
    415,
    "The content encoding is not supported",
    "The body is compressed in a way that this service does not read.",
    "Send the body as it is, or with `Content-Encoding: gzip`.",
)
INVALID = ProblemType(
    "invalid-input",
    422,
    "The request has invalid fields",
    "The body is JSON, but fields are missing, unknown or out of range. `errors` lists every one of them, a hundred at "
    "most, with a JSON pointer, the value and what was expected. Nothing of the request was used.",
    "Correct the fields in `errors`.",
)
REUSED = ProblemType(
    "request-id-reused",
    422,
    "The request id was used for another request",
    "The request id (`request_id` or `Idempotency-Key`) was used before by the same source with another body.",
    "Use a new request id for a new question; repeat an old question with exactly its body.",
)
PRECONDITION_REQUIRED = ProblemType(
    "precondition-required",
    428,
    "The change does not say what it was made to",
    "A change to a document must name the version that it was made to, so that nobody's change is lost unseen. Nothing "
    "was changed.",
    "Read the document, and send the change with `If-Match` set to its `ETag`.",
)
TOO_MANY = ProblemType(
    "too-many-requests",
    429,
    "Too many requests are waiting",
    "More requests are waiting than this service can answer soon. The request was not begun.",
    "Ask again after `Retry-After`.",
)
KEY_LIMIT = ProblemType(
    "key-limit-reached",
    429,
    "The key asks more often than it may",
    "The operator gave this key a limit of requests a second, and it is used up. The request was not begun. "
    "`RateLimit` says what is left and in how many seconds all of it is back, `RateLimit-Policy` how much that is.",
    "Ask again after `Retry-After`, and more slowly. An operator changes the limit with `headway keys limit`.",
)
INTERNAL = ProblemType(
    "internal-error",
    500,
    "The service failed",
    "Something went wrong that should not. What was committed before stays; it is unknown whether this request was.",
    "Repeat the request with the same request id or event ids. Report it with the log entry of that time.",
)
UNAVAILABLE = ProblemType(
    "unavailable",
    503,
    "A store does not answer",
    "A store that this request needs does not answer in time, or what it holds cannot be read; or the service is being "
    "started or stopped, or has not got the keys yet that tokens are signed with.",
    "Repeat the request with the same request id or event ids after `Retry-After`.",
)

PROBLEM_TYPES: Final = (
    *(MALFORMED, UNAUTHENTICATED, FORBIDDEN, NOT_FOUND, METHOD, TOO_SLOW),
    *(IN_FLIGHT, FIXED, NOT_ACTIVATABLE, NOT_EXPLAINABLE, NOT_REPLAYABLE, PROMOTION_REFUSED, NOT_ENOUGH_DATA),
    *(JOB_OVER, NO_RESULT, LEASE_ENDED, RESULT_GONE, PRECONDITION_FAILED, TOO_LARGE),
    *(ENCODING, INVALID, REUSED, PRECONDITION_REQUIRED, TOO_MANY, KEY_LIMIT, INTERNAL, UNAVAILABLE),
)
"""Every type of problem, by status."""

_BY_ERROR: Final[tuple[tuple[type[Exception], ProblemType], ...]] = (
    (MalformedBody, MALFORMED),
    (Unauthenticated, UNAUTHENTICATED),
    (Forbidden, FORBIDDEN),
    (UnknownObject, NOT_FOUND),
    (InFlight, IN_FLIGHT),
    (NotActivatable, NOT_ACTIVATABLE),
    (NotExplainable, NOT_EXPLAINABLE),
    (PromotionRefused, PROMOTION_REFUSED),
    (NotEnoughData, NOT_ENOUGH_DATA),
    (JobOver, JOB_OVER),
    (NoResult, NO_RESULT),
    (ResultGone, RESULT_GONE),
    (CommandRefused, INVALID),
    (LeaseOver, LEASE_ENDED),
    (BodyTooLarge, TOO_LARGE),
    (UnsupportedEncoding, ENCODING),
    (PreconditionRequired, PRECONDITION_REQUIRED),
    (PreconditionFailed, PRECONDITION_FAILED),
    (ConfigurationFixed, FIXED),
    (CannotReplay, NOT_REPLAYABLE),
    (InvalidInput, INVALID),
    (Conflict, REUSED),
    (KeyLimitReached, KEY_LIMIT),
    (TooManyRequests, TOO_MANY),
    (StoreError, UNAVAILABLE),
    (Stopping, UNAVAILABLE),
    (SigningKeysUnavailable, UNAVAILABLE),
    (BodyTooSlow, TOO_SLOW),
)
_RETRY_LATER: Final = frozenset({IN_FLIGHT.slug, TOO_MANY.slug, KEY_LIMIT.slug, UNAVAILABLE.slug})


def problem_type(error: Exception) -> ProblemType:
    """The type of problem that an error is; anything unforeseen is an internal error."""
    return next((kind for error_class, kind in _BY_ERROR if isinstance(error, error_class)), INTERNAL)


def problem_details(error: Exception) -> ProblemDetails:
    """The problem details of an error. An unforeseen error or a failing store tells nothing of its inside."""
    kind = problem_type(error)
    if isinstance(error, InvalidInput):
        more = f"; of {len(error.problems)} errors the first {MOST_ERRORS} are listed"
        detail = error.headline + (more if len(error.problems) > MOST_ERRORS else "")
        return details(kind, detail, errors=field_errors(error.problems))
    if isinstance(error, PromotionRefused):
        return _refused_promotion(error)
    if kind is INTERNAL or kind is UNAVAILABLE:
        return details(kind, f"{kind.meaning} {kind.remedy}")
    return details(kind, str(error))


def _refused_promotion(error: PromotionRefused) -> ProblemDetails:
    return msgspec.structs.replace(
        details(PROMOTION_REFUSED, str(error)),
        reasons=msgspec.convert(error.reasons, tuple[RefusalReason, ...]),
        evidence=UNSET if error.evidence is None else dict(error.evidence),
    )


def details(kind: ProblemType, detail: str, *, errors: tuple[FieldError, ...] = ()) -> ProblemDetails:
    """Problem details of one type."""
    return ProblemDetails(type=kind.path, title=kind.title, status=kind.status, detail=detail, errors=errors)


def headers(kind: ProblemType, *, retry_after: int = 1) -> Mapping[str, str]:
    """The headers that go with a type of problem."""
    if kind is UNAUTHENTICATED:
        return {"WWW-Authenticate": 'Bearer realm="headway"'}
    if kind is TOO_SLOW:
        return {"Connection": "close"}  # the rest of the body would come where the next request is expected
    return {"Retry-After": str(retry_after)} if kind.slug in _RETRY_LATER else {}


def field_errors(problems: tuple[Problem, ...]) -> tuple[FieldError, ...]:
    """Problems of an input document as field errors, the first hundred."""
    return tuple(
        FieldError(pointer=pointer(problem.path), value=problem.value, expected=problem.expected)
        for problem in problems[:MOST_ERRORS]
    )


def pointer(path: str) -> str:
    """The JSON pointer of a dotted path.

    >>> pointer("events[3].facts.amount")
    '/events/3/facts/amount'
    >>> pointer("")
    ''
    """
    steps = (index or re.sub(r"\\(.)", _unescaped, name) for index, name in _STEP.findall(path))
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


_STEP: Final = re.compile(r"\[(\d+)\]|((?:\\.|\[(?!\d+\])|[^\\.\[])+)", re.DOTALL)


def _unescaped(escape: re.Match[str]) -> str:
    """What ``path_step`` made an escape of."""
    return "" if escape[0] == EMPTY_STEP else escape[1]
