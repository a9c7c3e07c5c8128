"""The agent on langgraph: a StateGraph of a model node and the prebuilt ToolNode, with
`SqliteSaver`, resumed by `invoke(None)` in the same thread.

Variants: the durability that each invocation is given, `sync` or the default `async`.
"""

from __future__ import annotations

import sys
import time

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from benchmarks.killed.work import DESCRIPTION, PROMPT, TOOL, Work, call_id


def main(work: Work) -> None:
    def ask(state: MessagesState) -> dict[str, list[AIMessage]]:
        messages = state["messages"]
        results = [str(message.content) for message in messages if isinstance(message, ToolMessage)]
        with work.model_call(results) as n:
            time.sleep(work.pause_s)
        if n is None:
            return {"messages": [AIMessage(work.final)]}
        call = {"name": TOOL, "args": {"n": n}, "id": call_id(n)}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    @tool(TOOL, description=DESCRIPTION)
    def append(n: int) -> str:
        with work.tool_call(n) as result:
            time.sleep(work.pause_s)
        return result

    graph = StateGraph(MessagesState)
    graph.add_node("model", ask)
    graph.add_node("tools", ToolNode([append]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")

    config = {"configurable": {"thread_id": "killed"}, "recursion_limit": 3 * work.turns + 10}
    with SqliteSaver.from_conn_string(str(work.folder / "runs.sqlite")) as saver:
        agent = graph.compile(checkpointer=saver)
        begun = saver.get_tuple(config) is not None
        messages = None if begun else {"messages": [HumanMessage(PROMPT)]}
        state = agent.invoke(messages, config, durability=work.variant)
    work.done(state["messages"][-1].content)


if __name__ == "__main__":
    main(Work(sys.argv[1:]))
