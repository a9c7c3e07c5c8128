"""Programs that start others, write files or read commands by their arguments: what a rule with an
open end (`git log **`) must not let through.

Sources: the programs' manuals, and the public list of programs with such options that GTFOBins
keeps (the facts, not the text).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from posixpath import basename
from types import MappingProxyType
from typing import Final

RUNNERS: Final = frozenset(
    """
    . source eval exec command builtin trap alias unalias export declare typeset local readonly
    set shopt unset enable hash read mapfile readarray printf let bind complete compgen fc history
    sh bash dash ash zsh ksh mksh fish csh tcsh rbash busybox toybox
    python python2 python3 pypy pypy3 ipython perl ruby irb node nodejs deno bun php lua luajit
    tclsh wish expect guile scheme racket julia R Rscript ghc runghc swift scala groovy jshell java
    awk gawk mawk nawk sed ed ex vi vim nvim view emacs emacsclient nano less more most man info
    xargs parallel sudo doas su pkexec runuser setpriv chroot unshare nsenter bwrap firejail
    prlimit setarch linux32 linux64 numactl choom cpulimit capsh run-parts start-stop-daemon
    fakeroot faketime proxychains proxychains4 torify torsocks sg ssh-keygen ssh-agent sshpass
    m4 dc gnuplot octave tex latex pdflatex xelatex lualatex latexmk
    env nice ionice chrt taskset nohup setsid stdbuf timeout time watch script screen tmux flock
    entr strace ltrace gdb lldb perf valgrind unbuffer rlwrap dbus-run-session systemd-run at batch
    crontab ssh scp sftp rsync mosh telnet nc ncat netcat socat openssl curl wget ftp aria2c
    docker podman nerdctl kubectl helm vagrant ansible ansible-playbook terraform
    make gmake cmake ninja meson scons bazel ant mvn gradle gradlew rake just task
    npm npx pnpm yarn bunx corepack pip pip3 pipx uv uvx poetry pdm hatch conda mamba gem bundle
    cargo go rustc rustup dotnet composer apt apt-get dpkg yum dnf rpm apk brew pacman snap flatpak
    pytest tox nox coverage pre-commit
    sqlite3 psql mysql redis-cli mongo mongosh dd install ln mount umount tee split csplit
    zip unzip 7z 7za cpio ar jq yq xmllint
    """.split()
)
"""Whatever follows them can be a program, or a file to write. A rule for one of them has to say
all of its words, or at least the first one (`npm run test **`, `pytest **` does not do)."""

OPEN_AFTER: Final[Mapping[str, int]] = MappingProxyType(
    {"npm": 2, "pnpm": 2, "yarn": 1, "cargo": 1, "go": 1, "make": 1, "just": 1, "uv": 3}
)
"""Runners whose rule may have an open end after so many literal words: those say which of the
project's own recipes runs."""

OPTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "git": (
            "-c",
            "-C",
            "--exec-path",
            "--git-dir",
            "--work-tree",
            "--config-env",
            "--output",
            "--ext-diff",
            "--textconv",
            "--upload-pack",
            "--receive-pack",
            "--exec",
            "-x",
            "--open-files-in-pager",
            "-O",
            "--paginate",
            "-p",
            "--edit",
            "-e",
            "--namespace",
            "--super-prefix",
            "--no-index",
            "--template",
            "--separate-git-dir",
            "-u",
        ),
        "find": (
            "-exec",
            "-execdir",
            "-ok",
            "-okdir",
            "-delete",
            "-fprint",
            "-fprint0",
            "-fprintf",
            "-fls",
            "-files0-from",
        ),
        "fd": ("-x", "--exec", "-X", "--exec-batch"),
        "fdfind": ("-x", "--exec", "-X", "--exec-batch"),
        "rg": ("--pre", "--pre-glob", "--hostname-bin", "--search-zip", "-z"),
        "grep": (),
        "shuf": ("-o", "--output"),
        "iconv": ("-o", "--output"),
        "sort": (
            "-o",
            "--output",
            "--compress-program",
            "-T",
            "--temporary-directory",
            "--files0-from",
        ),
        "uniq": (),
        "tar": (
            "-I",
            "--use-compress-program",
            "--to-command",
            "--checkpoint-action",
            "--checkpoint",
            "-F",
            "--info-script",
            "--new-volume-script",
            "--rsh-command",
            "--rmt-command",
            "-x",
            "--extract",
            "--get",
            "-c",
            "--create",
            "-r",
            "-u",
            "-A",
        ),
        "base64": ("-o", "--output"),
        "file": ("-m", "--magic-file", "-C", "--compile", "-z", "-Z"),
        "tree": ("-o", "--output"),
        "xxd": ("-r",),
        "date": ("-s", "--set", "-f", "--file"),
        "hostname": ("-F", "--file", "-b"),
        "diff": ("--to-file", "--from-file"),
        "cut": ("--output-delimiter",),
        "ps": (),
        "test": ("-v",),  # bash evaluates what is between the brackets of `a[...]`
        "[": ("-v",),
        "wait": ("-p",),
        "jobs": ("-x",),
        "wc": ("--files0-from",),
        "du": ("--files0-from",),
        **dict.fromkeys(
            ("gcc", "g++", "cc", "c++", "clang", "clang++"),
            ("-wrapper", "--wrapper", "-fplugin", "-B", "@"),
        ),
        "hg": ("--config", "--cwd", "--repository", "-R"),
        "svn": ("--config-option", "--config-dir", "--diff-cmd", "--diff3-cmd", "--editor-cmd"),
        "npm": ("--script-shell", "--prefix", "-C", "--userconfig", "--globalconfig"),
        "pnpm": ("--script-shell", "--dir", "-C"),
        "yarn": ("--script-shell", "--cwd"),
        "cargo": ("--config", "--manifest-path", "-Z", "-C"),
        "go": (
            *("-exec", "--exec", "-toolexec", "--toolexec", "-vettool", "--vettool"),
            *("-overlay", "--overlay", "-modfile", "--modfile"),
        ),
        "ruff": ("--config",),
        "mypy": ("--python-executable", "--config-file", "--junit-xml"),
    }
)
"""Options that let a program run another, or write where it pleases; also by an abbreviation of
them, and bundled with other letters."""

COMMANDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "git": frozenset(
            "archive bisect bundle config credential difftool filter-branch for-each-repo "
            "format-patch hook instaweb mergetool send-email submodule".split()
        ),
        "gh": frozenset({"alias", "extension"}),
        "ip": frozenset({"netns", "vrf"}),
    }
)
"""Their own commands that run others, or write where they please: a rule has to say one of these,
and at least a word behind it (`git submodule status **`)."""

ELSEWHERE: Final = frozenset({"cd", "pushd", "popd"})
"""Behind these relative paths mean something else."""

WRITES_ITS_LAST: Final = frozenset({"uniq", "xxd"})
"""Programs of which a second operand is a file to write."""

ENVIRONMENT: Final = frozenset(
    "LANG LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_NUMERIC LC_TIME TZ NO_COLOR FORCE_COLOR "
    "CLICOLOR COLUMNS LINES TERM CI".split()
)
"""Variables that may be set for a command without changing what it runs."""

_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?[smhd]?", re.ASCII)
_VERSIONED: Final = re.compile(r"(.*[A-Za-z+])-?[0-9]+(?:\.[0-9]+)*", re.ASCII)
_OWN_UNTIL: Final = frozenset({"npm", "pnpm", "cargo"})
"""Programs whose own options end at `--`: what follows is for the recipe that the rule names."""


