"""A question and its database -> what the model reads, token by token; and what the model writes -> SQL.

In between lies the intermediate representation (IR): the simpler SQL that the model learns to write. This room knows no model, no
data set and no run, only a database file, a question and a tokenizer.
"""
