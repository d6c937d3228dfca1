"""Commands for whoever keeps the repository: its address, its tables, its requirements on Colab."""
