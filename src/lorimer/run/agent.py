"""An agent as a host thinks of it. What manifest it comes to: `lowering.py`."""

from __future__ import annotations

from lorimer.core.record import record
from lorimer.run.checking import check, set_many
from lorimer.run.phases import Phase


@record
class RunnableAgent:
    """What to run. Plain data; what is left out is the executor's."""

    name: str = "agent"
    prompt: str = ""
    """The system prompt; the executor's header goes before it."""
    model: str = ""
    """A tier, a spec or a chain of them; none: the executor's fallback tier."""
    max_turns: int = 0
    """Model calls; 0 or less: the executor's limit."""
    timeout_s: float = 0.0
    """Seconds of a run; 0 or less: the executor's limit. With a critic: after how many seconds it
    is looked at."""
    tools: tuple[str, ...] = ()
    """Names of tools: of the executor's, or shipped ones. Without any, and without somebody to give
    work to, a run is one model call."""
    skills: tuple[str, ...] = ()
    """Names of skills in the executor's palette: each is a tool `skill__<name>`."""
    agents: tuple[str, ...] = ()
    """Names of agents in the executor's palette: each is a tool `agent__<name>`."""
    description: str = ""
    """What it is good for: told to agents that may give it work."""
    critic: bool = False
    """Runs of it have the executor's critic, if there is one."""
    phases: tuple[Phase, ...] = ()
    """Work one after the other, each with a prompt of its own after that of the agent; what the
    last one says is the answer."""
    subject: str = ""
    """The id under which the host keeps it, for audits; none: its name."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a field of another type."""
        check(
            "RunnableAgent",
            name=(self.name, str),
            prompt=(self.prompt, str),
            model=(self.model, str),
            max_turns=(self.max_turns, int),
            timeout_s=(self.timeout_s, (int, float)),
            description=(self.description, str),
            critic=(self.critic, bool),
            subject=(self.subject, str),
        )
        set_many(self, str, "tools", "skills", "agents")
        set_many(self, Phase, "phases")
