"""What everybody who is measured does: call a tool that does nothing, again and again. Imports
next to nothing, like scale.py."""

from __future__ import annotations

from typing import Final

TOOL: Final = "work"
DESCRIPTION: Final = "Does a piece of work."
SCHEMA: Final[dict[str, object]] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
}
TOOL_CALLS: Final = 10
"""Of a run of row 2, and of row 6."""
CROWD_CALLS: Final = 5
"""Of each of the runs at once (row 8)."""

LOOP: Final = """t = 0
for i in range(n):
    t = t + k * i
"""
"""A step that reads and binds global names in each round."""

VECTORISED: Final = """b = np.sort(np.sin(a) * k)
c = np.cumsum(b) / np.arange(1, b.size + 1)
counts, edges = np.histogram(b, bins=100)
ok = b > np.median(b)
t = float(np.sqrt(b[ok] ** 2 + 1).sum() + c[-1] + counts.max())
"""
"""A step that leaves its work to numpy: it makes three arrays as large as the one it reads."""


def realistic_step(number: int) -> str:
    """A step as agents write them; it reads what the one before made."""
    here, before = number, number - 1
    return f"""df_{here} = df_{before}[df_{before}["price"] > threshold_{before}].copy()
df_{here}["ratio"] = df_{here}["price"] / df_{here}["volume"].clip(lower=1)
def clean_{here}(row, scale=base):
    return {{key: value * scale for key, value in row.items() if value is not None}}
rows_{here} = [clean_{here}(row) for row in df_{here}.to_dict("records")]
summary_{here} = {{"n": len(rows_{here}), "mean": sum(r["ratio"] for r in rows_{here})}}
threshold_{here} = threshold_{before} + summary_{here}["n"] * 0.01
print(f"step {here}: {{summary_{here}['n']}} rows, mean {{summary_{here}['mean']:.2f}}")
"""
