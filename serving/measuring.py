"""What is measured for callers by commands of their own processes: experiments, and policies simulated on the log."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from features.errors import ConfigurationError, InvalidInput, UnknownObject
from features.events import shown
from features.yaml_files import dump_yaml
from serving.child_commands import Command, RunCommand
from serving.configurations import Configurations, Part, of_body
from serving.measuring_views import (
    DEFAULT_DECISIONS,
    MOST_DECISIONS,
    MOST_GROUPS,
    ExperimentReport,
    SimulationAnswer,
    SimulationRequest,
)
from serving.requests import Fields

REPORTING_SECONDS: Final = 600.0
SIMULATING_SECONDS: Final = 600.0
KEPT_ANSWERS: Final = 16

_EXPERIMENT_ID: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_GROUP: Final = re.compile(r"[a-z][a-z0-9_.:]{0,99}")
_PARTS: Final[tuple[Part, ...]] = ("policy", "actions")


class ExperimentDesk:
    """Reports on experiments: kept ones at once, a new one where none is being made.

    Args:
        state: what a report depends on: where the logs end, and the configuration.
        run: runs a command.
    """

    def __init__(self, *, state: Callable[[], tuple[Any, ...]], run: RunCommand) -> None:
        self._state, self._run = state, run
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._guard = threading.Lock()

    def report(self, experiment_id: str) -> ExperimentReport:
        """The report on an experiment. It may take a while: call it in a thread.

        Raises:
            UnknownObject: no decision names such an experiment.
            NotEnoughData: there is too little to tell anything.
            InFlight: it is still being made; asking again gives it.
            TooManyRequests: another report is being made.
            StoreError: the log does not answer, or the report could not be made.
        """
        if not _EXPERIMENT_ID.fullmatch(experiment_id):  # nothing else ever becomes a word of a command
            raise UnknownObject(f"no experiment {shown(experiment_id)}; expected an id such as policy.yaml declares")
        key = (experiment_id, *self._state())
        with self._guard:
            found = self._kept.get(key)
        if found is None:
            words = ("report", "experiment", experiment_id, "--json")
            found = self._run(Command(kind="experiment report", words=words, seconds=REPORTING_SECONDS)).document
            self._keep(key, found)
        return ExperimentReport(experiment_id=experiment_id, report=found)

    def _keep(self, key: tuple[Any, ...], found: Any) -> None:
        with self._guard:
            self._kept[key] = found
            while len(self._kept) > KEPT_ANSWERS:
                self._kept.popitem(last=False)


class SimulationDesk:
    """Tries policies, catalogues and model versions on recorded decisions.

    Args:
        configurations: what is in force.
        run: runs a command.
    """

    def __init__(self, *, configurations: Configurations, run: RunCommand) -> None:
        self._configurations, self._run = configurations, run

    def simulated(self, document: object) -> SimulationAnswer:
        """What would have come of the newest decisions. It may take a while: call it in a thread.

        Args:
            document: the body, a ``SimulationRequest``.

        Raises:
            InvalidInput: with every bad field, those inside of the documents included.
            UnknownObject: there is no such version.
            NotEnoughData: there is too little to tell anything.
            InFlight: it is still running; asking the same again gives its result.
            TooManyRequests: another simulation is under way.
            StoreUnavailable: it could not be made.
        """
        fields = Fields.of(document, SimulationRequest.__struct_fields__)
        documents: dict[Part, object] = {part: value for part in _PARTS if (value := fields.value(part)) is not None}
        version = fields.integer("version", 1, 1_000_000, None)
        last = fields.integer("last", 1, MOST_DECISIONS, DEFAULT_DECISIONS)
        journeys = tuple(self._configurations.in_force.configuration.journeys.by_id)
        journey_id = fields.choice("journey_id", journeys, "")
        groups = fields.texts("group_by", MOST_GROUPS)
        for position, group in enumerate(groups):
            if not _GROUP.fullmatch(group):
                fields.add(f"group_by[{position}]", group, "the name of an attribute")
        if not documents and version is None:
            fields.add("policy", None, "a policy, actions or a version: something to try")
        fields.refuse("the body cannot be simulated")
        self._check(documents)
        words = ["simulate-policy", "--last", str(last), "--json"]
        words += ["--journey", journey_id] if journey_id else []
        words += ["--version", str(version)] if version is not None else []
        words += [word for group in groups for word in ("--group-by", group)]
        files = tuple((f"--{part}", dump_yaml(content)) for part, content in documents.items())
        command = Command(kind="simulation", words=tuple(words), seconds=SIMULATING_SECONDS, files=files)
        return SimulationAnswer(result=self._run(command).document)

    def _check(self, documents: Mapping[Part, object]) -> None:
        try:
            self._configurations.checked(documents)
        except ConfigurationError as error:
            problems = of_body(error, {part: part for part in documents})
            raise InvalidInput("the documents could not be put in force", problems) from error
