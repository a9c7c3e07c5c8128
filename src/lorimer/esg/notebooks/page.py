"""A session as one HTML page: code, which step reads what from which, state, output, figures.

The page is self-contained and loads nothing. Code and output come from others: they are escaped,
and the HTML representation of an object is in a frame without scripts. The policy in the head
allows the page's own style and script, by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import builtins
import hashlib
import html
import io
import keyword
import tokenize
from collections.abc import Iterator, Mapping
from typing import Final

from lorimer.esg.analysis.text import lines_of
from lorimer.esg.execution.displays import Display
from lorimer.esg.executor import StepResult
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import Status

_MARKS: Final = {
    Status.NEW: "○",
    Status.FRESH: "✓",
    Status.STALE: "↻",
    Status.FAILED: "✗",
    Status.BLOCKED: "–",
}
_ROW: Final = 26
"""Height of a line in the list of steps, in pixels; the arcs are drawn beside it."""
_LANES: Final = 9
_SLOW_S: Final = 0.05
"""Steps that took at least this many seconds get a bar."""


def page(graph: ExecutionStateGraph, results: Mapping[str, StepResult], title: str) -> str:
    """The page. `results`: those of the steps that have run; may be empty."""
    number = {step: at for at, step in enumerate(graph.steps)}
    edges = [(number[maker], number[reader], names) for maker, reader, names in graph.edges()]
    slowest = max([graph.get_node(step)["seconds"] or 0.0 for step in number], default=0.0)
    lines = "".join(_line(graph, step, at, slowest) for step, at in number.items())
    steps = "".join(_step(graph, step, number, results.get(step)) for step in number)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(_STYLE)}' '{_hash(_FRAMED)}'; "
        f"script-src '{_hash(_SCRIPT)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<header><div><h1>{_text(title)}</h1><p>{_sums(graph)}</p>"
        '<p class="keys"><kbd>j</kbd> <kbd>k</kbd> step by step, <kbd>n</kbd> to the next that is '
        "not fresh, <kbd>/</kbd> finds; green is what the step at hand reads, orange what reads "
        "it; the line below a name is its time.</p>"
        '</div><input type="search" placeholder="Find a step" aria-label="Find a step" '
        'aria-keyshortcuts="/" title="/" hidden></header>\n'
        f'<nav aria-label="Steps"><ol>{lines}</ol>{_arcs(edges, len(number))}</nav>\n'
        f"<main>{steps}</main>\n<script>{_SCRIPT}</script></body></html>\n"
    )


def _sums(graph: ExecutionStateGraph) -> str:
    """How many steps are in each state, with a link to the first that is not fresh, and their total
    time."""
    places: dict[Status, list[int]] = {}
    seconds = 0.0
    for at, step in enumerate(graph.steps):
        places.setdefault(graph.status(step), []).append(at)
        seconds += graph.get_node(step)["seconds"] or 0.0
    told = list[str]()
    for status in [each for each in Status if each in places]:
        count, mark = f"{len(places[status]):,} {status}", _MARKS[status]
        marked = f'<span class="{status}"><span class="mark">{mark}</span> {count}</span>'
        is_fresh = status is Status.FRESH
        told.append(marked if is_fresh else f'<a href="#s{places[status][0]}">{marked}</a>')
    number = len(graph.steps)
    head = f"{number:,} step{'' if number == 1 else 's'}: {', '.join(told) or 'none'}"
    return f"{head} · {_text(_duration(seconds))} in all" if seconds else head


def _duration(seconds: float) -> str:
    if seconds < 0.001:
        return "< 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"


# ---------------------------------------------------------------- the list of steps


def _line(graph: ExecutionStateGraph, step: str, at: int, slowest: float) -> str:
    """Below the name a bar: the step's time, relative to the slowest one."""
    status, seconds = graph.status(step), graph.get_node(step)["seconds"]
    told = f"{step}, {status}" if seconds is None else f"{step}, {status}, {_duration(seconds)}"
    width = 100 * seconds / slowest if seconds is not None and seconds >= _SLOW_S else 0
    bar = (
        '<svg class="took" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{width:.1f}" height="1"/></svg>'
    )
    return (
        f'<li><a href="#s{at}" data-step="{at}" class="{status}" title="{_text(told)}">'
        f'<span class="mark" aria-hidden="true">{_MARKS[status]}</span> {_text(step)}'
        f"{bar if width >= 1 else ''}</a></li>"
    )


