"""How the whole suite is run."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from importlib import import_module

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is; what hangs is ended by pytest-timeout.
# Each run draws other examples, so a property that names no number sees them in time; in CI they
# are always the same, as seeds are (seeds.py).
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    max_examples=100 if os.environ.get("LORIMER_CAMPAIGN") else 50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: more than there are cores, because tests of the wire and of processes wait for
    real time, a quarter of all."""
    return (os.cpu_count() or 1) * 3 // 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """In a new clone modules of tests have to be compiled, which takes fifteen seconds. Each worker
    begins with a part of its own, and finds the others' parts compiled when it comes to them."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if not number:
        return
    root = session.config.rootpath
    given = {root / word.partition("::")[0] for word in session.config.args}
    found = sorted({file for path in given for file in path.rglob("test_*.py")})
    begin = len(found) * int(number) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for file in found[begin:] + found[:begin]:
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        with suppress(Exception, pytest.skip.Exception):  # collecting meets it again, and tells
            import_module(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Steps look at all classes that there are: their tests come before those that import SDKs, and
    of them those last that import large libraries. They are with that half as long. Campaigns begin
    the part of the second worker: what takes longest is not left for the end, when one worker would
    have it and the others nothing."""
    items.sort(key=_group)
    campaigns = [item for item in items if "campaign" in item.path.parts]
    others = [item for item in items if "campaign" not in item.path.parts]
    begin = len(items) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = [*others[:begin], *campaigns, *others[begin:]]


def _group(item: pytest.Item) -> int:
    if "esg" not in item.path.parts:
        return 2
    return 1 if "loads" in item.keywords else 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip where the library that a test loads is not installed."""
    for mark in item.iter_markers("loads"):
        pytest.importorskip(mark.args[0])


def pytest_collection_finish() -> None:
    """What is there by now stays: ten thousand items, and the classes of three SDKs. Tests that
    collect garbage need not look through all of it, each time for most of a second. And what a
    test leaves is looked for less often than every 700 objects."""
    gc.set_threshold(10_000, 20, 20)
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """So does what is there after each module; what it left for the collector goes now."""
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()
