// Notes the spans that an exporter is given, in the form of `harness/spans.py`, in the file that NOTES names.

import { appendFileSync } from "node:fs";

const nanos = ([seconds, rest]) => BigInt(seconds) * 1_000_000_000n + BigInt(rest);

// What is undefined is not sent.
const attributes = (all) => Object.fromEntries(Object.entries(all ?? {}).filter(([, value]) => value !== undefined));

function line(span) {
  const { traceId, spanId } = span.spanContext();
  const note = {
    trace_id: traceId,
    span_id: spanId,
    parent_span_id: span.parentSpanContext?.spanId ?? span.parentSpanId ?? "",
    name: span.name,
    // The API's span kinds begin with 0, those of OTLP with 1.
    kind: span.kind + 1,
    start: `#${nanos(span.startTime)}#`,
    end: `#${nanos(span.endTime)}#`,
    status: { code: span.status.code, message: span.status.message ?? "" },
    attributes: attributes(span.attributes),
    events: span.events.map((event) => ({ name: event.name, attributes: attributes(event.attributes) })),
    links: span.links.map((link) => [link.context.traceId, link.context.spanId]),
    resource: attributes(span.resource.attributes),
    scope: (span.instrumentationScope ?? span.instrumentationLibrary).name,
  };
  // JSON.stringify knows no integers of 64 bits.
  return JSON.stringify(note).replaceAll(/"#(\d+)#"/g, "$1") + "\n";
}

/** Makes every exporter of a class note what it is given. */
export function noteExports(exporterClass) {
  const base = exporterClass.prototype;
  const original = base.export;
  base.export = function (spans, done) {
    appendFileSync(process.env.NOTES, spans.map(line).join(""));
    return original.call(this, spans, done);
  };
}