def _arcs(edges: list[tuple[int, int, tuple[str, ...]]], count: int) -> str:
    """Lines from makers to readers; the further apart, the further out."""
    drawn = list[str]()
    for maker, reader, names in edges:
        high, low = (maker + 0.5) * _ROW, (reader + 0.5) * _ROW
        out = 8 + 10 * min(reader - maker, _LANES)
        drawn.append(
            f'<path data-from="{maker}" data-to="{reader}" '
            f'd="M0 {high:g} C{out} {high:g} {out} {low:g} 0 {low:g}">'
            f"<title>{_text(', '.join(names))}</title></path>"
        )
    return (
        f'<svg class="arcs" width="{10 * _LANES}" height="{count * _ROW}" aria-hidden="true">'
        f"{''.join(drawn)}</svg>"
    )


# ---------------------------------------------------------------- a step


def _step(
    graph: ExecutionStateGraph, step: str, number: Mapping[str, int], result: StepResult | None
) -> str:
    node, at, status = graph.get_node(step), number[step], graph.status(step)
    makers = node["makers"]
    reads = ", ".join(
        f'<a href="#s{number[maker]}">{_text(name)} <small>of {_text(maker)}</small></a>'
        for name, maker in makers.items()
    )
    lost = ", ".join(_text(name) for name in graph.unresolved(step))
    seconds = "" if node["seconds"] is None else f" · {_text(_duration(node['seconds']))}"
    causes = "".join(f"<li>{_text(each)}</li>" for each in node["causes"])
    shown = "".join(_results(result)) if result is not None else ""
    return (
        f'<article id="s{at}" data-step="{at}" tabindex="0" class="{status}" '
        f'aria-label="step {_text(step)}, {status}">'
        f"<h2>{_text(step)} <small><span class='mark'>{_MARKS[status]}</span> {status}{seconds}"
        "</small></h2>"
        + (f'<ul class="why">{causes}</ul>' if causes else "")
        + (f'<p class="why">{_text(node["error"])}</p>' if node["error"] else "")
        + f"<pre><code>{_code(node['source'], makers)}</code></pre><dl>"
        + (f"<dt>reads</dt><dd>{reads}</dd>" if reads else "")
        + (f'<dt>nobody makes</dt><dd class="lost">{lost}</dd>' if lost else "")
        + f"<dt>makes</dt><dd>{_text(', '.join(node['writes'])) or 'nothing'}</dd></dl>"
        + shown
        + "</article>\n"
    )


def _results(result: StepResult) -> Iterator[str]:
    for kind, text in (("out", result.stdout), ("err", result.stderr)):
        if text:
            yield f'<pre class="{kind}">{_text(text)}</pre>'
    rich = [each for each in result.displays if each.kind != "text/plain"]
    if result.shown and not any(each.kind == "text/html" for each in rich):
        yield f'<pre class="out">{_text(result.shown)}</pre>'
    for each in result.displays:
        yield _display(each)
    if result.failure is not None:
        yield f'<pre class="err">{_text(result.failure.traceback)}</pre>'


def _display(display: Display) -> str:
    match display.kind:
        case "image/png":
            return f'<img alt="figure" src="data:image/png;base64,{_text(display.data)}">'
        case "text/html":
            inner = f"<!doctype html><style>{_FRAMED}</style>{display.data}"
            return (
                '<iframe title="value" sandbox="allow-same-origin" loading="lazy" '
                f'srcdoc="{_text(inner)}"></iframe>'
            )
        case _:
            return f'<pre class="err">{_text(display.data)}</pre>'


def _code(source: str, makers: Mapping[str, str]) -> str:
    """The code with its words marked; plain if it is not Python."""
    lines = lines_of(source)
    found, row, column = list[str](), 1, 0

    def to(line: int, place: int) -> str:
        nonlocal row, column
        passed = list[str]()
        while row < line and row <= len(lines):
            passed.append(lines[row - 1][column:])
            row, column = row + 1, 0
        if row <= len(lines):
            passed.append(lines[row - 1][column:place])
        column = place
        return _text("".join(passed))

    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            kind = _kind(token, makers)
            if kind:
                found.append(to(*token.start))
                about = f' title="{_text(makers[token.string])}"' if kind == "read" else ""
                found.append(f'<span class="{kind}"{about}>{to(*token.end)}</span>')
    except (tokenize.TokenError, SyntaxError):
        return _text(source)
    found.append(to(len(lines) + 1, 0))
    return "".join(found)


