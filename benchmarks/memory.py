"""What memory this process holds. Imports next to nothing, like scale.py."""

from __future__ import annotations

import os
import resource
import sys


def peak_rss_kib() -> float:
    """The most it ever held."""
    return _status("VmHWM:") or _max_rss_kib()


def rss_kib() -> float:
    """What it holds now; where that is not known, the most it ever held."""
    return _status("VmRSS:") or _max_rss_kib()


def _status(field: str) -> float | None:
    if not os.path.exists("/proc/self/status"):
        return None
    with open("/proc/self/status", encoding="utf-8") as status:
        return next((float(line.split()[1]) for line in status if line.startswith(field)), None)


def _max_rss_kib() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1024 if sys.platform == "darwin" else float(most)
