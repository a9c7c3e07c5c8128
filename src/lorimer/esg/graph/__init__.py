"""The graph: its steps, who makes what each of them reads, what is stale and why.

`graph.py` is what a program uses; under it `explaining.py` and `questions.py` answer,
`versions.py` knows the makers, `staleness.py` and `part_reads.py` what must run, `steps.py` what a
step is. `history.py` keeps earlier programs.
"""
