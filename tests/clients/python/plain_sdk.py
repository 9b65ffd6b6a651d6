"""An application with the OpenTelemetry SDK alone. Where it sends to is in the environment, as the SDK documents it."""

import logging
import os

from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

import noting

if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

resource = Resource.create({"service.name": "plain-sdk", "deployment.environment.name": "test", "replica": 3})
provider = TracerProvider(resource=resource)
provider.add_span_processor(noting.processor())
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=3_600_000)
meters = MeterProvider(resource=resource, metric_readers=[reader])
metrics.set_meter_provider(meters)
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
log = logging.getLogger("plain-sdk")
log.setLevel(logging.INFO)
log.addHandler(LoggingHandler(logger_provider=logs))

tracer = trace.get_tracer("plain-sdk.tracer", "1.2.3")
answered = metrics.get_meter("plain-sdk.meter").create_counter("questions.answered")
latency = metrics.get_meter("plain-sdk.meter").create_histogram("answer.seconds", unit="s")


def call(model, cached):
    """A model call by the semantic conventions for generative AI."""
    with tracer.start_as_current_span(f"chat {model}", kind=SpanKind.CLIENT) as span:
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": model,
                "gen_ai.response.model": model,
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.usage.input_tokens": 1200,
                "gen_ai.usage.cache_read.input_tokens": cached,
                "gen_ai.usage.output_tokens": 340,
                "gen_ai.request.temperature": 0.7,
            }
        )
        log.info("the model has answered", extra={"tokens": 340})


# More than one batch of the exporter (512 spans).
for question in range(150):
    with tracer.start_as_current_span("question", attributes={"number": question}) as root:
        call("gpt-4o-2024-08-06", cached=200)
        call("gpt-4o-mini-2024-07-18", cached=0)
        with tracer.start_as_current_span("tool ☂ Zürich", links=[Link(root.get_span_context())]) as span:
            span.set_attribute("texts", ["a", "", "ß"])
            span.set_attribute("flags", [True, False])
            span.set_attribute("numbers", [1, -(2**62)])
            span.set_attribute("ratios", [0.5, -1e300])
            span.add_event("retry", {"attempt": 2})
            span.set_status(Status(StatusCode.ERROR, "it rains"))
        answered.add(1, {"model": "gpt-4o"})
        latency.record(0.25 * question)

# A prompt of 3 MB: more than the 4 MiB that gRPC servers take by default, once it has company.
for size in (3_000_000, 2_000_000):
    with tracer.start_as_current_span("large", attributes={"gen_ai.prompt.0.content": "à" * (size // 2)}):
        pass
try:
    with tracer.start_as_current_span("failing"):
        raise ValueError("no answer")
except ValueError:
    log.exception("it failed")

provider.shutdown()
meters.shutdown()
logs.shutdown()
