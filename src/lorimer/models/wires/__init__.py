"""How each wire is written and read: canonical requests to bytes, responses to canonical answers.
No SDK and no network here; `models/<vendor>.py` sends."""
