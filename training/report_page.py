"""One report as an HTML page that stands alone: no script, no font and no picture from anywhere else.

For people who do not read JSON: a sentence that says what was found, then figures and tables, each with what it means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment
from markupsafe import Markup

from features.whole_files import whole_file

_STYLE: Final = """
:root { color-scheme: light; --ink: #1c2330; --soft: #5b6676; --line: #d9dee6; --good: #1a7f4b; --bad: #b3261e; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
p { margin: .5rem 0; max-width: 46rem; }
.lead { font-size: 1.1rem; }
.about, figcaption { color: var(--soft); font-size: .88rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .92rem; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
figure { margin: .8rem 0; } figure svg { max-width: 100%; height: auto; }
"""

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style }}</style></head><body>
<h1>{{ title }}</h1>
{% for line in lead %}<p class="lead">{{ line }}</p>
{% endfor %}<p class="about">{{ about }}</p>
{% for section in sections %}<section><h2>{{ section.title }}</h2>
{% for part in section.parts %}{{ part }}
{% endfor %}</section>
{% endfor %}</body></html>
"""

_TABLE: Final = """<div class="wide"><table><thead><tr>{% for cell in head %}
<th{{ ' class="number"'|safe if loop.index0 in numeric }}>{{ cell }}</th>{% endfor %}
</tr></thead><tbody>{% for row in rows %}
<tr>{% for cell in row %}<td{{ ' class="number"'|safe if loop.index0 in numeric }}>{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>"""

_TEMPLATES: Final = Environment(autoescape=True)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        parts: what it holds, from ``paragraph``, ``table`` and ``figure``.
    """

    title: str
    parts: Sequence[Markup]


def page(title: str, *, lead: Sequence[str], about: str, sections: Sequence[Section]) -> str:
    """The page.

    Args:
        title: what the report is on.
        lead: what was found, in sentences that need no table.
        about: what it was made from and when.
        sections: the rest, in reading order.
    """
    template = _TEMPLATES.from_string(_PAGE)
    return template.render(title=title, lead=lead, about=about, sections=sections, style=Markup(_STYLE))  # noqa: S704  # ours


def paragraph(text: str, *, tone: str = "") -> Markup:
    """A paragraph; ``tone`` is ``good``, ``bad`` or nothing."""
    return Markup('<p class="{}">{}</p>').format(tone, text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Iterable[int] = ()) -> Markup:
    """A table of texts; the columns in ``numeric`` are set to the right."""
    rendered = _TEMPLATES.from_string(_TABLE).render(head=head, rows=list(rows), numeric=frozenset(numeric))
    return Markup(rendered)  # noqa: S704  # rendered with every cell escaped


def figure(svg: str, caption: str) -> Markup:
    """A drawing of ours (``training.plots``), with what there is to see in it."""
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(Markup(svg), caption)  # noqa: S704  # ours


def write_page(path: Path, text: str) -> None:
    """Write a page, replaced in one step."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
