"""Who asked what: one line a call, without bodies, in a log of the home that only grows and is bounded.

A call notes itself in memory; a task beside the requests writes. Where that cannot keep up, lines are dropped and
counted: nobody's answer waits for it. Calls that machines make all day, and refused calls of nobody known, are counted
by the minute instead of listed, so that they do not push out who looked at whom. A customer stands there as a hash
under a secret of the home: the log can be asked about an id, and tells none.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from features.durable_files import made_durably
from features.errors import HomeLocked, StoreUnavailable
from features.events import dump_timestamp
from features.home import Home, lock_file
from serving.auth import Principal
from serving.telemetry import log_event

WRITTEN_EVERY_SECONDS: Final = 1.0
MOST_WAITING: Final = 10_000
LARGEST_FILE: Final = 16 << 20
MOST_FILES: Final = 16
"""The oldest file goes when there would be one more: some two million lines stay."""

_LAST_TRIES: Final = 20
_LAST_PAUSE_SECONDS: Final = 0.05
"""At the end of a process others of the home may be writing too: it waits for a second at most."""

NOBODY: Final = "nobody"
_MINUTE_US: Final = 60_000_000
_CURRENT: Final = "calls.jsonl"


class AuditLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call, or some calls of one minute.

    Attributes:
        at: when; of counted calls, the minute.
        who: id of the key, ``sub-`` and a hash of the person, or ``nobody``.
        roles: that they had.
        call: method and template of the path.
        object: what the call names: an id as it is, of a customer its hash.
        status: of the answer.
        calls: how many they were; 1 where not told.
        dropped: lines that were lost before this one.
    """

    at: str
    who: str
    roles: tuple[str, ...] = ()
    call: str = ""
    object: str | None = None
    status: int = 0
    calls: int = 1
    dropped: int = 0

    @property
    def said(self) -> str:
        """The line for people."""
        if self.dropped:
            return f"{self.at}  {self.dropped} lines were lost"
        times = f"  {self.calls} times" if self.calls > 1 else ""
        # A caller chose it: what would move a terminal's cursor is written out.
        about = f"  {self.object.encode('unicode_escape').decode()}" if self.object else ""
        return f"{self.at}  {self.who} ({','.join(self.roles)})  {self.call}{about}  {self.status}{times}"


class _Noted(NamedTuple):
    at: int
    principal: Principal | None
    call: str
    object: str | None
    is_customer: bool
    status: int


class _Kind(NamedTuple):
    minute: int
    who: str
    roles: frozenset[str]
    call: str
    status: int


