"""Notes the spans that an OpenTelemetry SDK ends, in the form of `harness/spans.py`, in the file that NOTES names."""

import json
import os

from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

# The SDK's span kinds begin with 0, those of OTLP with 1.
_KIND_OFFSET = 1


def _plain(value):
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _attributes(attributes):
    return {key: _plain(value) for key, value in (attributes or {}).items()}


def _note(span):
    context = span.get_span_context()
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else "",
        "name": span.name,
        "kind": span.kind.value + _KIND_OFFSET,
        "start": span.start_time,
        "end": span.end_time,
        "status": {"code": span.status.status_code.value, "message": span.status.description or ""},
        "attributes": _attributes(span.attributes),
        "events": [{"name": event.name, "attributes": _attributes(event.attributes)} for event in span.events],
        "links": [[f"{l.context.trace_id:032x}", f"{l.context.span_id:016x}"] for l in span.links],
        "resource": _attributes(span.resource.attributes),
        "scope": span.instrumentation_scope.name,
    }


class _Notes(SpanExporter):
    def __init__(self, path):
        self._file = open(path, "a", encoding="utf-8")

    def export(self, spans):
        for span in spans:
            self._file.write(json.dumps(_note(span)) + "\n")
        self._file.flush()
        return SpanExportResult.SUCCESS

    def shutdown(self):
        self._file.close()


def processor():
    """A span processor that notes each span when it ends."""
    return SimpleSpanProcessor(_Notes(os.environ["NOTES"]))
