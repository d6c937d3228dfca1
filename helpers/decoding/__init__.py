"""Decoding: generate answers to prompts, constrained by a grammar; rerank them; select one by execution.

Reading a text back as SQL belongs to `prompts`; keeping and judging a run's predictions belongs to `evaluate`.
"""
