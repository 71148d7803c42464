"""Benchmarks: each prints a table of figures against a reference of the same run.

``python -m bench`` runs all, ``python -m bench NAME`` one; each writes ``build/bench/NAME.json``.
"""
