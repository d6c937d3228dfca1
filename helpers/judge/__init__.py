"""The judge: predictions -> verdicts -> scores, as the official evaluator compares them, with its faults repaired by name.

Predictions are foreign code; they run in `databases.sandbox`. Nothing here needs torch, knows a model, or sets a variable.
So any system's predictions can be judged anywhere.
"""
