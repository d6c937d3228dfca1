"""One training: TRL's trainer with our settings, batch size and order of examples, checkpoints, callbacks, and the saved adapter.

Whether and on what to train is decided in `train.py`. Modules that import torch, TRL or transformers at their top (`order`,
`callbacks`) are imported late, inside functions.
"""
