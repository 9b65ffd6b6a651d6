"""The clients: how each is run, and what must have arrived."""

import json
import os
import re
import socket
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import made, spans
from .openai_stub import OpenAi
from .weir import CONFIG, PATIENCE, PROJECTS, Weir, wait_until

HERE = Path(__file__).resolve().parent.parent

# Spans and model calls of `plain_sdk.py` and `plain_sdk.mjs`.
QUESTIONS = 150

# What an SDK says when its data was not taken.
NOT_TAKEN = re.compile(r"(?i)failed to export|exception while exporting|transient error|dropping|items to be sent .* fail")


class Case:
    """One client: a name, how it is installed, and how it is tried."""

    def __init__(self, name, install, attempt):
        self.name, self.install, self.attempt = name, install, attempt


def all_cases():
    """All clients, those that take long to install last."""
    plain, current, former = (lambda name: lambda i: i.python(name)), "traceloop", "traceloop_0_40"
    http, grpc = "http/protobuf", "grpc"
    return [
        *(Case(f"Python OpenTelemetry SDK, {p}, {c}", plain("plain"), python_plain(p, c))
          for p in (grpc, http) for c in ("none", "gzip")),
        *(Case(f"Node OpenTelemetry SDK, {p}, {c}", lambda i: i.node("plain"), node_plain(p, c))
          for p, c in ((grpc, "none"), (grpc, "gzip"), (http, "none"), (http, "gzip"), ("http/json", "none"),
                       ("http/json", "gzip"))),
        Case("Python Traceloop SDK, HTTP", plain(current), python_traceloop("http://{http}")),
        Case("Python Traceloop SDK, HTTP, base URL with a slash at the end", plain(current),
             python_traceloop("http://{http}/")),
        Case("Python Traceloop SDK, gRPC", plain(current), python_traceloop("grpc://{grpc}")),
        Case("Python Traceloop SDK, with Traceloop's API expected at Weir", plain(current),
             python_traceloop("http://{http}", is_traceloop=True)),
        # It does not note the usage of answers that are streamed.
        Case("Python Traceloop SDK 0.40, HTTP", plain(former), python_traceloop("http://{http}", calls=3)),
        Case("Python Traceloop SDK 0.40, gRPC (no scheme)", plain(former), python_traceloop("{grpc}", calls=3)),
        Case("Node Traceloop SDK, HTTP", lambda i: i.node("traceloop"), node_traceloop("http://{http}")),
        Case("Traceloop SDKs with keys of two projects and three environments at once",
             lambda i: (i.python(current), i.node("traceloop")), two_projects),
        *(Case(f"OpenTelemetry Collector before and behind, {p}", lambda i: i.collector(), collectors(p))
          for p in ("otlp", "otlphttp")),
    ]


def python_plain(protocol, compression):
    """The OpenTelemetry SDK for Python: traces, metrics and logs."""

    def attempt(python, setting):
        weir = setting.weir()
        setting.run([python, HERE / "python" / "plain_sdk.py"], otlp(weir, protocol, compression))
        sent = arrived_whole(setting, weir, calls=2 * QUESTIONS)
        assert len(sent) == 4 * QUESTIONS + 3, len(sent)
        metrics = {metric["name"] for metric in items(weir.requests("metrics"), "resourceMetrics", "metrics")}
        assert {"questions.answered", "answer.seconds"} <= metrics, metrics
        records = [r for r in items(weir.requests("logs"), "resourceLogs", "logRecords")]
        answered = [r for r in records if r["body"] == {"stringValue": "the model has answered"}]
        assert len(answered) == 2 * QUESTIONS and all("traceId" in record for record in answered), len(answered)

    return attempt


def node_plain(protocol, compression):
    """The OpenTelemetry SDK for Node: traces."""

    def attempt(folder, setting):
        weir = setting.weir()
        setting.run(["node", folder / "plain_sdk.mjs"], otlp(weir, protocol, compression))
        sent = arrived_whole(setting, weir, calls=2 * QUESTIONS)
        assert len(sent) == 4 * QUESTIONS + 2, len(sent)

    return attempt


