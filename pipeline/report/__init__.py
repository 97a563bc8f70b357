"""The report: what the stages left in a run folder, joined into report.json and report.html."""
