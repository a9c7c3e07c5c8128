"""How each wire is written and read: canonical requests to bytes, answers to canonical ones. No SDK
and no network here; `models/<vendor>.py` sends."""
