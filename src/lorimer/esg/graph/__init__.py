"""The graph: the steps, which step makes what each reads, what is stale and why.

`graph.py` is the public interface; below it `explaining.py` and `questions.py` answer queries,
`versions.py` knows the makers, `staleness.py` decides what must run, and
`steps.py` defines a step. `history.py` keeps earlier programs.
"""
