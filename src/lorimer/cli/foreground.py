"""Assembles a run (journal, pipeline, rules, approver, screen) and drives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorimer.cli import agent, host, settings
from lorimer.cli.approve import TerminalApprover, can_ask
from lorimer.cli.call import Call
from lorimer.cli.drive import Drive, primed
from lorimer.cli.error_context import remember_secrets
from lorimer.cli.fail import FAILED, Fault, report
from lorimer.cli.owner import own_name
from lorimer.cli.places import expanded
from lorimer.cli.policy_files import mode_of, read_policy_files
from lorimer.cli.progress import screen_for
from lorimer.cli.reading import find, manifest_of, no_manifest, take_over_run
from lorimer.cli.store import existing_store, opened, store_path
from lorimer.cli.story import Story
from lorimer.cli.text import short_id
from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.variables import secrets_of
from lorimer.core.world import Sandbox
from lorimer.journal.recording import facts_of
from lorimer.models.recording import Recorder
from lorimer.pipeline import Pipeline
from lorimer.tools.asking import AskLater
from lorimer.world import RealWorld
from lorimer.world.hosts import listed
from lorimer.world.plainfiles import Lines

if TYPE_CHECKING:
    from lorimer.cli.options import Terms
    from lorimer.cli.progress import Screen
    from lorimer.core.events import Event
    from lorimer.core.limits import Limits
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.core.model import ModelResolver
    from lorimer.core.result import PipelineResult
    from lorimer.core.tool import Approver
    from lorimer.core.world import World
    from lorimer.journal.sqlite.store import SQLiteJournal
    from lorimer.models.hostfile import Host
    from lorimer.models.registry import Models
    from lorimer.tools.policy.rules import Rule


async def begin(
    manifest: EnvironmentManifest,
    task: str,
    limits: Limits,
    terms: Terms,
    record: Path | None = None,
) -> int:
    """Run a new task to its end; returns the exit code. `record`: the file for its model calls."""
    world = RealWorld()
    prepared = await prepare(manifest, terms, world)
    recording: Lines | None = None
    async with AsyncExitStack() as files, opened(store_path(terms.store), world) as journal:
        if record is not None:
            recording = Lines(record)
            files.callback(recording.close)
            prepared = replace(prepared, models=Recorder(prepared.models, recording.write))
            if recording.lost:
                raise Fault(recording.lost)
        code = await drive(
            prepared,
            Story(),
            journal,
            world,
            lambda pipeline: pipeline.run(task, limits=limits, raise_on_error=False),
        )
    if recording is not None and recording.lost:  # the run went on: its answers are paid for
        report(f"the recording is not whole: {recording.lost}")
        return code or FAILED
    return code


@dataclass(frozen=True, slots=True)
class Prepared:
    """An agent, and everything that was resolved for it before its run starts."""

    manifest: EnvironmentManifest
    terms: Terms
    models: ModelResolver
    rules: list[Rule]
    """The rules of `--allow`."""
    call: Call
    """Its options, as they are stored."""


async def prepare(
    manifest: EnvironmentManifest,
    terms: Terms,
    world: RealWorld,
    began: Call = Call(),  # noqa: B008 - it is immutable
) -> Prepared:
    """Resolve and check everything that a run needs. `began`: the options of the run that this one
    continues, which count where none are given now. Raises Fault and ConfigError."""
    await _sandbox_works(terms, world)
    models, call = _connected(manifest, terms, began, world)
    return Prepared(manifest, terms, models, agent.rules_for(terms.allow, manifest), call)


def assemble(prepared: Prepared, journal: SQLiteJournal, world: World, screen: Screen) -> Pipeline:
    """The pipeline of a command: its journal is the store, the files of rules and hooks apply, and
    the options of each run are stored with it."""
    terms, manifest, workspace = prepared.terms, prepared.manifest, Path(prepared.call.workspace)
    approver = _approver_for(terms, screen)
    found = read_policy_files(workspace)
    for note in (*terms.notes, *found.notes):
        screen.line([("note: ", "yellow"), (note, "")])
    variables = agent.variables(terms.env)
    remember_secrets(secrets_of(manifest, variables))
    attended = approver is not None
    mode = mode_of(terms.permission_mode, found, attended=attended, at_most=terms.at_most)
    pipeline = Pipeline(
        manifest,
        models=prepared.models,
        journal=journal,
        world=world,
        rules=[*found.rules, *prepared.rules],
        permission_mode=mode.value,
        approver=approver,
        workspace=workspace,
        sandbox=terms.sandbox or "auto",
        network=terms.network,
        variables=variables,
        hooks=found.hooks,
        owner=own_name(),
    )

    async def remember(event: Event) -> None:
        await prepared.call.keep(journal, event.run_id)

    pipeline.on("run.start", remember)
    return pipeline


async def drive(
    prepared: Prepared,
    story: Story,
    journal: SQLiteJournal,
    world: World,
    go: Callable[[Pipeline], Awaitable[PipelineResult]],
    run_id: str = "",
) -> int:
    """Build the pipeline and let `go` run something with it, in the foreground; returns the exit
    code. `run_id`: of the run, if it has one already."""
    output = prepared.terms.output
    screen = screen_for(story, world, quiet=output.quiet)
    pipeline = assemble(prepared, journal, world, screen)
    async with pipeline:
        driven = Drive(pipeline, story, screen, output, world, prepared.call)
        return await driven.run(lambda: go(pipeline), run_id)


async def _sandbox_works(terms: Terms, world: RealWorld) -> None:
    """Raises Fault if the required sandbox does not work here."""
    if terms.sandbox != "require":
        return
    try:
        await world.isolation(Sandbox(at_least="L2"))
    except ToolExecutionError as error:
        raise Fault(
            error.message,
            code=error.code.value,
            hint="Install bubblewrap and see `lorimer doctor`, or accept less: --sandbox auto",
        ) from None


def as_strict(terms: Terms, call: Call) -> Terms:
    """The terms of a run that continues one started by `call`: at least as strict as then, except
    where options are given now."""
    sandbox = terms.sandbox or ("require" if call.sandbox == "require" else None)
    return replace(terms, sandbox=sandbox, at_most=call.strict_mode or None)


def _connected(
    manifest: EnvironmentManifest, terms: Terms, call: Call, world: World
) -> tuple[Models, Call]:
    """The models of a run, and its options as they are stored. `call` has the options of the run
    that it continues, which count where none are given now."""
    workspace = _workspace(terms, call)
    base_url, key_variable = _base_url(terms, call), _key_variable(terms, call)
    known = known_models(terms, call)
    asked = agent.filled(manifest, terms.env)
    again = bool(call.workspace)
    models = agent.connect(asked, base_url, key_variable, world, known, again=again)
    rules = terms.allow or call.rules
    file = _absolute(terms.models) or call.models
    now = Call(
        str(workspace),
        base_url or "",
        rules,
        key_variable or "",
        file,
        terms.sandbox or call.sandbox,
        listed(terms.network) or call.network,
        terms.permission_mode or call.mode,
        agent.names(terms.env) or call.env,
    )
    return models, now


def _absolute(path: str | None) -> str:
    return str(expanded(path).resolve()) if path else ""


def _approver_for(terms: Terms, screen: Screen) -> Approver | None:
    """Who is asked: the terminal, someone who answers later, or nobody."""
    if terms.ask_later:
        return AskLater()
    return TerminalApprover(screen.paused) if can_ask() else None


async def resume(run_id: str, terms: Terms) -> int:
    """Resume an interrupted run; returns the exit code."""
    world = RealWorld()
    async with opened(existing_store(terms.store), world) as journal:
        row = await find(journal, run_id)
        if row.status:
            raise Fault(
                f"run {short_id(row.run_id)} has ended ({row.status}): there is nothing to resume",
                code=ExecutorErrorCode.EXEC_RUN_ENDED.value,
                hint=f"lorimer runs show {short_id(row.run_id)}",
            )
        facts = await facts_of(journal, row)
        manifest = await manifest_of(journal, facts)
        if manifest is None:
            raise no_manifest(
                row.run_id,
                f"It cannot be resumed; end it: lorimer runs cancel {short_id(row.run_id)}",
            )
        call = await Call.of(journal, row.run_id)
        said = bool(
            terms.allow or terms.network or terms.env or terms.sandbox or terms.permission_mode
        )
        given_up = f"; or abandon the run: lorimer runs cancel {short_id(row.run_id)}"
        workspace = _workspace(terms, call, given_up)
        terms = settings.with_settings(
            as_strict(terms, call), settings.effective_settings(workspace)
        )
        missing = _missing(terms, call)
        if missing:
            terms = replace(terms, notes=(_begun_with(missing), *terms.notes))
        prepared = await prepare(manifest, terms, world, call)
        if missing and not said and not terms.ask_later and not can_ask():
            raise _rules_wanted(row.run_id, call)
        await take_over_run(journal, row)
        return await drive(
            prepared,
            primed(facts),
            journal,
            world,
            lambda pipeline: pipeline.resume(row.run_id, raise_on_error=False),
            row.run_id,
        )


def _workspace(terms: Terms, call: Call, otherwise: str = "") -> Path:
    if terms.workspace is not None:
        return terms.workspace.resolve()
    path = Path(call.workspace) if call.workspace else Path.cwd()
    if not path.is_dir():
        raise Fault(
            f"the workspace of this run, {path}, no longer exists",
            hint=f"Say where it is now: --workspace DIR{otherwise}",
        )
    return path


def known_models(terms: Terms, call: Call) -> Host:
    """The settings of the host file named by the terms, else by the call. Raises ConfigError and
    Fault."""
    if not terms.models and call.models and not Path(call.models).is_file():
        raise Fault(
            f"the host file of this run, {call.models}, no longer exists",
            hint="Say where it is now: --models FILE",
        )
    return host.read(terms.models or call.models)


def _base_url(terms: Terms, call: Call) -> str | None:
    if terms.base_url is None and "***" in call.base_url:
        raise Fault(
            f"this run was started with --base-url {call.base_url}",
            hint="Give it again, with its password.",
        )
    return terms.base_url or call.base_url or None


def _key_variable(terms: Terms, call: Call) -> str | None:
    if terms.api_key_env is None and call.key_variable:
        raise Fault(
            f"this run was started with a key of your own for {call.base_url or 'its provider'}",
            hint=f"Give it again: --api-key-env {call.key_variable}",
        )
    return terms.api_key_env


def _missing(terms: Terms, call: Call) -> list[str]:
    """The options that allowed the run more when it was started, and are not given now."""
    left = replace(
        call,
        rules=tuple([rule for rule in call.rules if rule not in terms.allow]),
        sandbox="" if terms.sandbox else call.sandbox,
        network=tuple([host for host in call.network if host not in listed(terms.network)]),
        mode="" if terms.permission_mode else call.mode,
        env=tuple([name for name in call.env if name not in agent.names(terms.env)]),
    )
    return list(left.loosened)


def _begun_with(missing: list[str]) -> str:
    return (
        f"this run was started with {' '.join(missing)}; options that allow more are not stored, "
        "so it continues without them, and you will be asked"
    )


def _rules_wanted(run_id: str, call: Call) -> Fault:
    return Fault(
        f"run {short_id(run_id)} was started with options that allow more; they are not stored, "
        "and nobody can be asked",
        hint=f"Give them again: {call.resume_command(run_id)} "
        "(or only --allow Read, to let it continue reading)",
    )
