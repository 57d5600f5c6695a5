"""Offline venues behind their real wire formats: one deterministic world, and faults by name.

A test double that a user can also play with; nothing outside imports its insides.
"""

from crypto_assets.sandbox.faults import FAULT_SYNTAX, FAULTS
from crypto_assets.sandbox.server import create_app, serve, transport

__all__ = ["FAULTS", "FAULT_SYNTAX", "create_app", "serve", "transport"]
