"""The smallest host: tiers, an executor, a run. Needs ANTHROPIC_API_KEY."""

import asyncio
import sys

from lorimer.models import Models, Tiers
from lorimer.run import Executor, RunnableAgent


async def main() -> None:
    models = Models(tiers=Tiers({"fast": "claude-haiku-4-5"}))
    async with Executor(models=models, system_header="Answer in one sentence.") as executor:
        result = await executor.run(RunnableAgent("guide"), "What is the capital of France?")
    print(result.status, result.output or result.error)
    sys.exit(not result.success)


asyncio.run(main())