def otlp(weir, protocol, compression):
    """Where an SDK is to send, in the variables that OpenTelemetry specifies."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{weir.grpc if protocol == 'grpc' else weir.http}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }
    # Not every SDK knows "none".
    return variables if compression == "none" else {**variables, "OTEL_EXPORTER_OTLP_COMPRESSION": compression}


def python_traceloop(endpoint, is_traceloop=False, calls=4):
    """The Traceloop SDK for Python; `endpoint` as an application gives it, `calls` as many as it notes the usage of."""

    def attempt(python, setting):
        weir = setting.weir()
        output = setting.run([python, HERE / "python" / "traceloop_sdk.py"], traceloop(weir, setting, endpoint, is_traceloop))
        # What it asks for while it starts is traced, too, before the application can note it.
        own = lambda span: "/v1/traceloop/" in str(span["attributes"].get("http.url", ""))
        sent = arrived_whole(setting, weir, calls, besides=own if is_traceloop else None)
        assert_is_whole_trace(sent)
        metrics = {metric["name"] for metric in items(weir.requests("metrics"), "resourceMetrics", "metrics")}
        assert "gen_ai.client.token.usage" in metrics, metrics
        if is_traceloop:
            # Its calls of the API beside OTLP are spans, too.
            urls = [str(span["attributes"].get("http.url", "")) for span in sent]
            assert any(url.endswith("/v2/datasets") for url in urls), urls
            assert output.count("API call: ") == 2, output

    return attempt


def node_traceloop(endpoint):
    """The Traceloop SDK for Node. It asks for prompts only at addresses with "traceloop" in them, which this has not."""

    def attempt(folder, setting):
        weir = setting.weir()
        setting.run(["node", folder / "traceloop_sdk.mjs"], traceloop(weir, setting, endpoint, is_traceloop=False))
        assert_is_whole_trace(arrived_whole(setting, weir, calls=3))

    return attempt


def two_projects(programs, setting):
    """Applications of four tenants send at the same time; rows and forwarded streams are split exactly."""
    python, node = programs
    weir = setting.weir(config=PROJECTS)
    languages = {"python": [python, HERE / "python" / "traceloop_sdk.py"], "node": ["node", node / "traceloop_sdk.mjs"]}
    clients = [("shop", "prd", "python"), ("shop", "dev", "node"), ("search", "prd", "node"), ("search", "stg", "python")]
    for project in ("shop", "search"):
        weir.command("projects", "create", project)
    keys = [weir.command("keys", "create", "--project", project, "--env", env).strip() for project, env, _ in clients]
    base = traceloop(weir, setting, "http://{http}", is_traceloop=False)
    own = [setting.notes.with_name(f"{project}-{env}.jsonl") for project, env, _ in clients]
    with ThreadPoolExecutor(len(clients)) as pool:
        runs = [
            pool.submit(setting.run, languages[language], {**base, "API_KEY": key, "NOTES": str(notes)})
            for (_, _, language), key, notes in zip(clients, keys, own)
        ]
        for run in runs:
            run.result()
    ids = lambda all_spans: sorted((span["trace_id"], span["span_id"]) for span in all_spans)
    sent = {(project, env): spans.noted(notes) for (project, env, _), notes in zip(clients, own)}
    query = "SELECT trace_id, span_id, environment, total_cost FROM spans"
    for (project, env), noted in sent.items():
        assert_is_whole_trace(noted)
        assert ids(weir.sql(query, "--project", project, "--env", env)) == ids(noted), (project, env)
    for project in ("shop", "search"):
        assert ids(weir.sql(query, "--project", project)) == ids(of_project(sent, project)), project
    assert weir.unaccounted() == 0
    weir.stop()
    for project in ("shop", "search"):
        spans.assert_same(of_project(sent, project), spans.forwarded(weir.requests(project)))


def of_project(sent, project):
    """The spans of all environments of a project."""
    return [span for (owner, _), noted in sent.items() if owner == project for span in noted]


def traceloop(weir, setting, endpoint, is_traceloop):
    """What the applications with a Traceloop SDK read."""
    port = weir.http.rsplit(":", 1)[1]
    is_grpc = "{grpc}" in endpoint
    return {
        # The SDK writes the name of its own header for the key in capitals, which gRPC does not allow.
        "TRACELOOP_HEADERS": "authorization=Bearer%20a-key" if is_grpc else "",
        # And it asks for TLS, for metrics at least, unless it is told otherwise.
        "OTEL_EXPORTER_OTLP_INSECURE": "true" if is_grpc else "false",
        "ENDPOINT": endpoint.format(http=weir.http, grpc=weir.grpc, port=port),
        "OPENAI_URL": setting.openai().url,
        "IS_TRACELOOP": "yes" if is_traceloop else "",
        # Nothing else leaves the process.
        "TRACELOOP_TELEMETRY": "false",
    }


def assert_is_whole_trace(sent):
    """Workflow, tasks, tool and calls are one trace, and the workflow's name is on them."""
    names = {span["name"] for span in sent}
    assert {"jokes.workflow", "plain.task", "streamed.task", "with_tools.task", "weather.tool"} <= names, names
    root = next(span for span in sent if span["name"] == "jokes.workflow")
    of_trace = [span for span in sent if span["trace_id"] == root["trace_id"]]
    chats = [span for span in of_trace if "gen_ai.response.model" in span["attributes"]]
    assert len(chats) >= 3, names
    assert all(span["attributes"].get("traceloop.workflow.name") == "jokes" for span in of_trace), of_trace


