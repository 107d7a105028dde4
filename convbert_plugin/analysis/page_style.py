"""The look of every page: type, spacing, light and dark, screens of every width, and paper."""

from convbert_plugin.analysis.theme import DARK, LIGHT, variables

# Below it tables become cards, and pictures are the narrow ones: CSS pixels.
NARROW_SCREEN = 660

STYLE = f"""\
:root {{ color-scheme: light dark; {variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 2.25rem clamp(1rem, 8vw - 2.6rem, 3rem) 4rem; max-width: 84rem;
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
section.plain {{ margin-top: 1.6rem; padding-top: 0; border-top: 0; }}
nav {{ margin: 1.1rem 0 0; font-size: .925rem; line-height: 1.9; }}
nav a {{ color: inherit; text-decoration: underline; text-decoration-color: var(--muted);
        text-underline-offset: .2em; margin-right: 1.1rem; white-space: nowrap; }}
body {{ overflow-wrap: break-word; }}
.path, li, dd, summary {{ overflow-wrap: anywhere; }}
.notes {{ color: var(--muted); font-size: .875rem; padding-left: 1.1rem; }}
.notes li {{ margin: .25rem 0; }}

.legend {{ display: grid; grid-template-columns: auto auto 1fr; gap: .3rem .7rem;
          margin: .9rem 0 1.1rem; max-width: 62rem; align-items: baseline; font-size: .925rem; }}
.legend dt {{ display: contents; font-weight: 650; }}
.legend dt svg {{ width: 2.4rem; height: .8rem; align-self: center; }}
.legend dd {{ margin: 0; color: var(--muted); }}

.pictures {{ display: grid; gap: 1.2rem 2rem; margin: 1rem 0;
            grid-template-columns: repeat(auto-fit, minmax(min(100%, 38rem), 1fr)); }}
figure {{ margin: 0; max-width: 53rem; break-inside: avoid; }}
figure svg {{ display: block; width: 100%; height: auto; font-family: inherit; }}
figure svg text {{ fill: var(--ink); font-variant-numeric: tabular-nums; }}
figure svg.narrow {{ display: none; max-width: 30rem; }}

.table {{ overflow-x: auto; margin: .9rem 0; }}
table {{ border-collapse: collapse; font-size: .925rem; line-height: 1.4;
        min-width: min(100%, 40rem); }}
th, td {{ padding: .38rem .9rem .38rem 0; text-align: left; vertical-align: top; }}
thead th {{ color: var(--muted); font-weight: 500; font-size: .8125rem; vertical-align: bottom;
           border-bottom: 1px solid var(--ink); white-space: nowrap; }}
tbody th {{ font-weight: 600; }}
tbody tr + tr > * {{ border-top: 1px solid var(--grid); }}
tbody tr + tr > .again {{ border-top-color: transparent; visibility: hidden; }}
th:last-child, td:last-child {{ padding-right: 0; }}
.number {{ text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }}
.path {{ min-width: 14rem; }}
summary {{ cursor: pointer; margin: .7rem 0; font-weight: 550; }}
details > :not(summary) {{ margin-left: 0; }}

.passage {{ max-width: 52rem; border-top: 1px solid var(--grid); padding: .8rem 0;
           break-inside: avoid; }}
.passage p {{ margin: .3rem 0; }}
.fact {{ margin-right: 1.5rem; }} .fact .name {{ color: var(--muted); }}
mark {{ color: inherit; background: none; border-bottom: 3px solid transparent; }}
mark.first {{ background: var(--right); }}
mark.second {{ border-color: var(--answered); }}

@media (max-width: {NARROW_SCREEN - 1}px) {{
  figure svg.wide:not(:last-child) {{ display: none; }}
  figure svg.narrow {{ display: block; }}
  .legend {{ grid-template-columns: auto 1fr; }}
  .legend dd {{ grid-column: 1 / -1; margin-bottom: .5rem; }}
}}
@media screen and (max-width: {NARROW_SCREEN - 1}px) {{
  body {{ padding-top: 1.4rem; }}
  table, tbody {{ display: block; min-width: 0; }}
  thead {{ position: absolute; width: 1px; height: 1px; overflow: hidden;
          clip-path: inset(50%); }}
  tbody tr {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(4.6rem, 1fr));
             gap: .15rem .9rem; padding: .7rem 0; }}
  tbody tr:has(> :first-child:not(.again)) {{ border-top: 1px solid var(--ink); }}
  tbody tr > *, tbody tr + tr > * {{ display: block; padding: 0; border: 0; min-width: 0;
             text-align: left; }}
  tbody tr > .again {{ display: none; }}
  tbody th:first-child {{ font-size: 1.05rem; }}
  tbody td::before {{ content: attr(data-label); display: block; color: var(--muted);
             font-size: .75rem; line-height: 1.4; }}
  tbody th, .path, .words {{ grid-column: 1 / -1; }}
}}
@media print {{
  @page {{ margin: 14mm; }}
  body {{ padding: 0; max-width: none; font-size: 10.5pt; }}
  nav {{ display: none; }}
  section {{ margin-top: 1.6rem; }}
  tr, li, .legend {{ break-inside: avoid; }}
  .table {{ overflow: visible; }}
  table {{ font-size: 9pt; }} th, td {{ padding-right: .6rem; }}
  details::details-content {{ content-visibility: visible; block-size: auto; }}
}}
"""