def _kind(token: tokenize.TokenInfo, makers: Mapping[str, str]) -> str:
    if token.type == tokenize.NAME:
        if keyword.iskeyword(token.string):
            return "word"
        if token.string in makers:
            return "read"
        return "known" if hasattr(builtins, token.string) else ""
    return {tokenize.STRING: "text", tokenize.COMMENT: "note", tokenize.NUMBER: "number"}.get(
        token.type, ""
    )


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


_STYLE: Final = """
:root { color-scheme: light dark; --back: #fff; --fore: #1b1f24; --dim: #66707b; --line: #d8dee4;
  --code: #f6f8fa; --in: #1a7f37; --out: #bc4c00; --bad: #cf222e; --word: #8250df;
  --text: #0a5c8a; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --fore: #e6edf3; --dim: #8d96a0;
  --line: #30363d; --code: #161b22; --in: #3fb950; --out: #f0883e; --bad: #ff7b72; --word: #d2a8ff;
  --text: #79c0ff; } }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; background: var(--back); color: var(--fore);
  display: grid; grid-template: auto 1fr / minmax(16rem, 22rem) minmax(0, 1fr); height: 100vh; }
header { grid-column: 1 / 3; padding: .6rem 1rem; border-bottom: 1px solid var(--line);
  display: flex; gap: 1rem; align-items: flex-start; justify-content: space-between; }
h1 { font-size: 1.1rem; margin: 0; } header p { margin: 0; color: var(--dim); }
header a { color: inherit; } input { font: inherit; color: inherit; background: var(--code);
  border: 1px solid var(--line); border-radius: 6px; padding: .2rem .6rem; min-width: 6rem; }
kbd { border: 1px solid var(--line); border-radius: 3px; padding: 0 .3em; }
nav { overflow: auto; display: flex; align-items: flex-start; border-right: 1px solid var(--line);
  padding: .5rem 0 .5rem .5rem; }
nav ol { list-style: none; margin: 0; padding: 0; flex: 1; min-width: 0; }
nav li { height: 26px; } nav a { display: block; position: relative; height: 26px;
  line-height: 26px; padding: 0 .5rem; color: inherit; text-decoration: none; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; border-radius: 4px; }
.arcs { flex: none; } path { fill: none; stroke: var(--dim); stroke-opacity: .3; }
.took { position: absolute; left: .5rem; bottom: 1px; width: calc(100% - 1rem); height: 2px;
  fill: var(--dim); fill-opacity: .5; }
main { overflow: auto; padding: 1rem; }
article { border: 1px solid var(--line); border-left-width: 4px; border-radius: 6px;
  padding: .6rem 1rem; margin: 0 0 1rem; max-width: 64rem; }
article.failed { border-left-color: var(--bad); }
article.stale, article.blocked { border-left-color: var(--out); }
h2 { font-size: 1rem; margin: 0 0 .4rem; } small { color: var(--dim); font-weight: normal; }
pre { margin: .4rem 0; padding: .5rem .7rem; overflow: auto; max-height: 30rem; font: 13px/1.45
  ui-monospace, Menlo, Consolas, monospace; background: var(--code); border-radius: 6px; }
pre.out, pre.err { background: none; border-left: 2px solid var(--line); border-radius: 0; }
pre.err, .lost, .failed .mark { color: var(--bad); } .fresh .mark { color: var(--in); }
.stale .mark, .blocked .mark, .why { color: var(--out); } .why { margin: 0; padding-left: 1.1rem; }
dl { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: 0 .8rem; }
dt { color: var(--dim); } dd { margin: 0; } dd a { color: var(--in); text-decoration: none; }
dd a:hover, dd a:focus { text-decoration: underline; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
iframe { width: 100%; border: 0; height: 12rem; background: #fff; border-radius: 4px; }
.word { color: var(--word); } .text { color: var(--text); } .note { color: var(--dim); }
.number { color: var(--text); } .known { color: var(--dim); }
.read { color: var(--in); border-bottom: 1px dotted; }
.here { outline: 2px solid var(--word); outline-offset: -1px; }
.feeds { border-left-color: var(--in); } nav .feeds { color: var(--in); }
.fed { border-left-color: var(--out); } nav .fed { color: var(--out); }
path.feeds, path.fed { stroke: var(--in); stroke-opacity: 1; stroke-width: 2; }
path.fed { stroke: var(--out); } .found .arcs, .found li:not(.hit) { display: none; }
:focus-visible { outline: 2px solid var(--word); }
@media (max-width: 50rem) { body { display: block; height: auto; }
  nav, input, .keys { display: none; }
  header { position: sticky; top: 0; background: var(--back); z-index: 1; }
  article { scroll-margin-top: 5rem; } }
@media print { body { display: block; height: auto; } nav, input, .keys { display: none; }
  main { overflow: visible; } pre { max-height: none; white-space: pre-wrap;
  overflow-wrap: anywhere; } h2 { break-after: avoid; } article { border-color: var(--line); }
  .here { outline: none; } }
"""