def unwrapped(argv: Sequence[str]) -> tuple[str, ...] | None:
    """The command inside `timeout 5 ...`, `nice ...`, `nohup ...`, `env A=b ...` and the like, all
    of them taken off; None if that cannot be said. Only their plainest forms are understood."""
    rest = list(argv)
    while rest:
        match rest[0]:  # by that very name: a file elsewhere may be called so too
            case "timeout" if len(rest) > 2 and _NUMBER.fullmatch(rest[1]):
                rest = rest[2:]
            case "nohup" | "setsid" | "command" | "builtin" if len(rest) > 1:
                if rest[1].startswith("-"):
                    return None
                rest = rest[1:]
            case "nice" if len(rest) > 1:
                if rest[1] == "-n" and len(rest) > 3 and re.fullmatch(r"-?[0-9]+", rest[2]):
                    rest = rest[3:]
                elif rest[1].startswith("-"):
                    return None
                else:
                    rest = rest[1:]
            case "env" if len(rest) > 1:
                at = 1
                while at < len(rest) and "=" in rest[at] and not rest[at].startswith("-"):
                    if rest[at].partition("=")[0] not in ENVIRONMENT:
                        return None
                    at += 1
                if at == len(rest) or rest[at].startswith("-"):
                    return None
                rest = rest[at:]
            case _:
                break
    return tuple(rest)


def opens(argv: Sequence[str], literal: int) -> str:
    """Why a rule whose first `literal` words are given, and the rest open, does not cover this
    command; "": it may."""
    name = known_as(argv[0])
    if name in RUNNERS and literal < len(argv):
        enough = OPEN_AFTER.get(name)
        if enough is None or literal <= enough:
            return f"{name} can run anything by its arguments"
        if name in ("make", "just") and any(
            "=" in word or word.startswith("-") for word in argv[literal:]
        ):
            return f"{name} can run anything by such arguments"
    own = _command(argv, COMMANDS.get(name, frozenset())) if literal < 3 else ""
    if own:
        return f"{name} {own} can run or write something else"
    for at, word in enumerate(argv[literal:], literal):
        if word == "--" and name in _OWN_UNTIL:
            break
        if name == "tar" and at == 1 and not word.startswith("-"):
            word = f"-{word}"  # `tar xf`: its letters need no dash
        if name == "git" and word == "-p" and literal > 1:
            continue  # a patch; before the command it would be a pager
        option = _dangerous(word, OPTIONS.get(name, ()))
        if option:
            return f"{name} {option} can run or write something else"
    if name in WRITES_ITS_LAST:
        operands = [word for word in argv[1:] if not word.startswith("-")]
        if len(operands) > 1:
            return f"{name} writes its second file"
    return ""


def known_as(program: str) -> str:
    """The name of a program in these tables: without its folder, and without a version."""
    name = basename(program)
    versioned = None if name in RUNNERS or name in OPTIONS else _VERSIONED.fullmatch(name)
    return name if versioned is None else str(versioned[1])


def moved(argv: Sequence[str]) -> str:
    """Why a rule does not cover this command once the folder has been changed; "": it may."""
    name = known_as(argv[0])
    if "/" in argv[0] and not argv[0].startswith("/"):
        return f"{argv[0]} is another program in another folder"
    if name in RUNNERS or name in COMMANDS:
        return f"what {name} runs depends on the folder, which was changed before it"
    return ""


def _command(argv: Sequence[str], commands: frozenset[str]) -> str:
    """The one of `commands` that a program may be told to carry out; "": none."""
    option = False
    for word in argv[1:] if commands else ():
        if word in commands:
            return word
        if not word.startswith("-") and not option:
            return ""
        option = word.startswith("-") and "=" not in word  # the next may be its value
    return ""


def _dangerous(word: str, options: tuple[str, ...]) -> str:
    """The option of `options` that this word could be."""
    if not word.startswith(("-", "@")) or word in ("-", "--"):
        return ""
    head = word.partition("=")[0]
    for option in options:
        if option.startswith("--"):
            if head.startswith("--") and len(head) > 2 and option.startswith(head):
                return option
        elif len(option) == 2 and option[0] == "-":
            # in a bundle: `-xvo file`; a word with one dash and more letters may be one
            if word.startswith("-") and not word.startswith("--") and option[1] in word[1:]:
                return option
        elif word.startswith(option):
            return option
    return ""
