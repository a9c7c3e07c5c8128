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
    zip unzip 7z 7za cpio ar jq yq xmllint xsltproc
    gcc g++ cc c++ c89 c99 clang clang++ gfortran tcc ld as gold lld ldd ccache sccache distcc icecc
    ld.so ld-linux.so.2 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1 ld-musl-x86_64.so.1
    ts-node tsx esno vite-node tsc pwsh nu elvish xonsh yash posh hy bpython ptpython pydoc perldoc
    clj clojure lein sbt elixir iex mix erl escript rebar3 ocaml opam dune stack cabal ghci
    runhaskell zig nim crystal dart flutter kotlin kotlinc scalac jjs jrunscript rust-script
    jupyter papermill streamlit gunicorn uvicorn celery flask django-admin invoke inv fab doit nose2
    sphinx-build mkdocs pipenv jest vitest mocha ava karma cypress playwright webpack rollup vite
    gulp grunt jake turbo nx lerna rush concurrently npm-run-all nodemon rspec phpunit
    hyperfine watchexec chronic ifne pee zrun mispipe sponge logsave multitime grc eatmydata
    direnv dotenv asdf mise nvm fnm volta rbenv pyenv foreman nix nix-shell nix-build guix
    bazelisk buck buck2 pants waf xcodebuild xcrun osascript open xdg-open systemctl service
    gosu su-exec tini dumb-init chpst daemonize dtach abduco zellij pexec aa-exec i386 x86_64
    nmap tcpdump tshark lftp w3m lynx links elinks http https xh rclone autossh pssh pdsh gpg gpg2
    vimdiff gvim rvim rview pico micro kak hx joe mcedit mail mailx mutt gsed
    zless zmore xzless xzmore bzless bzmore most exiftool convert magick mogrify identify ffmpeg
    pandoc groff troff nroff soelim cowsay cowthink ctags msgfilter csvtool bpftrace pidstat
    getopts rename prename file-rename vidir vipe fzf sk peco mc ranger asciinema yt-dlp youtube-dl
    gxargs genv gtimeout gnohup gnice gstdbuf gchroot bmake mage ctest cpack ccmake
    autoconf automake autoreconf aclocal autoheader bison yacc flex protoc cpp javac jar javadoc
    mono wine proot xvfb-run runcon newgrp catchsegv uftrace rr heaptrack cgexec caffeinate
    systemd-inhibit execlineb softlimit envdir setuidgid gs ps2pdf pdftex luatex xetex etex context
    mpost duckdb mariadb pgcli mycli usql mlr sox play rec mpv mplayer prove cpan cpanm rubocop
    rails pry erb thor cucumber phpstan psalm php-cs-fixer phpcs pest rustdoc cross dlv gotestsum
    ginkgo golangci-lint goreleaser cross-env nyc c8 lint-staged node-gyp stylelint
    docker-compose podman-compose buildah ctr crictl runc crun lxc incus tofu terragrunt pulumi
    packer act adb jj rpmbuild rpmspec aptitude busctl gdbus dbus-send gdbserver ddrescue mbuffer
    pv dot age
    """.split()
)
"""Whatever follows them can be a program, or a file to write. A rule for one of them has to say
all of its words, or at least the first one (`npm run test **`, `pytest **` does not do)."""

TARS: Final = ("tar", "gtar", "bsdtar")

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
            "--prefix",
            "--unsafe-paths",
            "--export-marks",
        ),
        **dict.fromkeys(
            ("find", "gfind", "bfs"), ("-exec", "-ok", "-delete", "-fprint", "-fls", "-files0-from")
        ),
        "fd": ("-x", "--exec", "-X", "--exec-batch"),
        "fdfind": ("-x", "--exec", "-X", "--exec-batch"),
        "rg": ("--pre", "--pre-glob", "--hostname-bin", "--search-zip", "-z"),
        "grep": (),
        "shuf": ("-o", "--output"),
        "iconv": ("-o", "--output"),
        **dict.fromkeys(
            ("sort", "gsort"),
            (
                *("-o", "--output", "--compress-program", "-T", "--temporary-directory"),
                "--files0-from",
            ),
        ),
        "uniq": (),
        **dict.fromkeys(
            TARS,
            (
                "-I",
                "--use-compress-program",
                "--to-command",
                "--checkpoint-action",
                "--checkpoint",
                "--index-file",
                "--listed-incremental",
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
        ),
        "base64": ("-o", "--output"),
        "file": ("-m", "--magic-file", "-C", "--compile", "-z", "-Z"),
        "tree": ("-o", "--output", "-R"),
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
        "hg": ("--config", "--cwd", "--repository", "-R"),
        "svn": ("--config-option", "--config-dir", "--diff-cmd", "--diff3-cmd", "--editor-cmd"),
        "npm": (
            *("--script-shell", "--prefix", "-C", "--userconfig", "--globalconfig"),
            *("--node-options", "--workspace", "--workspaces", "-w", "--shell"),
        ),
        "pnpm": ("--script-shell", "--dir", "-C", "--config.", "--node-options"),
        "yarn": ("--script-shell", "--cwd", "--use-yarnrc"),
        "cargo": (
            *("--config", "--manifest-path", "-Z", "-C"),
            *("--target-dir", "--out-dir", "--artifact-dir"),
        ),
        "go": (
            *("-exec", "-toolexec", "-vettool", "-overlay", "-modfile", "-ldflags", "-gccgoflags"),
            *("=-C", "=-o", "=-w", "-test.", "-outputdir", "-coverprofile", "-trace"),
            *("-cpuprofile", "-memprofile", "-blockprofile", "-mutexprofile"),
        ),
        "ruff": ("--config", "-o", "--output-file", "--cache-dir"),
        "mypy": (
            *("--python-executable", "--config-file", "--junit-xml", "--install-types"),
            *("--cache-dir", "--any-exprs-report", "--cobertura-xml-report", "--html-report"),
            *("--linecount-report", "--linecoverage-report", "--lineprecision-report"),
            *("--txt-report", "--xml-report", "--xslt-html-report", "--xslt-txt-report", "@"),
        ),
        **dict.fromkeys(
            ("pyright", "basedpyright"),
            ("--pythonpath", "--venvpath", "--createstub", "--writebaseline", "--baselinefile"),
        ),
        "pylint": ("--init-hook", "--load-plugins", "--rcfile", "--output"),
        "flake8": ("--config", "--append-config", "--output-file"),
        "eslint": (
            *(
                "-c",
                "--config",
                "--rulesdir",
                "--plugin",
                "--resolve-plugins-relative-to",
                "--parser",
            ),
            *("-f", "--format", "-o", "--output-file", "--cache-file", "--cache-location"),
        ),
        "prettier": ("--plugin", "--plugin-search-dir", "--config", "--cache-location"),
        "clang-tidy": ("-load", "--load", "--config-file", "-export-fixes", "--export-fixes"),
        "ag": ("--pager",),
        "ack": ("--pager", "--ackrc", "--output"),
        **dict.fromkeys(("bat", "batcat"), ("--pager", "--lessopen")),
        "delta": ("--pager",),
        "sdiff": ("-o", "--output", "--diff-program"),
        "diff3": ("--diff-program",),
        "nm": ("--plugin", "@"),
        "zstd": ("-o", "--output-dir-flat", "--output-dir-mirror", "--trace"),
        "patch": ("-e", "--ed", "-o", "--output", "-r", "--reject-file", "-d", "--directory"),
        "ss": ("-D", "--diag", "-K", "--kill"),
        "ip": ("=-b", "-ba"),
        "journalctl": ("--cursor-file",),
    }
)
"""Options that let a program run another, or write where it pleases; also by an abbreviation of
them, and bundled with other letters. `=-o` is that word only, of programs that bundle nothing."""

COMMANDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "git": frozenset(
            "archive bisect bundle config credential difftool filter-branch for-each-repo "
            "format-patch hook instaweb mergetool send-email submodule".split()
        ),
        "gh": frozenset({"alias", "codespace", "config", "cs", "ext", "extension", "extensions"}),
        "go": frozenset({"env", "tool"}),
        "ip": frozenset({"netns", "vrf"}),
    }
)
"""Their own commands that run others, or write where they please: a rule has to say one of these,
and at least a word behind it (`git submodule status **`)."""

OF_GIT: Final = frozenset(
    "add am annotate apply blame branch cat-file check-attr check-ignore check-ref-format checkout "
    "cherry cherry-pick clean clone commit commit-tree count-objects describe diff diff-files "
    "diff-index diff-tree fetch for-each-ref fsck gc grep init log ls-files ls-remote ls-tree "
    "merge merge-base mv name-rev notes pull push range-diff rebase reflog remote repack reset "
    "restore rev-list rev-parse revert rm shortlog show show-branch show-ref sparse-checkout stash "
    "status switch symbolic-ref tag update-index update-ref verify-commit verify-tag version "
    "whatchanged worktree write-tree".split()
)
"""What `git **` may stand for. Any other word may be an alias for whatever its settings say, a
program `git-...` on the PATH, or one of git's own that runs what it is given (`remote-ext`)."""

