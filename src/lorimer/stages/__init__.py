"""The stages that ship, one module each."""

from lorimer.stages.catalogue import catalogue

__all__ = ["catalogue"]
