"""Vacuo: machines appear because jobs wait, and vanish when the work is done."""

__version__ = "0.1.0"
