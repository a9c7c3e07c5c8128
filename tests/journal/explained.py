"""What must hold of every explanation, whatever the run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lorimer.core import mutation
from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.request import NO_USAGE
from lorimer.environment.values import values, written
from lorimer.journal.explain import KINDS, Explanation, explain
from lorimer.journal.explain.costs import costs
from lorimer.journal.recording import Recording
from lorimer.pipeline import Pipeline
from lorimer.stages.catalogue import catalogue as shipped
from lorimer.tools.policy import engine

POLICY = {value for value in vars(engine).values() if str(value).startswith("policy.")}
OWN = {"policy.read", "policy.review", "single_turn", "stage", "run.end"}
CODES = {code.value for code in ExecutorErrorCode}
DECIDES = re.compile(r"(approval|question|again|reconcile|models):")


async def told(pipeline: Pipeline, run_id: str) -> list[Explanation]:
    """A run, explained: and what must hold, held against it."""
    from lorimer.journal.recording import recorded

    run = await recorded(pipeline.journal, run_id)
    found = await pipeline.explain(run_id)
    check(found, run, pipeline.catalogue)
    return found


def check(found: Sequence[Explanation], run: Recording, catalogue: Catalogue | None = None) -> None:
    """Every decision has a line, every line a reason and an origin that is there."""
    known = catalogue or shipped()
    assert [each.seq for each in found] == sorted(each.seq for each in found)
    lines = {each.seq for each in found}
    decided = {(f.iteration, f.data["key"]) for f in run.facts if f.type == "decision"}
    for fact in run.facts:
        before = fact.type == "tool.result" and (fact.iteration, fact.data["key"]) in decided
        assert fact.seq in lines or before or not is_decision(fact), fact
    manifests = list(_manifests(run, known))
    said = {path for each in manifests for path in written(each.to_dict(), known)}
    there = {path for each in manifests for path in values(each, known)}
    for each in found:
        assert each.kind in KINDS and each.what.strip() and each.why.strip(), each
        kind, name = each.origin.kind, each.origin.name
        assert name.strip(), each
        if kind == "manifest" and manifests:
            plain = re.sub(r"(permissions\.\w+|agents)\[\d+\]$", r"\1", name)
            plain = plain.replace("model_override.model", "model_override")
            assert plain in said, each
        elif kind == "default":
            assert name in there, each
        elif kind == "engine":
            assert name in POLICY | OWN | CODES, each
    paid = costs(run, known)
    assert all(each.who and each.seq for each in paid)
    if run.end is not None:
        assert sum(each.nano for each in paid) == run.end.data["cost"]
        usage = sum([each.usage for each in paid], NO_USAGE)
        assert usage.to_json() == run.end.data["usage"]


def is_decision(fact: Event) -> bool:
    """Something was decided here."""
    data, key = fact.data, str(fact.data.get("key", ""))
    match fact.type:
        case "model.reply" | "forked":
            return False
        case "tool.result":
            return "hash" in data or str(data.get("error")).startswith(("exec.tool.not", "exec.ch"))
        case "effect":
            said = "error" in data or any(n in data for n in ("decision", "change", "context"))
            return DECIDES.match(key) is not None or (key.startswith("hook:") and said)
        case "effect.intent":
            return key.startswith(("approval:", "question:", "again:"))
        case _:
            return True


def _manifests(run: Recording, known: Catalogue) -> Iterator[EnvironmentManifest]:
    if run.manifest is None:
        return
    manifest = EnvironmentManifest.from_dict(run.manifest)
    yield manifest
    for fact in run.facts:
        if fact.type == "mutated":
            changes = [mutation.read(each) for each in fact.data["changes"]]  # type: ignore[arg-type,union-attr]
            manifest = mutation.apply(manifest, changes, known)
            yield manifest


def of(found: Sequence[Explanation], *kinds: str) -> list[tuple[str, str]]:
    """What was decided, and by what, of these kinds."""
    return [(each.what, str(each.origin)) for each in found if each.kind in kinds]


def without_pipeline(run: Recording) -> list[Explanation]:
    """As somebody sees it who has the record alone."""
    found = explain(run, shipped())
    check(found, run)
    return found
