"""Spans as plain dictionaries, whoever wrote them, and what must be the same on both sides of Weir.

A client notes each span that it hands to its exporter as a line of JSON with the fields of `FIELDS`; `forwarded` reads
the same out of OTLP/JSON.
"""

import json
from decimal import Decimal

FIELDS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "kind",
    "start",
    "end",
    "status",
    "attributes",
    "events",
    "links",
    "resource",
    "scope",
)

# What Weir adds to spans begins so.
OWN = ("weir.cost.", "weir.usage.", "gen_ai.usage.cost.")

# Dollars for a million tokens: input, read from the cache, output. OpenAI's list prices of these models.
PRICES = {
    "gpt-4o-2024-08-06": (Decimal("2.5"), Decimal("1.25"), Decimal("10")),
    "gpt-4o-mini-2024-07-18": (Decimal("0.15"), Decimal("0.075"), Decimal("0.6")),
}


def noted(path):
    """The spans that a client says it sent."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def forwarded(requests):
    """The spans of OTLP/JSON requests."""
    spans = []
    for request in requests:
        for resource_spans in request.get("resourceSpans", []):
            resource = _attributes(resource_spans.get("resource", {}))
            for scope_spans in resource_spans.get("scopeSpans", []):
                scope = scope_spans.get("scope", {}).get("name", "")
                spans += [_span(span, resource, scope) for span in scope_spans.get("spans", [])]
    return spans


def _span(span, resource, scope):
    status = span.get("status", {})
    event = lambda e: {"name": e.get("name", ""), "attributes": _attributes(e)}
    return {
        "trace_id": span["traceId"],
        "span_id": span["spanId"],
        "parent_span_id": span.get("parentSpanId", ""),
        "name": span.get("name", ""),
        "kind": span.get("kind", 0),
        "start": int(span["startTimeUnixNano"]),
        "end": int(span["endTimeUnixNano"]),
        "status": {"code": status.get("code", 0), "message": status.get("message", "")},
        "attributes": _attributes(span),
        "events": [event(e) for e in span.get("events", [])],
        "links": [[link["traceId"], link["spanId"]] for link in span.get("links", [])],
        "resource": resource,
        "scope": scope,
    }


def _attributes(of):
    return {attribute["key"]: _value(attribute.get("value", {})) for attribute in of.get("attributes", [])}


def _value(value):
    for kind, content in value.items():
        if kind == "intValue":
            return int(content)
        if kind == "arrayValue":
            return [_value(item) for item in content.get("values", [])]
        if kind == "kvlistValue":
            return _attributes({"attributes": content.get("values", [])})
        return content
    return None


def assert_same(sent, received):
    """Each span that was sent is there once, and is the same but for what Weir adds."""
    by_id = {}
    for span in received:
        key = (span["trace_id"], span["span_id"])
        assert key not in by_id, f"twice: {span['name']} {key}"
        by_id[key] = span
    for span in sent:
        key = (span["trace_id"], span["span_id"])
        assert key in by_id, f"missing: {span['name']} {key}"
        _assert_equal(span, by_id.pop(key))
    assert not by_id, f"never sent: {sorted(span['name'] for span in by_id.values())}"


def _assert_equal(sent, received):
    added = {key for key in received["attributes"] if key.startswith(OWN)} - sent["attributes"].keys()
    for field in FIELDS:
        a, b = sent[field], received[field]
        if field == "attributes":
            b = {key: value for key, value in b.items() if key not in added}
        assert a == b, f"{sent['name']}: {field}:\n  sent     {a!r}\n  received {b!r}"


def usage(attributes):
    """Input, cached and output tokens of a span of a model call, in the spellings that the clients here use."""
    def first(*keys):
        return next((int(attributes[key]) for key in keys if key in attributes), None)

    return (
        first("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        first("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens") or 0,
        first("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    )


def expected_cost(attributes):
    """What a span of a model call costs by `PRICES`; `None` if it is none."""
    model = attributes.get("gen_ai.response.model")
    tokens_in, cached, tokens_out = usage(attributes)
    if model is None or tokens_in is None or tokens_out is None:
        return None
    price_in, price_cached, price_out = PRICES[model]
    return ((tokens_in - cached) * price_in + cached * price_cached + tokens_out * price_out) / 1_000_000


def assert_costs(sent, stored, calls):
    """`calls` of the spans are of model calls, and each carries the cost that its usage has; the others carry none."""
    costs = {row["span_id"]: row["total_cost"] for row in stored}
    priced = 0
    for span in sent:
        expected, found = expected_cost(span["attributes"]), costs[span["span_id"]]
        if expected is None:
            assert found is None, f"{span['name']} costs {found}"
        else:
            assert found is not None and Decimal(found) == expected, f"{span['name']}: {found}, expected {expected}"
            priced += 1
    assert priced == calls, f"{priced} spans of {calls} model calls have a cost"