def collectors(exporter):
    """made spans → Collector → Weir → Collector → Weir."""

    def attempt(binary, setting):
        last = setting.weir("last")
        behind = setting.collector(binary, exporter, last)
        protocol = f"otlp_grpc: {{endpoint: '{behind.grpc}', tls: {{insecure: true}}}}"
        if exporter == "otlphttp":
            protocol = f"otlp_http: {{endpoint: 'http://{behind.http}'}}"
        first = setting.weir("first", forward=protocol)
        before = setting.collector(binary, exporter, first)
        sent = made.spans(1000)
        made.post(f"http://{before.http}", sent)
        # A Collector answers when it has queued, not when it has delivered.
        for weir in (first, last):
            wait_until(
                f"{len(sent)} spans in the {weir.folder.name} store",
                lambda: sum(row["n"] for row in weir.sql("SELECT count(*) AS n FROM spans")) == len(sent),
            )
        for process in (before, behind):
            process.stop()
        for weir in (first, last):
            stored = weir.sql("SELECT trace_id, span_id, total_cost FROM spans")
            assert weir.unaccounted() == 0
            weir.stop()
            received = spans.forwarded(weir.requests("traces"))
            spans.assert_same(sent, received)
            spans.assert_costs(sent, stored, calls=500)
            amounts = [span["attributes"].get("gen_ai.usage.cost.amount") for span in received]
            assert sum(amount is not None for amount in amounts) == 500, "costs travel with the spans"

    return attempt


def arrived_whole(setting, weir, calls, besides=None):
    """All that the client sent is stored once, with its cost, and was forwarded unchanged. Returns what was sent.

    `besides` tells which spans may be there that the client did not note.
    """
    sent = spans.noted(setting.notes)
    assert sent, "the client sent nothing"
    # The client has its answers, and an answer means that the spans are in the store.
    stored = weir.sql("SELECT trace_id, span_id, total_cost FROM spans")
    assert weir.unaccounted() == 0
    weir.stop()
    received = spans.forwarded(weir.requests("traces"))
    noted = {span["span_id"] for span in sent}
    sent += [span for span in received if besides and span["span_id"] not in noted and besides(span)]
    spans.assert_same(sent, received)
    ids = lambda all_spans: sorted((span["trace_id"], span["span_id"]) for span in all_spans)
    assert ids(stored) == ids(sent), f"{len(stored)} rows of {len(sent)} spans"
    spans.assert_costs(sent, stored, calls)
    return sent


def items(requests, resources, name):
    """The metrics or log records of OTLP/JSON requests."""
    for request in requests:
        for resource in request.get(resources, []):
            for scope in resource.get(resources.replace("resource", "scope"), []):
                yield from scope.get(name, [])


class Collector:
    """An OpenTelemetry Collector on two free ports, until `stop`."""

    def __init__(self, binary, folder, exporter, weir):
        self.grpc, self.http = _free_address(), _free_address()
        to = weir.grpc if exporter == "otlp" else f"http://{weir.http}"
        environment = {"PATH": os.environ["PATH"], "GRPC": self.grpc, "HTTP": self.http, "TO": to, "EXPORTER": exporter}
        self._log = open(folder / f"collector-{self.grpc.rsplit(':', 1)[1]}.log", "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(binary), "--config", str(HERE / "go" / "collector.yaml")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        wait_until("the Collector listens", self._listens)

    def _listens(self):
        assert self._process.poll() is None, "the Collector did not start:\n" + self.log()
        try:
            # Neither a body nor a type: it is refused, by a server that is there.
            urllib.request.urlopen(f"http://{self.http}/v1/traces", timeout=5)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def log(self):
        """What it said."""
        self._log.flush()
        return Path(self._log.name).read_text(encoding="utf-8")

    def stop(self):
        """Stops it; it delivers what it has."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        assert not NOT_TAKEN.search(self.log()), self.log()

    def kill(self):
        """Ends it, whatever state it is in."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Setting:
    """One attempt: a folder, and processes that end with it."""

    def __init__(self, binary, folder):
        self._binary, self._folder = binary, Path(folder)
        self._weirs, self._collectors, self._openai = [], [], None
        self.notes = self._folder / "notes.jsonl"
        self.output = ""

    def weir(self, name="weir", forward="", config=CONFIG):
        """A running Weir."""
        self._weirs.append(Weir(self._binary, self._folder / name, forward, config))
        return self._weirs[-1]

    def openai(self):
        """The stub of the OpenAI API."""
        self._openai = self._openai or OpenAi()
        return self._openai

    def collector(self, binary, exporter, weir):
        """A running Collector that sends to a Weir."""
        self._collectors.append(Collector(binary, self._folder, exporter, weir))
        return self._collectors[-1]

    def run(self, command, environment):
        """Runs a client to its end and returns what it printed."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self._folder,
            env={**inherited, "NOTES": str(self.notes), "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * PATIENCE,
        )
        self.output = done.stdout
        assert done.returncode == 0, f"the client exited with {done.returncode}"
        assert not NOT_TAKEN.search(self.output), "the client says that its data was not taken"
        return self.output

    def told(self):
        """What all processes printed, for a person who looks for the fault."""
        parts = [("client", self.output)]
        parts += [(f"Weir {weir.folder.name}", "\n".join(weir.log)) for weir in self._weirs]
        parts += [("Collector", collector.log()) for collector in self._collectors]
        return "\n".join(f"--- {name}\n{text[-6000:].rstrip()}" for name, text in parts if text)

    def close(self):
        """Ends what still runs."""
        for process in self._weirs + self._collectors:
            process.kill()
        if self._openai:
            self._openai.close()
