"""Apps: what a trained model and the course's tools are used for: asking, the demo page, export, training pairs, the benchmark.

Each app reads a run folder, a database or both. The commands that start them belong to `cli`.
"""
