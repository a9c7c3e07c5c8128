"""Imports that are missing, misspelt or not installed."""

from __future__ import annotations

import ast
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.names import is_gone, missing_name
from lorimer.esg.diagnosis.near import nearest
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.patching.patches import Edit

ALIASES: Final[Mapping[str, str]] = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "plt": "import matplotlib.pyplot as plt",
    "mpl": "import matplotlib as mpl",
    "sns": "import seaborn as sns",
    "sp": "import scipy as sp",
    "sm": "import statsmodels.api as sm",
    "pl": "import polars as pl",
    "px": "import plotly.express as px",
    "go": "import plotly.graph_objects as go",
    "tf": "import tensorflow as tf",
    "nx": "import networkx as nx",
    "dt": "import datetime as dt",
    "it": "import itertools as it",
}
"""Names that nearly always stand for an import."""
MEMBERS: Final[Mapping[str, str]] = {
    name: module
    for module, names in {
        "collections": "Counter OrderedDict defaultdict deque namedtuple",
        "collections.abc": "Callable Iterable Iterator Mapping Sequence",
        "contextlib": "closing contextmanager redirect_stdout suppress",
        "dataclasses": "asdict astuple dataclass field replace",
        "datetime": "date datetime timedelta timezone",
        "decimal": "Decimal",
        "enum": "Enum IntEnum StrEnum",
        "fractions": "Fraction",
        "functools": "cache cached_property lru_cache partial reduce singledispatch wraps",
        "io": "BytesIO StringIO",
        "itertools": "accumulate chain combinations count cycle groupby islice pairwise "
        "permutations product repeat starmap takewhile zip_longest",
        "math": "ceil exp floor isclose isnan log log10 log2 prod sqrt",
        "operator": "attrgetter itemgetter methodcaller",
        "pathlib": "Path",
        "pprint": "pprint",
        "random": "choice randint shuffle",
        "statistics": "mean median mode pstdev stdev variance",
        "textwrap": "dedent indent",
        "typing": "Any NamedTuple Optional Protocol TypedDict Union",
    }.items()
    for name in names.split()
}
"""Names of the standard library that are mostly imported on their own -> their module."""
PACKAGES: Final[Mapping[str, str]] = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "Crypto": "pycryptodome",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "Levenshtein": "levenshtein",
    "magic": "python-magic",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "umap": "umap-learn",
    "usb": "pyusb",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""Modules whose package has another name."""
WELL_KNOWN: Final = frozenset(
    "aiohttp boto3 click dask django fastapi flask geopandas httpx jinja2 keras lightgbm lxml "
    "matplotlib networkx nltk numba numpy openpyxl pandas plotly polars pyarrow pydantic pytest "
    "redis requests rich scipy seaborn selenium spacy sqlalchemy statsmodels streamlit sympy "
    "tensorflow torch tqdm transformers typer xgboost xlsxwriter".split()
)
"""Packages with the name of their module: to be installed, not misspelt."""
_CANNOT: Final = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")


@rule(NameError)
def missing_import(case: Case) -> Iterator[Finding]:
    """A module, or a name from one, that was not imported."""
    name = missing_name(case)
    statement = _statement(case, name)
    if not statement or isinstance(case.error, UnboundLocalError) or is_gone(case, name):
        return
    text = case.site.text
    others = case.esg.unresolved(text.step) if text.step in case.esg else {}
    more = [_statement(case, other) for other, later in others.items() if not later]
    edit = text.import_("\n".join(dict.fromkeys([statement, *filter(None, more)])))
    yield Finding("missing_import", f"{name!r} is not imported", text.step, (edit,), 0.94)


def _statement(case: Case, name: str) -> str:
    """The import that provides the name; empty if none is known."""
    if _as_module(case, name):
        return f"import {name}"
    if name in MEMBERS:
        return f"from {MEMBERS[name]} import {name}"
    return ALIASES.get(name, "")


def _as_module(case: Case, name: str) -> bool:
    """The code has `name.x`, and `name` is a standard module that has an x, if it is known."""
    if name not in sys.stdlib_module_names:
        return False
    tree = case.site.text.tree
    used = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    ]
    module = sys.modules.get(name)
    if not used:
        return name not in MEMBERS
    return module is None or name not in MEMBERS or any(hasattr(module, each) for each in used)


@rule(ModuleNotFoundError)
def missing_module(case: Case) -> Iterator[Finding]:
    """A missing module: misspelt, or not installed."""
    error = case.error
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return
    text, last = case.site.text, error.name.partition(".")[0]
    if error.name in PACKAGES or last in PACKAGES or last in WELL_KNOWN:
        meant, sure = "", 0.0
    else:
        last, meant, sure = _near_module(error.name)
    if not meant:
        package = PACKAGES.get(error.name, PACKAGES.get(last, last))
        told = "" if package == error.name else f": its package is {package}"
        message = f"{error.name} is not installed{told}"
        yield Finding("missing_package", message, text.step, (), 0.9)
        return
    edits = tuple(
        _named(case, found, meant) for found in re.finditer(rf"\b{re.escape(last)}\b", text.source)
    )
    message = f"there is no module {error.name!r}, but {meant!r}"
    yield Finding("module_typo", message, text.step, edits, sure)


def _near_module(name: str) -> tuple[str, str, float]:
    """The wrong part of the name, the likely correction, and its confidence."""
    top, _, last = name.rpartition(".")
    parent = sys.modules.get(top) if top else None
    if parent is not None:
        within = [each.name for each in pkgutil.iter_modules(getattr(parent, "__path__", []))]
        return last, *nearest(last, [*within, *dir(parent)])
    last = name.partition(".")[0]
    found = nearest(last, [*sys.stdlib_module_names, *_top(sys.modules), *WELL_KNOWN])
    if not found[0]:  # folders come last: that takes 20 ms
        found = nearest(last, [each.name for each in pkgutil.iter_modules()])
    return last, *found


@rule(ImportError)
def missing_member(case: Case) -> Iterator[Finding]:
    """`from collections import Conter`."""
    found = _CANNOT.match(case.message)
    module = sys.modules.get(found[2]) if found else None
    if found is None or module is None:
        return
    text = case.site.text
    name = found[1]
    meant, sure = nearest(name, [each for each in dir(module) if not each.startswith("_")])
    if not meant:
        there = [other for member, other in MEMBERS.items() if member == name]
        message = f"{found[2]} has no {name!r}" + (f"; {there[0]} has it" if there else "")
        edits = ()
        if there:
            edits = tuple(
                _named(case, each, there[0])
                for each in re.finditer(
                    rf"(?<=from ){re.escape(found[2])}(?= import )", text.source
                )
            )
        yield Finding("member_of_another", message, text.step, edits, 0.9)
        return
    edits = tuple(
        _named(case, each, meant) for each in re.finditer(rf"\b{re.escape(name)}\b", text.source)
    )
    yield Finding(
        "member_typo", f"{found[2]} has no {name!r}, but {meant!r}", text.step, edits, sure
    )


def _named(case: Case, found: re.Match[str], name: str) -> Edit:
    return Edit(case.site.text.step, found.start(), found.end(), name)


def _top(modules: Mapping[str, object]) -> set[str]:
    return {each.partition(".")[0] for each in modules}


RULES: Final = (missing_import, missing_module, missing_member)
