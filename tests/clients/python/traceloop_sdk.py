"""An application with the Traceloop SDK, whose OpenAI calls are instrumented by it. Current and older versions."""

import os
import sys

from openai import OpenAI
from opentelemetry import metrics, trace
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import task, tool, workflow
from traceloop.sdk.tracing.tracing import TracerWrapper

import noting

options = {}
if os.environ.get("IS_TRACELOOP"):
    # The way to tell a current SDK that all of Traceloop's API is at that address.
    options = {"endpoint_is_traceloop": True, "traceloop_sync_enabled": True}
if not os.environ["TRACELOOP_HEADERS"]:
    del os.environ["TRACELOOP_HEADERS"]
    options["api_key"] = os.environ.get("API_KEY", "a-key")
client = Traceloop.init(
    app_name="traceloop-app",
    api_endpoint=os.environ["ENDPOINT"],
    resource_attributes={"deployment.environment": "test"},
    **options,
)
trace.get_tracer_provider().add_span_processor(noting.processor())
openai = OpenAI(api_key="none", base_url=os.environ["OPENAI_URL"], max_retries=0)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
# One pixel.
IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def ask(content, **more):
    """One call."""
    return openai.chat.completions.create(
        model=more.pop("model", "gpt-4o"), messages=[{"role": "user", "content": content}], **more
    )


@task(name="plain")
def plain():
    """A call and its answer."""
    return ask("Tell me a joke about weirs.").choices[0].message.content


@task(name="streamed")
def streamed():
    """A call whose answer comes in pieces."""
    pieces = ask("Once more.", model="gpt-4o-mini", stream=True, stream_options={"include_usage": True})
    return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)


@tool(name="weather")
def weather(city):
    """What the model asks for."""
    return f"rain in {city}"


@task(name="with_tools")
def with_tools():
    """A call that is answered with the wish for another."""
    answer = ask("How is the weather in Zürich?", tools=[WEATHER])
    return weather(answer.choices[0].message.tool_calls[0].function.arguments)


@task(name="with_image")
def with_image():
    """The SDK stores images elsewhere, if it can."""
    text, image = {"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": IMAGE}}
    return ask([text, image]).choices[0].message.content


@workflow(name="jokes")
def jokes():
    """All of it as one trace."""
    Traceloop.set_association_properties({"user_id": "user-1", "chat_id": 7})
    return [plain(), streamed(), with_tools(), with_image()]


jokes()
if client is not None and hasattr(client, "datasets"):
    # Calls of the rest of Traceloop's API: they may fail, and must fail as the SDK says they do.
    for call in (lambda: client.datasets.get_all(), lambda: client.datasets.get_by_slug("none")):
        try:
            call()
        except Exception as error:  # noqa: BLE001 - what matters is that it is the SDK's own
            print(f"API call: {error}", file=sys.stderr)
TracerWrapper().flush()
trace.get_tracer_provider().shutdown()
metrics.get_meter_provider().shutdown()
