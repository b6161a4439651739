"""What a caller may see of people: which facts and attributes, under which other ids they are known.

The canonical id of a customer is how callers name them, and is shown to all who may read them. The other ids of a
person may be a cookie, a number or an address: whoever may not see them is given a name for each that holds within
one answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from features.taxonomy import Taxonomy
from serving.access import SEES_IDS, SEES_PERSONAL
from serving.auth import Principal
from serving.views import LookupAnswer, PersonAnswer, StoredDecisionOnWire

MASKED: Final = "(masked)"
"""Stands for a value that the caller may not see, where something has to stand."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller may see of people.

    Attributes:
        personal: facts and attributes that are personal.
        ids: the other ids of a person.
    """

    personal: bool
    ids: bool

    @classmethod
    def of(cls, principal: Principal) -> Sight:
        """That of a principal."""
        return cls(personal=not SEES_PERSONAL.isdisjoint(principal.roles), ids=not SEES_IDS.isdisjoint(principal.roles))

    def names(self, linked_ids: Iterable[str]) -> dict[str, str]:
        """How each of a person's other ids is shown.

        >>> Sight(personal=False, ids=False).names(["cookie-7", "+4915112345678"])
        {'+4915112345678': 'linked-1', 'cookie-7': 'linked-2'}
        """
        known = sorted(linked_ids)
        return {one: one if self.ids else f"linked-{place}" for place, one in enumerate(known, start=1)}

    def linked(self, linked_ids: Iterable[str]) -> tuple[str, ...]:
        """A person's other ids as they are shown."""
        return tuple(self.names(linked_ids).values())


def masked_person(answer: PersonAnswer, sight: Sight) -> PersonAnswer:
    """Who somebody is, as it may be seen."""
    return msgspec.structs.replace(answer, linked_ids=sight.linked(answer.linked_ids))


def masked_lookup(answer: LookupAnswer, sight: Sight) -> LookupAnswer:
    """Who was found, as it may be seen."""
    matches = tuple(msgspec.structs.replace(one, linked_ids=sight.linked(one.linked_ids)) for one in answer.matches)
    return msgspec.structs.replace(answer, matches=matches)


def masked_decision(view: StoredDecisionOnWire, sight: Sight, taxonomy: Taxonomy) -> StoredDecisionOnWire:
    """A stored decision as it may be seen: ids that it was asked about, and what the request said of its moment.

    Args:
        view: as it is stored.
        sight: what the caller may see.
        taxonomy: says today what is personal: a record may be older.
    """
    if sight.personal and sight.ids:
        return view
    record = view.record
    names = {record.customer_id: record.customer_id, **sight.names(record.linked_ids)}
    attributes = record.attributes if sight.personal else taxonomy.without_personal(record.attributes)
    masked = msgspec.structs.replace(
        record,
        request=_masked_request(record.request, names, sight, taxonomy),
        linked_ids=sight.linked(record.linked_ids),
        attributes=attributes,
    )
    return msgspec.structs.replace(view, record=masked, answer=_named(view.answer, names))


def _masked_request(request: msgspec.Raw, names: Mapping[str, str], sight: Sight, taxonomy: Taxonomy) -> msgspec.Raw:
    content: dict[str, Any] | None = msgspec.json.decode(request)
    if content is None:
        return request
    if "customer_id" in content:
        content["customer_id"] = names.get(content["customer_id"], MASKED)
    if not sight.personal and content.get("context"):
        open_ones = {name for name, declared in taxonomy.context.items() if not declared.pii}
        content["context"] = {
            name: value if name in open_ones else MASKED for name, value in content["context"].items()
        }
    return msgspec.Raw(msgspec.json.encode(content))


def _named(answer: msgspec.Raw, names: Mapping[str, str]) -> msgspec.Raw:
    """An answer with the customer named as they may be seen; its very bytes where that is as it was."""
    content: dict[str, Any] | None = msgspec.json.decode(answer)
    if content is None or names.get(content["customer_id"]) == content["customer_id"]:
        return answer
    content["customer_id"] = names.get(content["customer_id"], MASKED)
    return msgspec.Raw(msgspec.json.encode(content))
