"""Rule files: reading ours (`reading.py`), and importing those of other programs (`foreign.py`)."""
