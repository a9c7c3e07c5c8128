"""What a step reads and writes, determined from its code alone.

`text.py` is the entry point; `statements.py` and `expressions.py` walk the tree, with `scopes.py`
and `bindings.py`; `mutators.py` lists calls that change an argument. `parts.py` finds the parts of
values that are used, `looking.py` the steps that only look, `magics.py` lines that are not Python,
`code_words.py` the names in compiled code.
"""
