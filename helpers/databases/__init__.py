"""An SQLite file, seen from outside: its schema, its rows within limits, SQL as text and as a tree, and Spider's file layout.

Databases and queries are hostile input here. What a question means, and whether an answer is right, is decided elsewhere.
Importing this room needs neither torch nor a network. `sandbox` needs the standard library alone: its worker has no packages.
"""
