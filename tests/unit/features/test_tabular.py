"""Rows of CSV and Parquet files as text."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.mapping_values import Row
from features.tabular import MAX_LINE_CHARACTERS, DamagedFile, MalformedRow, Source, open_csv, open_parquet
from tests.imports import file_of


def _csv(path: Path, *, delimiter: str = "comma", encoding: str = "utf-8-sig", group_by: str | None = None) -> Source:
    return open_csv(path, delimiter=delimiter, encoding=encoding, group_by=group_by)


def _groups(source: Source) -> list[list[dict[str, str]] | str]:
    """The cells of every group; of a malformed row, what is wrong with it."""
    try:
        return [str(g) if isinstance(g, MalformedRow) else [row.cells for row in g] for g in source.rows]
    finally:
        source.close()


def _rows(source: Source) -> list[Row]:
    try:
        return [row for group in source.rows if not isinstance(group, MalformedRow) for row in group]
    finally:
        source.close()


@pytest.mark.parametrize("packed", [False, True])
def test_gzip_is_told_by_content(tmp_path: Path, packed: bool) -> None:
    """A CSV file is read whether or not it is compressed, whatever its name."""
    path = tmp_path / "file.csv"
    content = b"\xef\xbb\xbfa, b \n 1 ,x\n"
    path.write_bytes(gzip.compress(content) if packed else content)

    assert _groups(_csv(path)) == [[{"a": "1", "b": "x"}]]


@pytest.mark.parametrize("first", ["", "a\n1\n"])
def test_a_line_that_no_memory_holds_ends_the_file(tmp_path: Path, first: str) -> None:
    """It is not held whole, wherever it stands; the rows before it are given."""
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(first.encode() + b"x" * (MAX_LINE_CHARACTERS + 1)))
    groups: list[object] = []

    def read() -> None:
        source = _csv(path)
        try:
            groups.extend(source.rows)
        finally:
            source.close()

    with pytest.raises(DamagedFile, match="got a longer line, expected lines of at most 16000000 characters"):
        read()

    assert len(groups) == len(first) // 4


def test_rows_know_where_they_stand(tmp_path: Path) -> None:
    """Numbers leave out headings and empty lines; lines count everything, inside quotes too."""
    rows = _rows(_csv(file_of(tmp_path, 'a\n"two\nlines"\n\nlast\n')))

    assert [(row.file, row.number, row.line) for row in rows] == [("file.csv", 1, 3), ("file.csv", 2, 5)]


@pytest.mark.parametrize(("delimiter", "sign"), [("semicolon", ";"), ("tab", "\t"), ("pipe", "|")])
def test_other_delimiters(tmp_path: Path, delimiter: str, sign: str) -> None:
    """Every named delimiter parts the fields."""
    path = file_of(tmp_path, f"a{sign}b\n1,5{sign}2\n")

    assert _groups(_csv(path, delimiter=delimiter)) == [[{"a": "1,5", "b": "2"}]]


def test_neighbours_form_groups(tmp_path: Path) -> None:
    """Neighbouring rows with the same text in the column are one group, and know their place in it."""
    source = _csv(file_of(tmp_path, "who\na\na\nb\na\n"), group_by="who")
    groups = [group for group in source.rows if not isinstance(group, MalformedRow)]
    source.close()

    assert [[row.cells["who"] for row in group] for group in groups] == [["a", "a"], ["b"], ["a"]]
    assert [(row.index, row.group is groups[0]) for row in groups[0]] == [(0, True), (1, True)]


def test_a_row_with_other_fields_is_malformed(tmp_path: Path) -> None:
    """Too many and too few fields are named, and reading goes on."""
    assert _groups(_csv(file_of(tmp_path, "a,b\n1\n1,2,3\n1,2\n"))) == [
        "got 1 fields, expected 2 fields, one per heading",
        "got 3 fields, expected 2 fields, one per heading",
        [{"a": "1", "b": "2"}],
    ]


def test_bytes_that_are_no_text_are_malformed(tmp_path: Path) -> None:
    """A row in another encoding is refused alone."""
    path = tmp_path / "file.csv"
    path.write_bytes(b"a\nM\xfcller\nMiller\n")

    assert _groups(_csv(path)) == [
        "got bytes that are no text, expected text in the encoding of the table",
        [{"a": "Miller"}],
    ]
    assert _groups(_csv(path, encoding="latin-1")) == [[{"a": "Müller"}], [{"a": "Miller"}]]


def test_an_oversized_field_is_malformed(tmp_path: Path) -> None:
    """A field beyond what CSV allows does not end the import."""
    groups = _groups(_csv(file_of(tmp_path, f"a\n{'x' * 200_000}\nfine\n")))

    assert groups[0] == "got field larger than field limit (131072), expected a row of CSV"
    assert groups[-1] == [{"a": "fine"}]


@pytest.mark.parametrize(("text", "found"), [("", r"\(none\)"), ("a,a\n1,2\n", "a, a")])
def test_bad_headings_are_refused(tmp_path: Path, text: str, found: str) -> None:
    """A file without headings, or with one twice, is not read."""
    with pytest.raises(DamagedFile, match=f"got the headings {found}, expected one heading per column"):
        _csv(file_of(tmp_path, text))


def test_a_cut_gzip_gives_what_came_before(tmp_path: Path) -> None:
    """Whole rows before the cut are given, the cut itself is an error that says where."""
    path = tmp_path / "file.csv.gz"
    whole = gzip.compress("".join(["a\n", *(f"{n}-{n * 7919 % 10007}\n" for n in range(50_000))]).encode())
    path.write_bytes(whole[: len(whole) // 2])
    source = _csv(path)
    groups: list[list[Row] | MalformedRow] = []

    with pytest.raises(DamagedFile, match="expected a whole gzip file") as raised:
        groups.extend(source.rows)
    source.close()

    assert 10_000 < len(groups) < 40_000
    assert f"behind row {len(groups)}" in raised.value.found


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[[pa.Table], Path]:
    """Writes a table to a Parquet file."""

    def write(table: pa.Table) -> Path:
        path = tmp_path / "file.parquet"
        pq.write_table(table, path)
        return path

    return write


def test_parquet_types_become_text(parquet: Callable[[pa.Table], Path]) -> None:
    """Typed cells become the text that a CSV file would hold."""
    table = pa.table(
        {
            "int": [1, None],
            "float": [2.0, 0.1],
            "flag": [True, False],
            "at": pa.array([0, 1_500_000], pa.timestamp("us", "UTC")),
            "text": [" a ", ""],
        }
    )

    assert _groups(open_parquet(parquet(table), group_by=None)) == [
        [{"int": "1", "float": "2", "flag": "true", "at": "1970-01-01T00:00:00+00:00", "text": "a"}],
        [{"int": "", "float": "0.1", "flag": "false", "at": "1970-01-01T00:00:01.500000+00:00", "text": ""}],
    ]


def test_parquet_rows_are_numbered_and_grouped(parquet: Callable[[pa.Table], Path]) -> None:
    """Rows are numbered from 1 and grouped as in CSV."""
    rows = _rows(open_parquet(parquet(pa.table({"who": ["a", "a", "b"]})), group_by="who"))

    assert [(row.number, row.line, row.index) for row in rows] == [(1, None, 0), (2, None, 1), (3, None, 0)]


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    """A file of another kind is named as such."""
    with pytest.raises(DamagedFile, match="expected a whole Parquet file"):
        open_parquet(file_of(tmp_path, "a,b\n", "file.parquet"), group_by=None)