class AuditTrail:
    """The audit log of one home.

    Args:
        folder: where it is; made at the first write.
        clock: now, microseconds since the epoch.
        randomness: so many random bytes, for a secret that is made once.
        count_dropped: told how many lines were dropped.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], int],
        randomness: Callable[[int], bytes],
        count_dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._randomness = randomness
        self._count_dropped = count_dropped
        self._noted: deque[_Noted] = deque()
        self._counted: Counter[_Kind] = Counter()
        self._dropped = 0
        self._told_dropped = 0
        self._writing = threading.Lock()
        self._kept_secret: bytes | None = None

    def note(
        self,
        principal: Principal | None,
        call: str,
        *,
        status: int,
        counted: bool = False,
        object_id: str | None = None,
        is_customer: bool = False,
    ) -> None:
        """Note a call; it never waits and never fails. Called in the event loop only.

        Args:
            principal: who; None where they are not known.
            call: method and template of the path.
            status: of the answer.
            counted: count it instead of listing it; calls of nobody known always are.
            object_id: what the call names.
            is_customer: that is a customer.
        """
        at = self._clock()
        if counted or principal is None:
            who, roles = (NOBODY, frozenset()) if principal is None else (principal.key_id, principal.roles)
            kind = _Kind(at - at % _MINUTE_US, who, roles, call, status)
            if kind in self._counted or len(self._counted) < MOST_WAITING:
                self._counted[kind] += 1
                return
        elif len(self._noted) < MOST_WAITING:
            self._noted.append(_Noted(at, principal, call, object_id, is_customer, status))
            return
        self._dropped += 1
        self._count_dropped(1)

    def write(self, *, all_minutes: bool = False) -> None:
        """Write what was noted; of counted calls those of minutes that are over.

        Args:
            all_minutes: those of this minute too.

        Raises:
            HomeLocked: another process of the home is writing; it is tried again the next time.
            OSError, StoreUnavailable: it cannot be written; likewise.
        """
        with self._writing, lock_file(self._folder / _CURRENT):
            self._write(all_minutes)

    def _write(self, all_minutes: bool) -> None:
        # By place, and a copy: more is noted meanwhile.
        lines = [self._line(self._noted[place]) for place in range(len(self._noted))]
        present = self._clock() // _MINUTE_US * _MINUTE_US
        over = {kind: n for kind, n in dict(self._counted).items() if all_minutes or kind.minute < present}
        data = [msgspec.json.encode(one) for one in (*lines, *map(_counted_line, over, over.values()))]
        dropped = self._dropped - self._told_dropped
        if dropped:
            data.append(msgspec.json.encode(AuditLine(at=dump_timestamp(self._clock()), who="", dropped=dropped)))
        if data:
            self._append(b"\n".join([*data, b""]))
        for _ in lines:
            self._noted.popleft()
        for kind, n in over.items():
            self._counted[kind] -= n
            if self._counted[kind] <= 0:
                del self._counted[kind]
        self._told_dropped += dropped

    def lines(self) -> Iterator[AuditLine]:
        """All that was written, the newest first; a line that was cut off is passed over."""
        for path in reversed(self._files()):
            with suppress(FileNotFoundError):
                for line in reversed(path.read_bytes().splitlines()):
                    with suppress(msgspec.DecodeError, UnicodeDecodeError):
                        yield msgspec.json.decode(line, type=AuditLine)

    def hash_of(self, customer_id: str) -> str:
        """How a customer stands in the log."""
        return hmac.new(self._secret(), customer_id.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:24]

    def _line(self, one: _Noted) -> AuditLine:
        named = one.object
        return AuditLine(
            at=dump_timestamp(one.at),
            who=NOBODY if one.principal is None else one.principal.key_id,
            roles=tuple(sorted(one.principal.roles)) if one.principal is not None else (),
            call=one.call,
            object=self.hash_of(named) if named is not None and one.is_customer else named,
            status=one.status,
        )

    def _append(self, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        current = self._folder / _CURRENT
        with suppress(FileNotFoundError):
            if current.stat().st_size + len(data) > LARGEST_FILE:
                self._turn(current)
        descriptor = os.open(current, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            begun = os.fstat(descriptor).st_size
            is_cut = begun > 0 and not _ends_a_line(current)  # a process died within a line
            try:
                _write_all(descriptor, b"\n" * is_cut + data)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, begun)  # else what was taken of it would be there twice
                raise
        finally:
            os.close(descriptor)

    def _turn(self, current: Path) -> None:
        """Put the present file among the old ones, and let the oldest go."""
        old = self._files()[:-1]
        newest = int(old[-1].stem.partition("-")[2]) if old else 0
        current.rename(current.with_name(f"calls-{newest + 1:08d}.jsonl"))
        for path in old[: max(0, len(old) + 2 - MOST_FILES)]:
            path.unlink()

    def _files(self) -> list[Path]:
        """Old files in order, then the present one."""
        return [*sorted(self._folder.glob("calls-????????.jsonl")), self._folder / _CURRENT]

    def _secret(self) -> bytes:
        if self._kept_secret is None:
            self._kept_secret = self._stored_secret()
        return self._kept_secret

    def _stored_secret(self) -> bytes:
        path = self._folder / "secret"
        with suppress(FileNotFoundError):
            return path.read_bytes()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return made_durably(path, self._randomness(32), mode=0o600)

    @classmethod
    def of(
        cls,
        home: Home,
        *,
        clock: Callable[[], int],
        randomness: Callable[[int], bytes],
        count_dropped: Callable[[int], None] = lambda _: None,
    ) -> AuditTrail:
        """That of a home."""
        return cls(home.audit, clock=clock, randomness=randomness, count_dropped=count_dropped)


async def write_audit(trail: AuditTrail) -> None:
    """Write the log as long as the service runs, and all of it at its end; a disk that fails is tried again."""
    is_failing = False
    try:
        while True:
            await asyncio.sleep(WRITTEN_EVERY_SECONDS)
            try:
                await asyncio.to_thread(trail.write)
            except HomeLocked:
                continue
            except (OSError, StoreUnavailable) as error:
                if not is_failing:
                    log_event("audit_not_written", level=logging.ERROR, error=error)
                is_failing = True
            else:
                is_failing = False
    finally:
        for _ in range(_LAST_TRIES):
            try:
                trail.write(all_minutes=True)
            except HomeLocked:
                time.sleep(_LAST_PAUSE_SECONDS)
            except (OSError, StoreUnavailable) as error:
                log_event("audit_not_written", level=logging.ERROR, error=error)
                break
            else:
                break


def _counted_line(kind: _Kind, calls: int) -> AuditLine:
    return AuditLine(
        at=dump_timestamp(kind.minute),
        who=kind.who,
        roles=tuple(sorted(kind.roles)),
        call=kind.call,
        status=kind.status,
        calls=calls,
    )


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:  # a disk that is nearly full takes a part
        left = left[os.write(descriptor, left) :]


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
