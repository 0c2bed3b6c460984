"""Faults that `mutations.py` plants in reports."""

from faults import Fault

FAULTS = (
    Fault(
        what="text of tables stands in a report as it is",
        file="mzprobe/report/page.py",
        old="autoescape=True",
        new="autoescape=False",
        test="tests/test_report.py::test_text_of_tables_stays_text",
    ),
    Fault(
        what="a report shows the mean of all agents as each agent's own",
        file="mzprobe/report/numbers.py",
        old="plan.aggregate(own)",
        new="plan.aggregate(frame)",
        test="tests/test_report.py::test_agents_own_numbers_are_those_of_their_rows_by_hand",
    ),
)
