"""Which settings belong to a run's identity: said where a setting is declared."""

from __future__ import annotations

from types import MappingProxyType

NO_IDENTITY = MappingProxyType({"identity": False})
"""Metadata of a field on which no result depends: a run may be resumed with another value."""
