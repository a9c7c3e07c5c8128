"""The built-in stages, one module each."""

from lorimer.stages.catalogue import catalogue

__all__ = ["catalogue"]
