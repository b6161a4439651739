"""Pages of reports: they stand alone, and escape what they are given."""

from __future__ import annotations

from pathlib import Path

from training.plots import intervals
from training.report_page import Section, figure, page, paragraph, table, write_page


def test_a_page_escapes_what_it_is_given() -> None:
    """A name from the catalogue cannot bring a script along, wherever it is put."""
    bad = "<script>alert(1)</script>"
    text = page(bad, lead=[bad], about=bad, sections=[Section(bad, [paragraph(bad), table([bad], [[bad]])])])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 8


def test_a_page_asks_nobody_else_for_anything(tmp_path: Path) -> None:
    """No address but namespaces stands in a page with a figure, so that it opens without a network."""
    drawn = intervals(["champion", "random"], [1.0, 0.5], [(0.5, 1.5), (0.1, 0.9)], unit="EUR")
    write_page(tmp_path / "report.html", page("R", lead=[], about="", sections=[Section("F", [figure(drawn, "c")])]))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for word in ("src=", 'href="http', "@import", "url(http"):
        assert word not in text


def test_the_same_numbers_give_the_same_drawing() -> None:
    """Drawings hold neither dates nor random ids."""
    first, second = (intervals(["a"], [1.0], [(0.0, 2.0)], unit="EUR") for _ in range(2))
    assert first == second
