// An application with the OpenTelemetry SDK alone. Where it sends to is in the environment, as the SDK documents it.

import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { OTLPTraceExporter as Grpc } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as HttpJson } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as HttpProtobuf } from "@opentelemetry/exporter-trace-otlp-proto";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

import { noteExports } from "./noting.mjs";

const Exporter = { grpc: Grpc, "http/json": HttpJson, "http/protobuf": HttpProtobuf }[process.env.OTEL_EXPORTER_OTLP_PROTOCOL];
noteExports(Exporter);
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(new Exporter())] });
provider.register();
const tracer = trace.getTracer("plain-sdk.tracer", "1.2.3");

function call(model, cached) {
  const span = tracer.startSpan(`chat ${model}`, { kind: SpanKind.CLIENT });
  span.setAttributes({
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": model,
    "gen_ai.response.model": model,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.cache_read.input_tokens": cached,
    "gen_ai.usage.output_tokens": 340,
    "gen_ai.request.temperature": 0.7,
  });
  span.end();
}

// More than one batch of the exporter (512 spans).
for (let question = 0; question < 150; question++) {
  const root = tracer.startSpan("question", { attributes: { number: question } });
  context.with(trace.setSpan(context.active(), root), () => {
    call("gpt-4o-2024-08-06", 200);
    call("gpt-4o-mini-2024-07-18", 0);
    const span = tracer.startSpan("tool ☂ Zürich", { links: [{ context: root.spanContext() }] });
    span.setAttributes({ texts: ["a", "", "ß"], flags: [true, false], numbers: [1, -(2 ** 50)], ratios: [0.5, -1.25] });
    span.addEvent("retry", { attempt: 2 });
    span.setStatus({ code: SpanStatusCode.ERROR, message: "it rains" });
    span.end();
  });
  root.end();
}
// A prompt of 3 MB: more than the 4 MiB that gRPC servers take by default, once it has company.
for (const size of [3_000_000, 2_000_000]) {
  tracer.startSpan("large", { attributes: { "gen_ai.prompt.0.content": "à".repeat(size / 2) } }).end();
}
await provider.shutdown();
