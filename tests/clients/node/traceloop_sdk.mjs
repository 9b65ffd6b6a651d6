// An application with the Traceloop SDK, whose OpenAI calls are instrumented by it.

import { createRequire } from "node:module";

import * as traceloop from "@traceloop/node-server-sdk";
import OpenAI from "openai";

import { noteExports } from "./noting.mjs";

if (!process.env.TRACELOOP_HEADERS) delete process.env.TRACELOOP_HEADERS;

// The very class that the SDK uses.
const require = createRequire(import.meta.resolve("@traceloop/node-server-sdk"));
noteExports(require("@opentelemetry/exporter-trace-otlp-proto").OTLPTraceExporter);

traceloop.initialize({
  appName: "traceloop-app",
  baseUrl: process.env.ENDPOINT,
  apiKey: process.env.API_KEY ?? "a-key",
  instrumentModules: { openAI: OpenAI },
  silenceInitializationMessage: true,
});
const openai = new OpenAI({ apiKey: "none", baseURL: process.env.OPENAI_URL, maxRetries: 0 });

async function ask(content, more = {}) {
  return openai.chat.completions.create({ model: "gpt-4o", messages: [{ role: "user", content }], ...more });
}

const plain = () => traceloop.withTask({ name: "plain" }, () => ask("Tell me a joke about weirs."));

const streamed = () =>
  traceloop.withTask({ name: "streamed" }, async () => {
    const options = { model: "gpt-4o-mini", stream: true, stream_options: { include_usage: true } };
    let text = "";
    for await (const piece of await ask("Once more.", options)) text += piece.choices[0]?.delta.content ?? "";
    return text;
  });

const withTools = () =>
  traceloop.withTask({ name: "with_tools" }, async () => {
    const tool = { type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } };
    const answer = await ask("How is the weather in Zürich?", { tools: [tool] });
    const { arguments: city } = answer.choices[0].message.tool_calls[0].function;
    return traceloop.withTool({ name: "weather" }, () => `rain in ${city}`);
  });

await traceloop.withWorkflow({ name: "jokes", associationProperties: { user_id: "user-1" } }, async () => {
  await plain();
  await streamed();
  await withTools();
});
await traceloop.forceFlush();
