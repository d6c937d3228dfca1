"""The thin package behind the notebooks: fine-tune a small model for text-to-SQL, and judge it honestly."""

from helpers import environment

environment.grow_memory_in_place()  # here, for torch must not have been imported yet