_REMOTE: Final = re.compile(
    r"origin|upstream|(?:https?|ssh|git)://.*|[A-Za-z0-9_.-]+@[A-Za-z0-9][A-Za-z0-9_.-]*:.*",
    re.DOTALL,
)
"""Where a push surely goes to another machine (or to where a person set it up). Any other word may
be a folder, whose hooks it runs."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@+,-]*", re.ASCII)

ELSEWHERE: Final = frozenset({"cd", "pushd", "popd"})
"""Behind these relative paths mean something else."""

CONFIGURED: Final = frozenset({"eslint", "flake8", "mypy", "prettier", "pylint"})
"""Programs that load code which a file of settings in the folder names."""

WRITES_ITS_LAST: Final = frozenset({"uniq", "xxd"})
"""Programs of which a second operand is a file to write."""

ENVIRONMENT: Final = frozenset(
    "LANG LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_NUMERIC LC_TIME TZ NO_COLOR FORCE_COLOR "
    "CLICOLOR COLUMNS LINES TERM CI".split()
)
"""Variables that may be set for a command without changing what it runs."""

_WRAPPERS: Final = frozenset("timeout nohup setsid command builtin nice env".split())
"""Programs that `unwrapped` takes off."""
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?[smhd]?", re.ASCII)
_VERSIONED: Final = re.compile(r"(.*[A-Za-z+])-?[0-9]+(?:\.[0-9]+)*(?:t|-dbg)?", re.ASCII)
_TARGET: Final = re.compile(r"(?:\w+-)*linux-(?:gnu|musl)\w*-", re.ASCII)
"""Before the name of a cross compiler: `x86_64-linux-gnu-gcc`."""
_OWN_UNTIL: Final = frozenset({"npm", "pnpm", "cargo"})
"""Programs whose own options end at `--`: what follows is for the recipe that the rule names."""


def unwrapped(argv: Sequence[str]) -> tuple[str, ...] | None:
    """The command inside `timeout 5 ...`, `nice ...`, `nohup ...`, `env A=b ...` and the like, all
    of them taken off; None if that cannot be said. Only their plainest forms are understood."""
    if argv and argv[0] not in _WRAPPERS:  # most commands
        return tuple(argv)
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
    return tuple(rest) if rest and not rest[0].startswith("-") else None


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
        if name == "just" and any(_PLAIN.fullmatch(word) is None for word in argv[literal:]):
            return f"{name} puts its arguments into the commands of a shell"
    own = _command(argv, COMMANDS.get(name, frozenset())) if literal < 3 else ""
    if own:
        return f"{name} {own} can run or write something else"
    if name == "git" and (why := _of_git(argv, literal)):
        return why
    for at, word in enumerate(argv[literal:], literal):
        if word == "--" and name in _OWN_UNTIL:
            break
        if word == "--" and name == "gh":
            return "what follows -- goes to git, which can run something else by it"
        if name in TARS:
            if ":" in word:
                return f"{name} asks another machine for what has a : in its name"
            if at == 1 and not word.startswith("-"):
                word = f"-{word}"  # `tar xf`: its letters need no dash
        if name == "go" and word.startswith("--"):
            word = word[1:]  # the same
        if name == "git" and word == "-p" and literal > 1:
            continue  # a patch; before the command it would be a pager
        option = _dangerous(word, OPTIONS.get(name, ()))
        if option:
            return f"{name} {option} can run or write something else"
    if name in WRITES_ITS_LAST and len(_operands(argv[1:])) > 1:
        return f"{name} writes its second file"
    return ""


def _operands(words: Sequence[str]) -> list[str]:
    """What is no option for certain; their values among it."""
    if "--" in words:
        end = words.index("--")
        return [*_operands(words[:end]), *words[end + 1 :]]
    return [word for word in words if word == "-" or not word.startswith("-")]


def _of_git(argv: Sequence[str], literal: int) -> str:
    """Why an open rule of git's does not cover this command; "": it may."""
    at = next((at for at, word in enumerate(argv) if at and not word.startswith("-")), len(argv))
    command = argv[at] if at < len(argv) else ""
    if command and literal < 2 and command not in OF_GIT:
        return f"git {command} can be anything"
    words = argv[at + 1 :]
    where, said = _operands(words), argv[at + 1 : literal]
    to: Sequence[str] = ()  # of this push, or of later ones
    if command == "push" or (
        command in ("fetch", "pull") and any(word.startswith("--set-u") for word in words)
    ):
        to = where[:1]
    elif command == "remote" and where[:1] in (["add"], ["set-url"]):
        to = where[2:]
    named = command == "push" and any(word.startswith("--rep") for word in words)
    if named or any(word not in said and _REMOTE.fullmatch(word) is None for word in to):
        return "git push can go to a folder, whose hooks it runs"
    return ""


def known_as(program: str) -> str:
    """The name of a program in these tables: without its folder, target, and version."""
    name = _TARGET.sub("", basename(program))
    versioned = None if name in RUNNERS or name in OPTIONS else _VERSIONED.fullmatch(name)
    return name if versioned is None else str(versioned[1])


def moved(argv: Sequence[str]) -> str:
    """Why a rule does not cover this command once the folder has been changed; "": it may."""
    name = known_as(argv[0])
    if "/" in argv[0] and not argv[0].startswith("/"):
        return f"{argv[0]} is another program in another folder"
    if name in RUNNERS or name in COMMANDS or name in CONFIGURED:
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
        if option.startswith("="):
            if head == option[1:]:
                return option[1:]
        elif option.startswith("--"):
            if option.endswith(".") and head.startswith(option):
                return head
            if head.startswith("--") and len(head) > 2 and option.startswith(head):
                return option
        elif len(option) == 2 and option[0] == "-":
            # in a bundle: `-xvo file`; a word with one dash and more letters may be one
            if word.startswith("-") and not word.startswith("--") and option[1] in word[1:]:
                return option
        elif word.startswith(option):
            return option
    return ""
