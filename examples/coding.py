"""An agent that analyses data in steps: after an edit only what is stale runs again.

Needs ANTHROPIC_API_KEY; with --script a script plays the model, and all else is real.
"""

import sys
import tempfile
from pathlib import Path

from lorimer import PipelinePresets
from lorimer.core.messages import ToolUse
from lorimer.models import Models
from lorimer.testing import ScriptedModel

SCRIPT = [
    [ToolUse("1", "step", {"id": "load", "code": "sales = [120, 80, 200]"})],
    [ToolUse("2", "step", {"id": "tax", "code": "rate = 0.19"})],
    [ToolUse("3", "step", {"id": "sum", "code": "round(sum(sales) * (1 + rate), 2)"})],
    [ToolUse("4", "edit_step", {"id": "tax", "code": "rate = 0.07"})],
    "With 7 % it is 428.0, with 19 % it was 476.0.",
]
TASK = "Sales were 120, 80 and 200. What is the sum with 19 % tax? And with 7 %? Use steps."

scripted = "--script" in sys.argv
models = Models(providers={"scripted": ScriptedModel(SCRIPT)})
folder = Path(tempfile.mkdtemp(prefix="coding-"))
model = "scripted:m" if scripted else "claude-sonnet-4-6"
agent = PipelinePresets.coding(
    model=model,
    models=models if scripted else Models(),
    workspace=folder,
    rules=["step", "edit_step", "replay", "diagnose"],
)
agent.on("step.replayed", lambda event: print("ran:", event.data["steps"]))
print(agent.run_sync(TASK).text)
