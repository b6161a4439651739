"""Steps that happen to the service: faults, clocks, other policies, models and people, crashes."""

from __future__ import annotations

import yaml

from features.errors import InvalidInput
from features.events import dump_timestamp
from tests.doors import HOUR_US, JOURNEY
from tests.simulation.course import Course
from tests.simulation.drawing import Step
from tests.simulation.model import SECOND_US, Broken, hold
from tests.simulation.setting import POLICIES, REFUSED_POLICY


def arm(course: Course, step: Step) -> str:
    """A fault that is to come."""
    course.there.faults.armed[step["where"]] = (step["passing"], step["when"])
    return "armed"


def lift(course: Course, _: Step) -> str:
    """No fault is to come any more."""
    course.there.faults.armed.clear()
    return "lifted"


def tick(course: Course, step: Step) -> str:
    """The clock goes on, or is set back a little."""
    by = step["to"] * SECOND_US - course.there.now if "to" in step else step["by"] * SECOND_US
    if "to" not in step or by > 0:
        course.there.now = max(course.there.now + by, course.latest - 6 * HOUR_US)
    course.latest = max(course.latest, course.there.now)
    return dump_timestamp(course.there.now)


def set_policy(course: Course, step: Step) -> str:
    """Another policy: put, written into its file, or refused."""
    configurations = course.there.runtime.configurations
    version = configurations.in_force.configuration.versions["policy"]
    if step["how"] == "refused":
        try:
            configurations.put("policy", REFUSED_POLICY, if_match=f'"{version}"', source="sim")
        except InvalidInput:
            return "refused"
        raise Broken("policy", "a policy that is not valid was put in force")
    wanted = POLICIES[step["variant"]]
    if step["how"] == "put":
        configurations.put("policy", wanted, if_match=f'"{version}"', source="sim")
    else:
        file = course.there.home.config / "policy.yaml"
        file.write_text(yaml.safe_dump(wanted), encoding="utf-8")
        course.there.touch(file)
        configurations.refresh()
        configurations.refresh()
    course.model.policy = wanted
    return configurations.in_force.configuration.versions["policy"]


def promote(course: Course, step: Step) -> str:
    """Another version for an alias."""
    course.there.promote(step["version"], step["alias"])
    course.labels[step["alias"]] = step["version"]
    return "promoted"


def staff(course: Course, step: Step) -> str:
    """People who are told of."""
    now = course.there.now
    told, failed = course.called(lambda: course.there.runtime.workforce.put({"persons": step["persons"]}, now=now))
    for person in step["persons"]:
        course.model.people[person["person_id"]] = person
    for one in told.persons:
        put = course.model.people[one.person_id]
        if "open_work" in put:
            hold("workforce", one.open_work == put["open_work"], (one, put))
    return f"{[(one.person_id, one.open_work) for one in told.persons]} after {failed}"


def crash(course: Course, step: Step) -> str:
    """The service is killed, and opened again."""
    if step["loses_features"]:
        course.suspect |= course.everybody()
    return course.opened(lambda: course.there.crash(loses_features=step["loses_features"]))


def lose_features(course: Course, step: Step) -> str:
    """The online store is emptied, or set back to what it was the last time; it is a cache, and nothing is lost."""
    features = course.there.stores.features
    rows = [features.read(one, JOURNEY) for one in sorted(course.everybody())]
    found = [(row.state, row.profile) for row in rows if row.state is not None and row.profile is not None]
    if step["how"] == "cleared":
        features.forget(sorted(course.everybody()))
    else:
        features.write([state for state, _ in course.seen_rows], [profile for _, profile in course.seen_rows])
    course.seen_rows = found
    course.suspect |= course.everybody()
    return f"{len(found)} rows"
