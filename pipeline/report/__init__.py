"""The report: what the stages left in a run folder, joined into report.json and report.html.

    run folder --join.py--> contents.Report --sections/*.py--> one dataclass a section --templates/--> page

`contents.py` and `contents_search.py` declare what report.json holds; `join*.py` read it from a run folder.
The page shows one section after the other. A section is one module of `sections/`, whose function takes the
report and returns a frozen dataclass (None if the run has nothing to show), and one template of `templates/`,
named by that dataclass and rendered with it as `section`.

To add a section, write `sections/NAME.py` and `templates/NAME.html.j2`, and call the function in
`page.sections`, in the order of the page. If it needs a number that the report lacks, add a field to
`contents.py` and fill it in `join.py`.

Templates escape every text. Only what this package makes itself (charts, plotly.js) is `Markup`.
"""

from pipeline.report.contents import Report
from pipeline.report.join import join_report, write_report

__all__ = ["Report", "join_report", "write_report"]
