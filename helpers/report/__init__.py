"""Report: verdicts, losses and lengths as tables, plots and pages, for notebooks and the command line.

What is computed here is only what a table shows. Scores and intervals come from `judge`; plots return their Axes and show
nothing.
"""
