"""``headway rank``: everybody of a trained home ranked at once, as single decisions at the same prices decide."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import EntryPoint
from importlib.resources import files
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
import yaml

from features.cli import COMMAND_GROUP, run
from features.event_store import SqlEventLog
from features.events import dump_timestamp, parse_timestamp
from features.home import HOME_VARIABLE, Home
from models.capacity import reserved_needs
from models.configuration import FILES, load_configuration
from models.price_files import current_versions, publish_prices, read_prices
from models.rank_commands import Ranked, ranked_home, read_customer_ids
from models.record_store import SqlRecordStore
from models.records import Reservation
from serving.runtime import Runtime
from serving.schemas import DecisionRequest
from tests import decision_records
from tests.decision_records import DAY_US
from tests.doors import World

JOURNEY = "credit_card_application"
RANK = EntryPoint("rank", "models.rank_commands:rank", COMMAND_GROUP)
CAPACITY = {
    "limits": [
        {"id": "limit.call", "units": 6, "period": "1d", "channel": "call"},
        {"id": "limit.email", "units": 20, "period": "1d", "channel": "email"},
        {"id": "limit.push", "units": 12, "period": "1d", "channel": "push"},
        {"id": "limit.sms", "units": 4, "period": "1d", "channel": "sms"},
        {"id": "limit.verification_desk", "units": 2, "period": "1d", "queue": "verification_desk"},
    ],
    "budgets": [{"id": "budget.all", "amount": 12.0, "period": "7d"}],
}


@pytest.fixture(scope="module")
def ranked_root(trained_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A copy of the trained home whose policy declares little capacity, and draws nothing."""
    home = Home(tmp_path_factory.mktemp("rank") / "home")
    shutil.copytree(trained_home.root, home.root)
    for name in FILES:
        text = (files("features") / "defaults" / name).read_text()
        if name == "policy.yaml":
            policy = yaml.safe_load(text)
            policy["capacity"] = CAPACITY
            policy["experiment"] |= {"random_eligible": 0.0, "no_contact_holdout": 0.1}
            policy["exploration"]["epsilon"] = 0.0
            text = yaml.safe_dump(policy)
        home.config.mkdir(exist_ok=True)
        (home.config / name).write_text(text)
    return home


