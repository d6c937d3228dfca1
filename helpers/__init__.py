"""Fine-tune a small model for text-to-SQL, and judge it honestly: the five steps of the course, and the rooms they stand on.

The course is five files named like its notebooks: `setup`, `data`, `models`, `train`, `evaluate`. Everything else lies in rooms
(folders). A room imports only rooms and steps that stand above it here:

    run        configuration, machine, run folder, processes
    databases  an SQLite file: its schema, its rows safely, SQL as a tree
    judge      predictions -> verdicts and scores; needs no torch
    prompts    a question and its database -> what the model reads; what it writes -> SQL
    sources    where questions, databases and models come from
    (setup, data, models)
    trainer    one training: batch size, order, checkpoints, adapter
    decoding   a tuned model -> candidates, constrained and reranked
    report     tables, plots, pages
    (train, evaluate)
    apps       ask, demo, export, training pairs, benchmark
    cli        the commands of `python -m helpers`
"""

__version__ = "0.2.0"
