"""What every data set is given: where the real data are, and how much to do."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

ROOT: Final = Path(__file__).parents[2]
DEFAULT_DATA: Final = ROOT.parent / "shared" / "data"

FILES: Final = {
    "simulated": (),
    "hillstrom": ("hillstrom/hillstrom.csv.gz",),
    "loan_offers": ("loan_offers/kz_demandelasts_aer08.dta.gz",),
    "bpic2012": ("bpic2012/bpic2012.xes.gz",),
    "ihdp": tuple(f"ihdp/ihdp_npci_{number}.csv.gz" for number in (1, 2, 3)),
    "open_bandit": ("open_bandit/random/all.csv.gz", "open_bandit/bts/all.csv.gz", "hillstrom/hillstrom.csv.gz"),
}
"""The data sets, in the order of the page, and the files of each."""


class DataMissing(Exception):
    """A file of real data is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the gates are computed.

    Attributes:
        data: the folder of the real data.
        quick: small sizes and one seed: shows that it runs, measures nothing well.
    """

    data: Path
    quick: bool

    def file(self, name: str) -> Path:
        """The path of a file of real data.

        Raises:
            DataMissing: it is absent.
        """
        path = self.data / name
        if not path.is_file():
            raise DataMissing(f"{path} is absent: give the folder of the real data by --data or HEADWAY_TEST_DATA")
        return path

    def csv(self, name: str, **options: Any) -> pd.DataFrame:
        """A CSV file as a frame."""
        return pd.read_csv(self.file(name), **options)

    def stata(self, name: str) -> pd.DataFrame:
        """A zipped Stata file as a frame."""
        with gzip.open(self.file(name)) as unzipped:
            return pd.read_stata(unzipped)

    def repeats(self, n: int) -> int:
        """How many seeds or splits: one where quick."""
        return 1 if self.quick else n


def default_data() -> Path:
    """``HEADWAY_TEST_DATA``, or the folder beside the project."""
    return Path(os.environ.get("HEADWAY_TEST_DATA") or DEFAULT_DATA)
