"""Spans made here and sent as OTLP/JSON, for programs that only pass spans on."""

import json
import random
import urllib.request

MODELS = (("gpt-4o-2024-08-06", 200), ("gpt-4o-mini-2024-07-18", 0))


def spans(count):
    """`count` spans in the form of `harness/spans.py`; half of them are of model calls."""
    chance = random.Random(7)
    made = []
    for number in range(count):
        model, cached = MODELS[number % 4 // 2]
        attributes = {"number": number, "ratio": number / 8, "texts": ["a", "", "ß"], "is_even": number % 2 == 0}
        if number % 2:
            attributes |= {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.response.model": model,
                "gen_ai.usage.input_tokens": 1200 + number,
                "gen_ai.usage.cache_read.input_tokens": cached,
                "gen_ai.usage.output_tokens": 340,
            }
        start = 1_700_000_000_000_000_000 + number
        made.append(
            {
                "trace_id": f"{number // 10 + 1:032x}",
                "span_id": f"{chance.getrandbits(63) + 1:016x}",
                "parent_span_id": "",
                "name": f"span {number}",
                "kind": 3 if number % 2 else 1,
                "start": start,
                "end": start + 1_000_000,
                "status": {"code": 2, "message": "it rains"} if number % 5 == 0 else {"code": 0, "message": ""},
                "attributes": attributes,
                "events": [{"name": "retry", "attributes": {"attempt": 2}}] if number % 3 == 0 else [],
                "links": [],
                "resource": {"service.name": "made", "replica": 3},
                "scope": "made.tracer",
            }
        )
    return made


def post(to, made):
    """Posts spans to the base URL of an OTLP/HTTP receiver, 100 at a time."""
    for first in range(0, len(made), 100):
        body = json.dumps(_request(made[first : first + 100])).encode()
        request = urllib.request.Request(f"{to}/v1/traces", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200, answer.status


def _request(made):
    one = made[0]
    scope = {"scope": {"name": one["scope"]}, "spans": [_span(span) for span in made]}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(one["resource"])}, "scopeSpans": [scope]}]}


def _span(span):
    events = [{"name": e["name"], "attributes": _attributes(e["attributes"])} for e in span["events"]]
    return {
        "traceId": span["trace_id"],
        "spanId": span["span_id"],
        "name": span["name"],
        "kind": span["kind"],
        "startTimeUnixNano": str(span["start"]),
        "endTimeUnixNano": str(span["end"]),
        "status": span["status"],
        "attributes": _attributes(span["attributes"]),
        "events": events,
    }


def _attributes(attributes):
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value):
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": value}
