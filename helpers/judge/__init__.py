"""Turn predictions into verdicts and scores by the official evaluator's rules, with its named faults repaired.

Predictions are foreign code; they run in `databases.sandbox`. It needs no torch or model and sets no environment variable.
So any system's predictions can be judged anywhere.
"""
