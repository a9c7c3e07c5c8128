"""Files of rules: ours (`reading.py`), and those of other programs as rules of ours (`foreign.py`,
`foreign_specs.py`)."""
