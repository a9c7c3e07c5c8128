"""Programs whose arguments can start other programs or write files: what a rule with an open end
(`git log **`) must not let through. `programs.py` decides with these tables.

Sources: the programs' manuals, and the public list of programs with such options that GTFOBins
keeps (the facts, not the text).
"""

from __future__ import annotations

from collections.abc import Mapping
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
"""Programs of which any argument may be a program to run or a file to write. A rule for one of them
has to spell out every word; with an open end (`pytest **`) it covers only the program without
arguments. The exceptions are in `OPEN_AFTER`."""

OPEN_AFTER: Final[Mapping[str, int]] = MappingProxyType(
    {"npm": 2, "pnpm": 2, "yarn": 1, "cargo": 1, "go": 1, "make": 1, "just": 1, "uv": 3}
)
"""Runners whose rule may have an open end if it has more than this many literal words, the program
included (`npm run test **`): those words choose one of the project's own recipes."""

TARS: Final = ("tar", "gtar", "bsdtar")

_RISKY: Final[Mapping[str, str]] = {
    "git": """
        -c -C --exec-path --git-dir --work-tree --config-env --output --ext-diff --textconv
        --upload-pack --receive-pack --exec -x --open-files-in-pager -O --paginate -p --edit
        -e --namespace --super-prefix --no-index --template --separate-git-dir -u --prefix
        --unsafe-paths --export-marks
        """,
    "find gfind bfs": "-exec -ok -delete -fprint -fls -files0-from",
    "fd fdfind": "-x --exec -X --exec-batch",
    "rg": "--pre --pre-glob --hostname-bin --search-zip -z",
    "grep": "",
    "shuf iconv": "-o --output",
    "sort gsort": "-o --output --compress-program -T --temporary-directory --files0-from",
    "uniq": "",
    "tar gtar bsdtar": """
        -I --use-compress-program --to-command --checkpoint-action --checkpoint --index-file
        --listed-incremental -F --info-script --new-volume-script --rsh-command
        --rmt-command -x --extract --get -c --create -r -u -A
        """,
    "base64": "-o --output",
    "file": "-m --magic-file -C --compile -z -Z",
    "tree": "-o --output -R",
    "xxd": "-r",
    "date": "-s --set -f --file",
    "hostname": "-F --file -b",
    "diff": "--to-file --from-file",
    "cut": "--output-delimiter",
    "ps": "",
    "test [": "-v",  # bash evaluates what is between the brackets of `a[...]`
    "wait": "-p",
    "jobs": "-x",
    "wc du": "--files0-from",
    "hg": "--config --cwd --repository -R",
    "svn": "--config-option --config-dir --diff-cmd --diff3-cmd --editor-cmd",
    "npm": """
        --script-shell --prefix -C --userconfig --globalconfig --node-options --workspace
        --workspaces -w --shell
        """,
    "pnpm": "--script-shell --dir -C --config. --node-options",
    "yarn": "--script-shell --cwd --use-yarnrc",
    "cargo": "--config --manifest-path -Z -C --target-dir --out-dir --artifact-dir",
    "go": """
        -exec -toolexec -vettool -overlay -modfile -ldflags -gccgoflags =-C =-o =-w -test.
        -outputdir -coverprofile -trace -cpuprofile -memprofile -blockprofile -mutexprofile
        """,
    "ruff": "--config -o --output-file --cache-dir",
    "mypy": """
        --python-executable --config-file --junit-xml --install-types --cache-dir
        --any-exprs-report --cobertura-xml-report --html-report --linecount-report
        --linecoverage-report --lineprecision-report --txt-report --xml-report
        --xslt-html-report --xslt-txt-report @
        """,
    "pyright basedpyright": "--pythonpath --venvpath --createstub --writebaseline --baselinefile",
    "pylint": "--init-hook --load-plugins --rcfile --output",
    "flake8": "--config --append-config --output-file",
    "eslint": """
        -c --config --rulesdir --plugin --resolve-plugins-relative-to --parser -f --format
        -o --output-file --cache-file --cache-location
        """,
    "prettier": "--plugin --plugin-search-dir --config --cache-location",
    "clang-tidy": "-load --load --config-file -export-fixes --export-fixes",
    "ag": "--pager",
    "ack": "--pager --ackrc --output",
    "bat batcat": "--pager --lessopen",
    "delta": "--pager",
    "sdiff": "-o --output --diff-program",
    "diff3": "--diff-program",
    "nm": "--plugin @",
    "zstd": "-o --output-dir-flat --output-dir-mirror --trace",
    "patch": "-e --ed -o --output -r --reject-file -d --directory",
    "ss": "-D --diag -K --kill",
    "ip": "=-b -ba",
    "journalctl": "--cursor-file",
}

RISKY_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        program: tuple(options.split())
        for programs, options in _RISKY.items()
        for program in programs.split()
    }
)
"""Options that make a program run another one, or write to a file that the command line names. They
also count abbreviated, and bundled with other letters. `=-o` is exactly that word, for programs
that do not bundle letters."""

RISKY_SUBCOMMANDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
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
"""Subcommands that run other programs, or write to a file that the command line names. A rule with
an open end covers one only if it names it and at least one word after it (`git submodule status
**`)."""

GIT_SUBCOMMANDS: Final = frozenset(
    "add am annotate apply blame branch cat-file check-attr check-ignore check-ref-format checkout "
    "cherry cherry-pick clean clone commit commit-tree count-objects describe diff diff-files "
    "diff-index diff-tree fetch for-each-ref fsck gc grep init log ls-files ls-remote ls-tree "
    "merge merge-base mv name-rev notes pull push range-diff rebase reflog remote repack reset "
    "restore rev-list rev-parse revert rm shortlog show show-branch show-ref sparse-checkout stash "
    "status switch symbolic-ref tag update-index update-ref verify-commit verify-tag version "
    "whatchanged worktree write-tree".split()
)
"""The subcommands that `git **` covers. Any other word may be an alias from git's configuration, a
program `git-...` on the PATH, or a subcommand that runs its arguments (`remote-ext`)."""

LOADS_LOCAL_CODE: Final = frozenset({"eslint", "flake8", "mypy", "prettier", "pylint"})
"""Programs that load code named by a configuration file in the working directory."""

WRITES_SECOND_OPERAND: Final = frozenset({"uniq", "xxd"})
"""Programs whose second operand is a file to write."""
