"""How long a caller waits, and when it asks again: arithmetic only, with the chance as an argument."""

from __future__ import annotations

from dataclasses import dataclass

from features.errors import InvalidInput, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a call may take, and how it is made again.

    Attributes:
        deadline_seconds: for all attempts of one call together; the last failure is raised instead of a wait past it.
        attempt_seconds: for one attempt.
        first_wait_seconds: at most so long before the second attempt; twice as long before each further one.
        longest_wait_seconds: never longer, unless the service asked for it.

    Raises:
        InvalidInput: one of them is not above 0.
    """

    deadline_seconds: float = 30.0
    attempt_seconds: float = 10.0
    first_wait_seconds: float = 0.1
    longest_wait_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Check the bounds."""
        values = {name: getattr(self, name) for name in self.__slots__}
        if bad := [Problem(name, repr(value), "seconds above 0") for name, value in values.items() if not value > 0]:
            raise InvalidInput("nobody can wait like this", bad)

    def wait_seconds(self, failures: int, *, chance: float, retry_after: float = 0.0) -> float:
        """How long to wait before asking again.

        A capped exponential, of which chance takes a part, so that those who failed together do not come back together.

        Args:
            failures: how many attempts have failed, at least 1.
            chance: from 0 to 1.
            retry_after: seconds that the service asked for; never less than those.

        References:
            Brooker (2015), Exponential backoff and jitter ("full jitter"), AWS Architecture Blog.

        >>> Patience(first_wait_seconds=1, longest_wait_seconds=5).wait_seconds(2, chance=0.5)
        1.0
        >>> Patience().wait_seconds(1, chance=0.0, retry_after=3)
        3
        """
        doublings = min(failures - 1, 64)  # far past every cap, and still a float
        return max(retry_after, chance * min(self.longest_wait_seconds, self.first_wait_seconds * 2.0**doublings))
