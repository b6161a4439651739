"""A process that explains decisions for the service, which must not have LightGBM in its own.

``python -m models.explanation_process`` answers line by line from standard input, and ends when nobody has asked for a
while: LightGBM takes seconds to import and a good deal of memory, so it is worth keeping warm, and not for long.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from features.errors import BundleError, HeadwayError, Refused
from features.home import Home, telemetry_off, use_numba_cache
from models.configuration_history import deciding_configuration
from models.decision import load_record
from models.explanation_requests import ExplanationReply, ExplanationRequest

POLITENESS: Final = 10
"""An explanation waits for whatever else the machine has to do."""

IDLE_SECONDS: Final = 300.0


def explained(home: Home, request: ExplanationRequest) -> bytes:
    """The explanation of a decision as JSON.

    Raises:
        Refused: it was made with other features, in a journey or by a bundle that is not here.
        BundleError: the bundle is damaged, or is not the one that decided.
    """
    from features.schema import feature_set
    from models.deciding_bundle import deciding_bundle
    from models.explanation import explain, explanation_document
    from models.registry import LocalRegistry

    record = load_record(request.record)
    configuration = deciding_configuration(record, home, os.environ)
    journey = configuration.journeys.by_id.get(record.journey_id)
    if journey is None:
        known = ", ".join(configuration.journeys.by_id)
        raise Refused(f"decision {record.decision_id} is of the journey {record.journey_id}, expected one of {known}")
    found = explain(
        record,
        deciding_bundle(record, LocalRegistry(home.bundles)),
        journey=journey,
        catalogue=configuration.catalogue,
        feature_set=feature_set(configuration.taxonomy, journey),
    )
    return msgspec.json.encode(explanation_document(found, action_id=request.action_id))


def reply(home: Home, line: bytes) -> ExplanationReply:
    """What to say to a request; whatever goes wrong is said, and the process goes on."""
    try:
        request = msgspec.json.decode(line, type=ExplanationRequest)
        return ExplanationReply(kind="explained", document=msgspec.Raw(explained(home, request)))
    except (Refused, BundleError) as error:
        return ExplanationReply(kind="refused", message=str(error))
    except HeadwayError as error:
        return ExplanationReply(kind="failed", message=str(error))
    except Exception as error:
        return ExplanationReply(kind="failed", message=f"{type(error).__name__}: {error}")


def main(env: Mapping[str, str] = os.environ, *, idle_seconds: float = IDLE_SECONDS) -> int:
    """Answer until nobody asks; the exit code."""
    telemetry_off(os.environ)
    os.nice(POLITENESS)
    home = Home.from_environment(env)
    use_numba_cache(home)
    while select.select([sys.stdin.buffer], [], [], idle_seconds)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            break
        sys.stdout.buffer.write(msgspec.json.encode(reply(home, line)) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
