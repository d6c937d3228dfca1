"""Command line: the options and output of `python -m helpers`.

A command checks its input first. The work itself is done in the other rooms.
"""
