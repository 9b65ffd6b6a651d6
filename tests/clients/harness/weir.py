"""A `weir run` and what it stored."""

import json
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

# What anything may take before it counts as hanging, in seconds.
PATIENCE = 60

CONFIG = """\
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:0"}
      http: {endpoint: "127.0.0.1:0"}
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 512}
  cost:
exporters:
  parquet: {url: ./store, flush: {max_age: 100ms}}
  file/traces: {path: traces.jsonl}
  file/metrics: {path: metrics.jsonl}
  file/logs: {path: logs.jsonl}
EXPORTER
service:
  telemetry: {metrics: {address: "127.0.0.1:0"}}
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, cost], exporters: [parquet, file/tracesFORWARD]}
    metrics: {receivers: [otlp], processors: [memory_limiter], exporters: [file/metrics]}
    logs: {receivers: [otlp], processors: [memory_limiter], exporters: [file/logs]}
"""


# The same for two projects, whose keys decide whose the spans are.
PROJECTS = """\
extensions:
  apikeyauth: {registry: {url: ./store, poll_interval: 100ms}}
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:0", auth: {authenticator: apikeyauth}}
      http: {endpoint: "127.0.0.1:0", auth: {authenticator: apikeyauth}}
processors:
  cost:
  batch: {timeout: 50ms}
connectors:
  routing:
    table:
      - {condition: 'project == "shop"', pipelines: [traces/shop]}
      - {condition: 'project == "search"', pipelines: [traces/search]}
exporters:
  parquet: {url: ./store, flush: {max_age: 100ms}}
  file/shop: {path: shop.jsonl}
  file/search: {path: search.jsonl}
  nop:
service:
  extensions: [apikeyauth]
  telemetry: {metrics: {address: "127.0.0.1:0"}}
  pipelines:
    traces/in: {receivers: [otlp], processors: [cost, batch], exporters: [parquet, routing]}
    traces/shop: {receivers: [routing], exporters: [file/shop]}
    traces/search: {receivers: [routing], exporters: [file/search]}
    metrics: {receivers: [otlp], exporters: [nop]}
    logs: {receivers: [otlp], exporters: [nop]}
"""


class Weir:
    """Weir with every receiver port open, a store, and all it received in files. `forward` is one more exporter of
    traces as YAML, with its id before the first colon."""

    def __init__(self, binary, folder, forward="", config=CONFIG):
        self.binary, self.folder = binary, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = forward.split(":")[0].strip()
        config = config.replace("EXPORTER", f"  {forward}").replace("FORWARD", f", {name}" if name else "")
        (self.folder / "weir.yaml").write_text(config)
        self.log = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [str(binary), "run", "--config", "weir.yaml"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE) or self._process.poll() is not None:
            self.kill()
            raise AssertionError("Weir did not start:\n" + "\n".join(self.log))
        self.grpc, self.http = self._address("(grpc)"), self._address("(http)")
        self.metrics = self._line("metrics are at ").rsplit(" ", 1)[1]

    def _read(self):
        for line in self._process.stderr:
            self.log.append(line.rstrip())
            if line.rstrip().endswith("ready"):
                self._ready.set()
        self._ready.set()

    def _line(self, text):
        return next(line for line in self.log if text in line)

    def _address(self, protocol):
        return next(l for l in self.log if " listens on " in l and protocol in l).split(" listens on ")[1].split()[0]

    def unaccounted(self):
        """Records that a destination neither has nor counted as dropped, of all destinations."""
        with urllib.request.urlopen(self.metrics, timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.startswith("weir_accounting_difference{")]
        assert values, "there is no weir_accounting_difference"
        return sum(abs(float(value)) for value in values)

    def command(self, *words):
        """What a command over the store prints."""
        command = [str(self.binary), *words, "--store", str(self.folder / "store")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, query, *options):
        """Rows of the store as dictionaries."""
        command = [str(self.binary), "sql", "--store", str(self.folder / "store"), "--format", "json", *options, query]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if "holds no spans yet" in done.stderr:
            return []
        assert done.returncode == 0, done.stderr
        # Decimals stay the digits that they are.
        return json.loads(done.stdout, parse_float=str)

    def requests(self, signal_name):
        """The requests of a signal as they were forwarded: OTLP/JSON. The file is whole once Weir has stopped."""
        path = self.folder / f"{signal_name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stop(self):
        """Stops it; it must say that nothing was lost."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert code == 0, f"Weir exited with {code}:\n" + "\n".join(self.log)

    def kill(self):
        """Ends it, whatever state it is in."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def wait_until(what, condition):
    """Asks until `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.05)
