"""What a step reads and writes, from its text alone.

`text.py` is the entry; `statements.py` and `expressions.py` walk the tree, with `scopes.py` and
`bindings.py`; `mutators.py` has the calls that change an argument. `parts.py`: which parts of
values are used; `looking.py`: which steps only look; `code_words.py`: what compiled code names.
"""
