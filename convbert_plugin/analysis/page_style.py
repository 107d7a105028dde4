"""The look of every page: type, spacing, light and dark, screens of every width, and paper."""

from convbert_plugin.analysis.theme import DARK, LIGHT, variables

# Below it tables become cards, and pictures are the narrow ones: CSS pixels.
NARROW_SCREEN = 660

CARDS = """\
  T, T tbody { display: block; min-width: 0; }
  T thead { display: none; }
  T tbody tr { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; padding: .55rem 0;
               break-inside: avoid; }
  T tbody tr:has(> :first-child:not(.again)) { border-top: 1px solid var(--ink); }
  T tbody tr > *, T tbody tr + tr > *, T tbody tr > .number { display: block; padding: 0;
               border: 0; min-width: 0; text-align: left; }
  T tbody tr > .again { display: none; }
  T tbody th, T .path { flex: 1 0 100%; }
  T tbody th:first-child { font-size: 1.05rem; }
  T tbody td::before { content: attr(data-label); display: block; color: var(--muted);
               font-size: .75rem; line-height: 1.4; }
"""


def _cards(table: str) -> str:
    """Rows of the tables that a selector names as cards, in which each value has its label."""
    return CARDS.replace("T", table)


STYLE = f"""\
:root {{ color-scheme: light dark; {variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 2.25rem clamp(1rem, 8vw - 2.6rem, 3rem) 4rem; max-width: 108rem;
       font: 16px/1.5 -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
       "Liberation Sans", Arial, sans-serif; color: var(--ink); background: var(--paper);
       -webkit-text-size-adjust: 100%; }}
h1 {{ font-size: clamp(1.6rem, 1.2rem + 1.6vw, 2.3rem); line-height: 1.15; margin: 0 0 .6rem;
     letter-spacing: -.015em; font-weight: 700; }}
h2 {{ font-size: 1.3rem; line-height: 1.25; margin: 0 0 .4rem; letter-spacing: -.01em;
     break-after: avoid; }}
h3 {{ font-size: 1rem; margin: 0 0 .3rem; }}
p, ul, ol, dl {{ margin: .4rem 0 .8rem; max-width: 46rem; }}
.deck {{ color: var(--muted); font-size: 1.05rem; }}
.lead {{ color: var(--muted); }}
section {{ margin-top: 2.6rem; padding-top: .8rem; border-top: 2px solid var(--ink); }}
section.plain {{ margin-top: 1.4rem; padding-top: 0; border-top: 0; }}
nav {{ margin: 1.1rem 0 0; font-size: .925rem; line-height: 1.9; }}
nav a {{ color: inherit; text-decoration: underline; text-decoration-color: var(--muted);
        text-underline-offset: .2em; margin-right: 1.1rem; }}
body {{ overflow-wrap: break-word; }}
.path, li, dd, summary {{ overflow-wrap: anywhere; }}
.notes {{ color: var(--muted); font-size: .875rem; padding-left: 1.1rem; }}
.notes li {{ margin: .25rem 0; }}

.legend {{ margin: .8rem 0 1.2rem; font-size: .925rem; line-height: 1.4; }}
.legend dt {{ display: flex; gap: .6rem; align-items: center; font-weight: 600; }}
.legend dt svg {{ flex: none; width: 2.2rem; height: .7rem; }}
.legend dd {{ margin: .05rem 0 .55rem; color: var(--muted); font-size: .875rem; }}

.pictures {{ display: grid; gap: 1.2rem 2rem; margin: 1rem 0;
            grid-template-columns: repeat(auto-fit, minmax(min(100%, 38rem), 1fr)); }}
figure {{ margin: 0; max-width: 52rem; break-inside: avoid; }}
figure svg {{ display: block; width: 100%; height: auto; font-family: inherit; }}
figure svg text {{ fill: var(--ink); font-variant-numeric: tabular-nums; stroke: var(--paper);
                 stroke-width: 3px; paint-order: stroke; stroke-linejoin: round; }}
figure svg.narrow {{ display: none; max-width: 26rem; }}

.table {{ overflow-x: auto; margin: .9rem 0; }}
table {{ border-collapse: collapse; font-size: .925rem; line-height: 1.4;
        min-width: min(100%, 40rem); }}
th, td {{ padding: .38rem .9rem .38rem 0; text-align: left; vertical-align: top; }}
thead th {{ color: var(--muted); font-weight: 500; font-size: .8125rem; vertical-align: bottom;
           border-bottom: 1px solid var(--ink); }}
tbody th {{ font-weight: 600; }} tbody th + th {{ font-weight: 400; }}
tbody tr + tr > * {{ border-top: 1px solid var(--grid); }}
tbody tr + tr > .again {{ border-top-color: transparent; visibility: hidden; }}
th:last-child, td:last-child {{ padding-right: 0; }}
.number {{ text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }}
.path {{ min-width: 14rem; }}
summary {{ cursor: pointer; margin: .35rem 0; max-width: 46rem; }}
summary strong {{ font-weight: 600; }}
details > :not(summary) {{ margin-left: 0; }}

.passage {{ max-width: 52rem; border-top: 1px solid var(--grid); padding: .8rem 0;
           break-inside: avoid; }}
.passage p {{ margin: .3rem 0; }}
.fact {{ margin-right: 1.5rem; }} .fact .name {{ color: var(--muted); }}
mark {{ color: inherit; background: none; border-bottom: 3px solid transparent; }}
mark.first {{ background: var(--right); }}
mark.second {{ border-color: var(--answered); }}

@media (min-width: 75rem) {{
  section:not(:has(.broad)) {{ display: grid; grid-template-columns: 15rem minmax(0, 1fr);
            column-gap: 3rem; }}
  .content > :first-child {{ margin-top: .2rem; }}
}}
@media screen and (max-width: 1199px) {{
{_cards("table.broad")}}}
@media screen and (max-width: 899px) {{
{_cards("table.middling")}}}
@media (max-width: {NARROW_SCREEN - 1}px) {{
  figure svg.wide:not(:last-child) {{ display: none; }}
  figure svg.narrow {{ display: block; }}
}}
@media screen and (max-width: {NARROW_SCREEN - 1}px) {{
  body {{ padding-top: 1.4rem; }}
{_cards("table")}}}
@media print {{
  @page {{ margin: 14mm; }}
  body {{ padding: 0; max-width: none; font-size: 10.5pt; }}
  nav {{ display: none; }}
  section {{ margin-top: 1.6rem; }}
  tr, li, .legend {{ break-inside: avoid; }}
  .table {{ overflow: visible; }}
  table {{ font-size: 9pt; }} th, td {{ padding-right: .6rem; }}
{_cards("table.broad")}
}}
"""