_FRAMED: Final = """
body { font: 13px/1.4 system-ui, sans-serif; margin: 4px; color: #1b1f24; }
table { border-collapse: collapse; } th, td { padding: 2px 8px; text-align: right;
  border-bottom: 1px solid #d8dee4; }
"""

_SCRIPT: Final = """
"use strict";
(() => {
  const all = (what) => [...document.querySelectorAll(what)];
  const paths = all("path"), marked = all("[data-step]"), articles = all("article");
  const links = all("nav a"), nav = document.querySelector("nav");
  const find = document.querySelector("input");
  let at = -1;
  const show = (step, chosen) => {
    if (chosen) at = step;
    const feeds = new Set(), fed = new Set();
    for (const path of paths) {
      const from = +path.dataset.from, to = +path.dataset.to;
      path.classList.toggle("feeds", to === step);
      path.classList.toggle("fed", from === step);
      if (to === step) feeds.add(from);
      if (from === step) fed.add(to);
    }
    for (const each of marked) {
      const one = +each.dataset.step;
      each.classList.toggle("here", one === step);
      each.classList.toggle("feeds", feeds.has(one));
      each.classList.toggle("fed", fed.has(one));
    }
    if (!links[step] || !chosen) return;
    for (const link of links) link.removeAttribute("aria-current");
    links[step].setAttribute("aria-current", "true");
    links[step].scrollIntoView({ block: "nearest" });
  };
  const go = (step) => {
    if (!articles[step]) return;
    articles[step].focus({ preventScroll: true });
    articles[step].scrollIntoView({ block: "nearest" });
  };
  const asked = () => {
    if (/^#s\\d+$/.test(location.hash)) show(+location.hash.slice(2), true);
  };
  asked();
  addEventListener("hashchange", asked);
  for (const each of marked) {
    each.addEventListener("mouseenter", () => show(+each.dataset.step, false));
    each.addEventListener("focus", () => show(+each.dataset.step, true));
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === find) {
      if (event.key === "Escape") { find.value = ""; sift(); find.blur(); }
      if (event.key === "Enter") go(links.findIndex((link) => link.parentNode.matches(".hit")));
      return;
    }
    const by = { j: 1, k: -1 }[event.key];
    if (by) go(Math.min(Math.max(at + by, 0), articles.length - 1));
    if (event.key === "n") {
      const open = articles.filter((each) => !each.matches(".fresh")).map((e) => +e.dataset.step);
      go(open.find((step) => step > at) ?? open[0]);
    }
    if (event.key === "/") { event.preventDefault(); find.focus(); }
  });
  const sift = () => {
    const wanted = find.value.trim().toLowerCase();
    nav.classList.toggle("found", wanted !== "");
    for (const link of links) {
      link.parentNode.classList.toggle("hit", link.title.toLowerCase().includes(wanted));
    }
  };
  find.hidden = false;
  find.addEventListener("input", sift);
  for (const frame of all("iframe")) {
    const fit = () => {
      const body = frame.contentDocument && frame.contentDocument.body;
      if (body) frame.style.setProperty("height", Math.min(body.scrollHeight + 12, 600) + "px");
    };
    frame.addEventListener("load", fit);
    fit();
  }
})();
"""
