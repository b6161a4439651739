"""Promotion and rollback: the champion's alias is moved in one step, and a log that only grows says who did it and why.

A share is a step on the way there: the challenger's alias is put on a version, and the policy says for how many it
decides.

What became the champion is no challenger any more: that alias is taken off it in the same move. A version that was
rolled back from does not become the challenger again by itself.

A process that dies between what it intends and what it has done leaves an intent; the next one sees from the alias
whether it was carried out, and says so in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from features.errors import BundleError, HeadwayError, HomeLocked, Refused, UnknownObject
from features.home import FileLock, lock_file
from models.bundle import MANIFEST, load_bundle
from models.promotion_log import (
    Entry,
    Placed,
    Shares,
    append_entry,
    following,
    history_of,
    next_number,
    promotions_file,
    read_promotions,
)
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, read_champions


class Promoter:
    """Moves the champion's alias, and the challenger's with its share; one process at a time.

    Args:
        registry: whose aliases they are.
        command: what the lock says of its holder.
        share: by the policy in force, what a died process's share is settled by; without it those stay unsettled.
    """

    def __init__(
        self, registry: LocalRegistry, *, command: str | None = None, share: Callable[[], float] | None = None
    ) -> None:
        self._share = share
        self._registry = registry
        self._file = promotions_file(registry.root)
        self._command = command

    def lock(self) -> FileLock:
        """The right to promote in this home, until it is closed.

        Raises:
            HomeLocked: somebody else promotes or rolls back.
        """
        return lock_file(self._file, command=self._command)

    def promote(
        self,
        name: str,
        version: int,
        *,
        at: int,
        by: str,
        forced: bool = False,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
        expected: int | None = None,
    ) -> Entry:
        """Put the champion's alias on a version; the gate was asked before, or is passed over with a reason.

        Args:
            name: of the registered model.
            version: the new champion.
            at: now, microseconds since the epoch.
            by: who.
            forced: against the gate, or without asking it.
            reason: why; asked for where it is forced.
            evidence: what the gate found.
            expected: the champion that the evidence is about; another one by now is refused. None: whatever it is.

        Raises:
            Refused: it is the champion already, was forced without a reason, or the champion is no longer the expected.
            UnknownObject: there is no such version.
            BundleError: its bundle is damaged.
            HomeLocked: somebody else promotes or rolls back.
        """
        if forced and not reason.strip():
            raise Refused("a promotion past the gate without a reason, expected one: it is kept in the promotion log")
        load_bundle(self._registry.path(name, version), None)
        with self.lock():
            entries = self._settled(at)
            before = self._placed(name)
            if expected is not None and (before is None or before.version != expected):
                raise Refused(
                    f"{name} has {'no champion' if before is None else f'version {before.version} as its champion'} "
                    f"by now, expected version {expected}, which the evidence is about: ask again"
                )
            if before is not None and before.version == version:
                raise Refused(f"version {version} of {name} is the champion already, expected another one")
            return self._moved(
                Entry(
                    number=next_number(entries),
                    step="intended",
                    kind="promote",
                    name=name,
                    at=at,
                    by=by,
                    before=before,
                    after=self._version(name, version),
                    forced=forced,
                    reason=reason,
                    evidence=dict(evidence or {}),
                )
            )

    def rollback(self, name: str, *, at: int, by: str, reason: str = "", leaving: int | None = None) -> Entry:
        """Put the champion's alias back on the champion before.

        Args:
            name: of the registered model.
            at: now, microseconds since the epoch.
            by: who.
            reason: why.
            leaving: the version that is to be left, so that one who asks again does not go back two; any if None.

        Raises:
            Refused: the promotion log names none before this one, or another version than ``leaving`` is the champion.
            UnknownObject: its bundle is no longer there.
            BundleError: its bundle is damaged.
            HomeLocked: somebody else promotes or rolls back.
        """
        with self.lock():
            entries = self._settled(at)
            before = self._placed(name)
            if leaving is not None and (before is None or before.version != leaving):
                found = "no version" if before is None else f"version {before.version}"
                raise Refused(
                    f"{found} of {name} is the champion, expected version {leaving}: it was rolled back already, or "
                    "another was promoted"
                )
            line = history_of(entries, name)
            if before is not None and line and line[-1].version == before.version:
                line.pop()
            if not line:
                raise Refused(f"the promotion log names no champion of {name} before this one, expected one to go to")
            target = line[-1]
            load_bundle(self._registry.path(name, target.version), None, manifest_sha256=target.manifest_sha256 or None)
            return self._moved(
                Entry(
                    number=next_number(entries),
                    step="intended",
                    kind="rollback",
                    name=name,
                    at=at,
                    by=by,
                    before=before,
                    after=target,
                    reason=reason,
                )
            )

    def give_share(
        self,
        name: str,
        version: int,
        shares: Shares,
        *,
        put: Callable[[float], object],
        at: int,
        by: str,
        forced: bool = False,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
        expected: int | None = None,
    ) -> Entry:
        """Let a version decide for a share of the population, as the challenger.

        The alias is left alone where the share is 0, or the version the champion, so that it challenges nobody.

        Whatever moment a process dies at, no version decides for more than the smaller of both shares unasked.

        Args:
            name: of the registered model.
            version: that is to decide for it; of a share of 0 whoever decides for everybody then.
            shares: of now, and wanted.
            put: writes a share into the policy.
            at: now, microseconds since the epoch.
            by: who.
            forced: without asking the gate.
            reason: why; asked for where it is forced.
            evidence: what the gate found.
            expected: the champion that the evidence is about.

        Raises:
            Refused: it is forced without a reason, champion or share are no longer the expected, or ``put`` refuses.
            UnknownObject: there is no such version.
            BundleError: its bundle is damaged.
            StoreError: the policy cannot be written; alias and share are where they were.
            HomeLocked: somebody else promotes.
        """
        if forced and not reason.strip():
            raise Refused("a share past the gate without a reason, expected one: it is kept in the promotion log")
        if shares.after:
            load_bundle(self._registry.path(name, version), None)
        with self.lock():
            entries = self._settled(at)
            champion = self._placed(name)
            if expected is not None and (champion is None or champion.version != expected):
                raise Refused(f"the champion of {name} is another one by now, expected version {expected}: ask again")
            present = shares.before if self._share is None or not shares.after else self._share()
            if present != shares.before:
                raise Refused(f"the share is {present:g} by now, expected {shares.before:g}: ask again")
            before = self._placed(name, CHALLENGER)
            intent = Entry(
                number=next_number(entries),
                step="intended",
                kind="share",
                name=name,
                at=at,
                by=by,
                before=before,
                after=self._version(name, version),
                forced=forced,
                reason=reason,
                evidence=dict(evidence or {}),
                share=shares,
            )
            append_entry(self._file, intent)
            try:
                self._give(intent, put, champion)
            except (HeadwayError, OSError):
                self._put_back(name, before, at)
                append_entry(self._file, following(intent, "abandoned", at=at))
                raise
            done = following(intent, "done", at=at)
            append_entry(self._file, done)
            return done

    def _put_back(self, name: str, challenger: Placed | None, at: int) -> None:
        """Have the challenger's alias where it was, or nowhere."""
        present = self._registry.alias(name, CHALLENGER)
        if challenger is None:
            if present is not None:
                self._registry.remove_alias(name, CHALLENGER)
        elif present != challenger.version:
            self._registry.set_alias(name, CHALLENGER, challenger.version, at=at)

    def _give(self, intent: Entry, put: Callable[[float], object], champion: Placed | None) -> None:
        """Alias and share, in the order in which a death between them gives nobody more than was asked for."""
        shares, version = intent.share or Shares(before=0.0, after=0.0), intent.after.version
        is_there = version in [one.version for one in (intent.before, champion) if one is not None]
        is_moving = shares.after > 0 and not is_there
        if shares.after < shares.before:
            put(shares.after)
        if is_moving:
            self._registry.set_alias(intent.name, CHALLENGER, intent.after.version, at=intent.at)
        if shares.after > shares.before:
            put(shares.after)

    def refused(
        self,
        name: str,
        version: int,
        *,
        at: int,
        by: str,
        reason: str = "",
        evidence: Mapping[str, Any],
        shares: Shares | None = None,
    ) -> Entry:
        """Keep in the log that the gate refused a version, or a share of it."""
        with self.lock():
            entry = Entry(
                number=next_number(self._settled(at)),
                step="refused",
                kind="promote" if shares is None else "share",
                name=name,
                at=at,
                by=by,
                before=self._placed(name, CHAMPION if shares is None else CHALLENGER),
                after=self._version(name, version),
                reason=reason,
                evidence=dict(evidence),
                share=shares,
            )
            append_entry(self._file, entry)
            return entry

    def _moved(self, intent: Entry) -> Entry:
        append_entry(self._file, intent)
        self._registry.set_alias(intent.name, CHAMPION, intent.after.version, at=intent.at)
        free_challenger(self._registry, intent.name)
        done = following(intent, "done", at=intent.at)
        append_entry(self._file, done)
        return done

    def _settled(self, at: int) -> list[Entry]:
        """The log, once every intent whose process died has been settled in it. Called under the lock."""
        entries = read_promotions(self._file)
        self._mended(entries, at)
        ended = {one.number for one in entries if one.step != "intended"}
        for one in [one for one in entries if one.number not in ended]:
            free_challenger(self._registry, one.name)
            moved = self._was_carried_out(one)
            if moved is None:
                continue
            settled = following(one, "done" if moved else "abandoned", at=at, recovered=True)
            append_entry(self._file, settled)
            entries.append(settled)
        return entries

    def _was_carried_out(self, intent: Entry) -> bool | None:
        """Whether an intent was; None where that cannot be told."""
        current = self._placed(intent.name, CHAMPION if intent.share is None else CHALLENGER)
        is_there = current is not None and current.version == intent.after.version
        if intent.share is None:
            return is_there
        if self._share is None:
            return None
        return self._share() == intent.share.after and (is_there or current is None or not intent.share.after)

    def _mended(self, entries: Sequence[Entry], at: int) -> None:
        """Put a damaged alias file aside, and the aliases of the log in its place. Called under the lock."""
        file = self._registry.root / f"{CHAMPION}.json"
        try:
            read_champions(file)
        except BundleError:
            file.replace(file.with_name(f"{CHAMPION}.damaged"))
            for name in dict.fromkeys(one.name for one in entries):
                line = history_of(entries, name)
                if line and line[-1].version in self._registry.versions(name):
                    self._registry.set_alias(name, CHAMPION, line[-1].version, at=at)

    def _placed(self, name: str, alias: str = CHAMPION) -> Placed | None:
        version = self._registry.alias(name, alias)
        return None if version is None else self._version(name, version)

    def _version(self, name: str, version: int) -> Placed:
        try:
            data = (self._registry.path(name, version) / MANIFEST).read_bytes()
        except (OSError, UnknownObject):
            return Placed(version=version, manifest_sha256="")  # the alias is on what is gone: that can be left
        return Placed(version=version, manifest_sha256=sha256(data).hexdigest())


def free_challenger(registry: LocalRegistry, name: str) -> None:
    """Take the challenger's alias from the champion: a share decided by it would compare it with itself.

    A file of challengers that is damaged, or that a training is writing, is left alone: it keeps nobody from promoting,
    and the next training or promotion comes by here again.
    """
    with suppress(BundleError, HomeLocked):
        challenger = registry.alias(name, CHALLENGER)
        if challenger is not None and challenger == registry.alias(name, CHAMPION):
            registry.remove_alias(name, CHALLENGER)


def had_its_turn(registry: LocalRegistry, name: str, version: int) -> bool:
    """Whether a version has an alias, or by the promotion log became the champion or was refused once.

    Raises:
        BundleError: an alias file is damaged.
        StoreUnavailable: the promotion log is there and cannot be read.
    """
    if version in [registry.alias(name, alias) for alias in (CHAMPION, CHALLENGER)]:
        return True
    entries = read_promotions(promotions_file(registry.root))
    return any(one.name == name and one.after.version == version for one in entries)
