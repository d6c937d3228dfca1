"""Where things come from: Spider, the demo data or a user's folder; models from the Hub, PyPI, a folder, or made on the spot.

Servers and archives are not trusted: checksums decide. `sample/` is the embedded demo data, `example/` a database of no data set.
What a question becomes in a prompt is `prompts`; how a model is loaded is `models.py`.
"""
