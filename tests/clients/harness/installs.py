"""Installs the programs, outside the repository, from the versions that are pinned here.

An installation is a folder whose name ends in a digest of its pins; a file `complete` in it says that it is whole. What
cannot be installed is no failure of Weir: it is `Unavailable`, with the reason.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

# What an installation may take, in seconds.
PATIENCE = 420


class Unavailable(Exception):
    """A program that cannot be had here."""


class Installs:
    """Installed programs, below one folder."""

    def __init__(self):
        kept = Path.home() / ".cache" / "weir"
        self._temporary = None
        if kept.is_dir():
            self.folder = kept / "clients"
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="weir-clients-")
            self.folder = Path(self._temporary.name)
        self.folder.mkdir(exist_ok=True)

    def close(self):
        """Removes what is not kept."""
        if self._temporary:
            self._temporary.cleanup()

    def python(self, name):
        """The interpreter of an environment with the packages of `python/NAME.txt`."""
        pins = HERE / "python" / f"{name}.txt"

        def fill(folder):
            _run([sys.executable, "-m", "venv", str(folder)])
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
            # The list is whole, so nothing is to be worked out.
            _run([*pip, "--disable-pip-version-check", "--no-deps", "--requirement", str(pins)])

        return self._install(f"python-{name}", [pins], sys.version, fill) / "bin" / "python"

    def node(self, name):
        """A folder with the packages of `node/NAME/package-lock.json` and the programs beside it."""
        node, npm = _tool("node"), _tool("npm")
        source = HERE / "node" / name
        pins = [source / "package.json", source / "package-lock.json"]

        def fill(folder):
            for pin in pins:
                shutil.copy(pin, folder)
            # What packages would run when they are installed is not needed, and not run.
            _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder)

        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
        folder = self._install(f"node-{name}", pins, version, fill)
        # Node looks for packages beside the program, so the programs go there.
        for program in (HERE / "node").glob("*.mjs"):
            shutil.copy(program, folder)
        return folder

    def collector(self):
        """An OpenTelemetry Collector, built from the modules of `go/go.sum`."""
        go = _tool("go")
        pins = [HERE / "go" / name for name in ("go.mod", "go.sum", "main.go")]

        def fill(folder):
            # At low priority: it is long, and other clients are tried meanwhile.
            build = ["nice", go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(folder / "collector"), "."]
            _run(build, cwd=HERE / "go", env={"GOFLAGS": "-mod=readonly -buildvcs=false", "CGO_ENABLED": "0"})

        version = subprocess.run([go, "version"], capture_output=True, text=True).stdout
        return self._install("collector", pins, version, fill) / "collector"

    def _install(self, name, pins, toolchain, fill):
        digest = hashlib.sha256(toolchain.encode())
        for pin in pins:
            digest.update(pin.read_bytes())
        folder = self.folder / f"{name}-{digest.hexdigest()[:12]}"
        if not (folder / "complete").exists():
            # Of other versions nothing is kept.
            for other in self.folder.glob(f"{name}-{'?' * 12}"):
                shutil.rmtree(other)
            folder.mkdir()
            fill(folder)
            (folder / "complete").touch()
        return folder


def _tool(name):
    path = shutil.which(name)
    if not path:
        raise Unavailable(f"there is no `{name}` here")
    return path


def _run(command, cwd=None, env=None):
    """Runs an installer; a failure is the registry's or the machine's, not Weir's."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{_name(command)}` took more than {PATIENCE} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise Unavailable(f"`{_name(command)}` failed: {lines[-1].strip() if lines else 'without a word'}")


def _name(command):
    return " ".join(Path(word).name for word in command[:4])
