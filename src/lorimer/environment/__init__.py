"""What people do with manifests: compare and explain them, keep a folder of them, carry them over
from geny-executor, and the settings that stand beneath them."""

from lorimer.environment.diff import Change, diff
from lorimer.environment.values import values

__all__ = ["Change", "diff", "values"]
