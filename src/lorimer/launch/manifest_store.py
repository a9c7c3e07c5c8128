"""Stores the manifests of a pipeline's runs in the journal, and keeps its secrets out of them and
of recorded inputs.

What is struck out as a secret is said by `core/redaction.py`; a manifest with one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lorimer.core.errors import ConfigError
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
from lorimer.core.plan import Plan
from lorimer.core.redaction import Redactor, of_environment


class ManifestStore:
    """The manifests of one pipeline, in all its conversations and in the runs below."""

    def __init__(
        self, journal: Journal, secrets: Callable[[], Redactor | None] = of_environment
    ) -> None:
        self._journal = journal
        self._secrets = secrets
        self._has_redactor = False
        self._redactor: Redactor | None = None
        self._manifests: dict[str, bytes] = {}

    @property
    def redactor(self) -> Redactor | None:
        """Of the secrets that were known when the first run began; None: there are none."""
        if not self._has_redactor:
            self._redactor, self._has_redactor = self._secrets(), True
        return self._redactor

    def clean(self, input: JSON) -> JSON:
        """An input as it is recorded."""
        return input if self.redactor is None else self.redactor.json(input)

    async def store(self, plan: Plan) -> None:
        """Put its manifest into the journal, under its hash. Raises as `refuse_secrets` does, and
        JournalError."""
        # before each run: since the last one, a sweep may have found it named by none
        body = self._manifests.get(plan.digest)
        if body is None:
            body = plan.manifest.to_bytes()
            self.refuse_secrets(body)
            self._manifests[plan.digest] = body
        await self._journal.put(plan.digest, body)

    def refuse_secrets(self, manifest: bytes) -> None:
        """Raises ConfigError for a manifest with a secret in it: it is kept with every run."""
        text = manifest.decode("utf-8", "replace")
        clean = text if self.redactor is None else self.redactor.text(text, deep=False)
        if clean != text:
            named = re.search(r"\[redacted:([^\]]*)\]", clean)
            raise ConfigError(
                f"the manifest holds a secret: the value of {named[1] if named else 'one'}",
                hint="Manifests are kept with every run. Leave it out: keys come from variables.",
            )