@pytest.fixture
def home(ranked_root: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home, which the environment names."""
    monkeypatch.setenv(HOME_VARIABLE, str(ranked_root.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    return ranked_root


def headway(*arguments: str) -> int:
    """The exit code of a command line."""
    return run(("rank", *arguments), os.environ, commands=[RANK])


def late_noon(home: Home) -> int:
    """Noon in the middle of what was simulated, when some journeys are open."""
    with closing(SqlEventLog(home.events_db, readonly=True)) as log:
        times = sorted(each.event.occurred_at for page in log.read() for each in page)
    day = 86_400_000_000
    return times[len(times) * 9 // 10] // day * day + day // 2


@pytest.fixture(scope="module")
def ranked(ranked_root: Home) -> Ranked:
    """Everybody ranked as of that noon."""
    at = late_noon(ranked_root)
    return ranked_home(
        ranked_root, load_configuration(ranked_root, {}), journey_id=JOURNEY, at=at, is_past=True, now=at
    )


@pytest.fixture(scope="module")
def ranked_now(ranked_root: Home) -> Ranked:
    """Everybody ranked an hour after all that was simulated, as if that were now."""
    with closing(SqlEventLog(ranked_root.events_db, readonly=True)) as log:
        at = max(each.event.arrived_at for page in log.read() for each in page) + 3_600_000_000
    return ranked_home(
        ranked_root, load_configuration(ranked_root, {}), journey_id=JOURNEY, at=at, is_past=False, now=at
    )


@contextmanager
def served(home: Home, ranked: Ranked) -> Iterator[Runtime]:
    """The service over the same home, which charges the prices of the ranking; nothing is decided but on trial."""
    publish_prices(home.prices, ranked.prices)
    with (
        closing(SqlEventLog(home.events_db, readonly=True)) as log,
        closing(SqlRecordStore(home.records_db, readonly=True)) as records,
    ):
        world = World(folder=home.root, configuration=load_configuration(home, {}), log=log, records=records)
        world.now = time.time_ns() // 1000
        runtime = world.runtime()
        for champions in world.champions:
            champions.refresh()
        yield runtime
        runtime.workers.close()


def test_a_batch_decides_as_single_decisions_at_its_prices_do(ranked_root: Home, ranked: Ranked) -> None:
    """As of a moment in the past, when consents were what events had told by then."""
    with served(ranked_root, ranked) as runtime:
        regret = regret_of(ranked, runtime, as_of=dump_timestamp(ranked.scene.at), now=runtime.clock())

    assert regret <= ranked.ranking.allocation.gap + 1e-6


def test_so_it_does_now(ranked_root: Home, ranked_now: Ranked) -> None:
    """With the consents and contacts of the record store."""
    with served(ranked_root, ranked_now) as runtime:
        regret = regret_of(ranked_now, runtime, as_of=None, now=ranked_now.scene.at)

    assert regret <= ranked_now.ranking.allocation.gap + 1e-6


def regret_of(ranked: Ranked, runtime: Runtime, *, as_of: str | None, now: int) -> float:
    """What everybody would gain at the prices by what single decisions choose; arms and values are the same.

    The gap is this, and the price of what was left over.
    """
    population, ranking = ranked.population, ranked.ranking
    chosen = dict(zip(population.rows.tolist(), ranking.allocation.choice.tolist(), strict=True))
    row_of = {place: row for row, place in enumerate(population.rows.tolist())}
    selected = 0
    regret = 0.0
    for place, customer_id in enumerate(population.customer_ids):
        asked = DecisionRequest(
            request_id="r",
            customer_id=customer_id,
            journey_id=JOURNEY,
            mode="dry_run",
            direction="outbound",
            as_of=as_of,
            max_actions=20,
        )
        answer = msgspec.json.decode(runtime.decider.decide(asked, source="test", now=now))
        assert answer["experiment"]["arm"] == population.standings[place].arm
        assert answer["versions"]["prices"] == ranked.prices.version
        assert answer["versions"]["bundle"] == ranked.bundle
        found = chosen.get(place, -1)
        best = answer["ranked_actions"][0]["priority"] if answer["selected"] else 0.0
        if found < 0:
            regret += best
            continue
        selected += 1
        treatment_id = ranking.treatment_ids[found]
        single = next(one for one in answer["ranked_actions"] if one["treatment_id"] == treatment_id)
        row = row_of[place]
        assert (single["priority"], single["net_value"]) == (ranking.priority[row], ranking.net_value[row])
        assert single["uplift"] == ranking.uplift[row]
        regret += best - single["priority"]
    assert 0 < selected < len(population.customer_ids)
    return regret


def test_capacities_and_budgets_are_kept(ranked: Ranked) -> None:
    """Something is scarce, and nothing is exceeded; the gap is known and small."""
    allocation = ranked.ranking.allocation

    assert (allocation.used <= list(ranked.left.values())).all()
    assert max(ranked.ranking.prices.values()) > 0
    assert allocation.value <= allocation.bound
    assert allocation.relative_gap < 0.05
    assert ranked.prices.valid_until > ranked.scene.at


def test_the_holdout_gets_no_action_and_says_so(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And everybody has one row: an action with its numbers, or a reason."""
    output = tmp_path / "ranking.parquet"
    at = dump_timestamp(late_noon(home))

    assert headway("--output", str(output), "--at", at, "--json") == 0

    about = json.loads(capsys.readouterr().out)
    rows = pq.read_table(output).to_pylist()
    assert len(rows) == about["customers"] == len({row["customer_id"] for row in rows})
    chosen = [row for row in rows if row["action_id"] != "no_action"]
    assert [row["rank"] for row in chosen] == list(range(1, about["selected"] + 1))
    assert [row["priority"] for row in chosen] == sorted((row["priority"] for row in chosen), reverse=True)
    for row in rows:
        assert (row["reason"] is None) == (row["action_id"] != "no_action")
        assert (row["arm"] == "no_contact_holdout") == (row["reason"] == "holdout")
    assert any(row["reason"] == "holdout" for row in rows)
    assert Counter(row["reason"] for row in rows if row["reason"]) == about["reasons"]
    assert {row["prices_version"] for row in rows} == {about["version"]}
    assert output.stat().st_mode & 0o077 == 0
    calls = sum(row["channel"] == "call" for row in chosen)
    assert calls == about["used"]["limit.call"] <= 6
    assert {"value", "bound", "gap", "prices"} <= about.keys()


def test_only_the_customers_in_a_file(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a CSV that no spreadsheet runs, with a reason for whoever is not known; the file is not replaced unasked."""
    at = dump_timestamp(late_noon(home))
    everybody = tmp_path / "all.parquet"
    assert headway("--output", str(everybody), "--at", at) == 0
    some = [row["customer_id"] for row in pq.read_table(everybody).to_pylist()[:5]]
    wanted = tmp_path / "ids.csv"
    wanted.write_text("\n".join(["customer_id,name", *(f"{one},x" for one in some), "=cmd(),y"]))
    output = tmp_path / "some.csv"
    capsys.readouterr()

    assert headway("--output", str(output), "--at", at, "--customers", str(wanted)) == 0

    assert "6 customers" in capsys.readouterr().out
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["customer_id"] for row in rows} == {*some, "'=cmd()"}
    assert next(row for row in rows if row["customer_id"] == "'=cmd()")["reason"] == "unknown_customer"
    assert headway("--output", str(output), "--at", at) == 2
    assert "add --force" in capsys.readouterr().err


def test_what_was_taken_in_the_period_is_not_there_any_more(ranked_root: Home, ranked: Ranked, tmp_path: Path) -> None:
    """Contacts of the day count against the capacity, and their money against the budget."""
    home = Home(tmp_path / "home")
    shutil.copytree(ranked_root.root, home.root)
    at, configuration = ranked.scene.at, load_configuration(home, {})
    catalogue, capacity = configuration.catalogue, configuration.policy.capacity
    treatment = next(one for one in catalogue.treatment_by_id.values() if one.channel == "email")
    action = catalogue.action_by_treatment[treatment.id]
    with closing(SqlRecordStore(home.records_db)) as records:
        for number, moment in enumerate((at - 10, at - 9, at - 8 * DAY_US)):
            made = decision_records.record(
                number + 1, customer_id=f"x{number}", decided_at=moment, expires_at=moment + DAY_US, selected=()
            )
            contact = decision_records.contact(made, action_id=action.id, channel="email")
            needs = reserved_needs([(action, treatment, 1.0)], capacity, moment, configuration.taxonomy.time_zone)
            records.commit(made, b"{}", Reservation((contact,), (treatment.id,), (), needs=needs))
    found = ranked_home(home, configuration, journey_id=JOURNEY, at=at, is_past=True, now=at)

    spent = 2 * (treatment.contact_cost + action.incentive_cost)
    assert found.left["limit.email"] == ranked.left["limit.email"] - 2
    assert found.left["budget.all"] == pytest.approx(ranked.left["budget.all"] - spent)
    assert found.ranking.allocation.used[1] <= 18


def test_a_home_that_a_server_writes_is_ranked(home: Home, tmp_path: Path) -> None:
    """Log and records are only read: the locks of whoever writes them are not in the way."""
    with closing(SqlEventLog(home.events_db)), closing(SqlRecordStore(home.records_db)):
        assert headway("--output", str(tmp_path / "now.parquet"), "--json") == 0


def test_without_a_champion_the_priors_value_the_actions(
    ranked_root: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the summary says so; a home in which nothing was ever decided is ranked too."""
    home = Home(tmp_path / "home")
    shutil.copytree(ranked_root.root, home.root, ignore=shutil.ignore_patterns("records.db*", "champion.json"))
    monkeypatch.setenv(HOME_VARIABLE, str(home.root))

    assert headway("--output", str(tmp_path / "now.parquet"), "--at", dump_timestamp(late_noon(home))) == 0

    assert "the catalogue's priors alone" in capsys.readouterr().out
    assert set(pq.read_table(tmp_path / "now.parquet")["bundle"].to_pylist()) == {None}


def test_prices_are_published_on_demand(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Now, not of the past; what was published is what the ranking printed."""
    output = tmp_path / "now.csv"

    assert headway("--output", str(output), "--publish-prices", "--json") == 0

    about = json.loads(capsys.readouterr().out)
    assert current_versions(home.prices) == {JOURNEY: about["version"]}
    prices = read_prices(home.prices, about["version"])
    assert prices.prices == about["prices"]
    assert prices.valid_until == parse_timestamp(about["valid_until"])
    assert headway("--output", str(tmp_path / "x.csv"), "--publish-prices", "--at", "2025-01-01T00:00:00Z") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "x.csv", "--journey", "card"), "--journey: got card"),
        (("--output", "x.xes"), "expected a name that ends in .csv"),
        (("--output", "x.csv", "--at", "2999-01-01T00:00:00Z"), "expected a moment not after"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """Exit 2, with what would be right; nothing is written."""
    monkeypatch.chdir(tmp_path)

    assert headway(*arguments) == 2

    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_of_customers(tmp_path: Path) -> None:
    """Lines, a column of a CSV with a byte order mark, a column of Parquet; each id once, none is refused."""
    import pyarrow as pa

    from features.errors import Refused

    (tmp_path / "ids.txt").write_text("c2\n\n c1 \nc2\n")
    (tmp_path / "ids.csv").write_bytes(b"\xef\xbb\xbfcustomer_id,x\nc2,1\nc1,2\n")
    pq.write_table(pa.table({"customer_id": ["c2", "c1", None]}), tmp_path / "ids.parquet")
    for name in ("ids.txt", "ids.csv", "ids.parquet"):
        assert read_customer_ids(tmp_path / name) == ["c2", "c1"]
    (tmp_path / "bad.csv").write_text("id\nc1\n")
    with pytest.raises(Refused, match="has the columns id, expected customer_id"):
        read_customer_ids(tmp_path / "bad.csv")
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(Refused, match="holds no customer id"):
        read_customer_ids(tmp_path / "none.txt")
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(Refused, match="expected a Parquet file"):
        read_customer_ids(tmp_path / "bad.parquet")
