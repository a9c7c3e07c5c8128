"""Stores the manifests of a pipeline's runs in the journal, and keeps secrets out of them and of
recorded inputs.

What counts as a secret is defined in `core/redaction.py`; a manifest with one is refused.
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
    """The manifests of one pipeline, in all its conversations and child runs."""

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
        """The redactor of the secrets known when the first run began; None: there are none."""
        if not self._has_redactor:
            self._redactor, self._has_redactor = self._secrets(), True
        return self._redactor

    def clean(self, input: JSON) -> JSON:
        """An input in the form in which it is recorded."""
        return input if self.redactor is None else self.redactor.json(input)

    async def store(self, plan: Plan) -> None:
        """Store the plan's manifest in the journal, under its hash. Raises as `refuse_secrets`
        does; JournalError."""
        # before each run: a sweep may have removed it since the last one
        body = self._manifests.get(plan.digest)
        if body is None:
            body = plan.manifest.to_bytes()
            self.refuse_secrets(body)
            self._manifests[plan.digest] = body
        await self._journal.put(plan.digest, body)

    def refuse_secrets(self, manifest: bytes) -> None:
        """Raises ConfigError for a manifest that contains a secret, because it is stored with every
        run."""
        text = manifest.decode("utf-8", "replace")
        clean = text if self.redactor is None else self.redactor.text(text, deep=False)
        if clean != text:
            named = re.search(r"\[redacted:([^\]]*)\]", clean)
            raise ConfigError(
                f"the manifest holds a secret: the value of {named[1] if named else 'one'}",
                hint="Manifests are kept with every run. Leave it out: keys come from variables.",
            )
