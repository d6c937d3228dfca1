"""The thin package behind the notebooks: fine-tune a small model for text-to-SQL, and judge it honestly."""
