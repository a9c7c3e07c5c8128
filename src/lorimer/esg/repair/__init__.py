"""Repairs a failed step: asks a model for a patch, and tries a patch before it is kept.

`trying.py` tries one; `proposals.py` and `model_proposer.py` ask for one. What a patch is:
`patching/`.
"""
