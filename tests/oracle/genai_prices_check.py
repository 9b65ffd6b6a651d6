"""Prices the spans of the corpus with the public package genai-prices and compares every amount with Weir's, exactly.

    python genai_prices_check.py spans.jsonl

See README.md beside this file. The result is 0 if there is no difference but those listed in EXPLAINED, and each of
those occurs.
"""

import collections
import datetime
import importlib.metadata
import json
import sys
from decimal import Decimal

from genai_prices import Usage, calc_price

# Spans whose amounts differ, and why: (provider, model of Weir's catalog) -> reason.
EXPLAINED = {}

# How many spans must at least have been compared: a comparison of nothing is none.
LEAST = 800

USAGE = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "audio_in": "input_audio_tokens",
    "audio_out": "output_audio_tokens",
    "cached_audio": "cache_audio_read_tokens",
}


def theirs(span):
    """The amount of genai-prices for the span as Weir read it; the model is found by their rules."""
    usage = {their: span["usage"][ours] for ours, their in USAGE.items() if span["usage"][ours]}
    end = datetime.datetime.fromtimestamp(span["end_unix_nano"] // 10**9, tz=datetime.timezone.utc)
    context = {"service_tier": span["service_tier"]} if span["service_tier"] else {}
    if span["batch"]:
        context["processing"] = "batch"
    price = calc_price(
        Usage(**usage),
        model_ref=span["span_model"],
        provider_id=span["provider"],
        genai_request_timestamp=end,
        price_context=context or None,
    )
    return price.total_price, price.model.id


def main(path):
    equal, unknown, differ = 0, collections.Counter(), collections.defaultdict(list)
    for line in open(path, encoding="utf-8"):
        span = json.loads(line)
        if span["cost"] is None:
            continue
        key = (span["provider"], span["model"])
        try:
            total, model = theirs(span)
        except LookupError:
            unknown[(span["provider"], span["span_model"])] += 1
            continue
        ours = Decimal(span["cost"]["total"])
        if ours == total:
            equal += 1
        else:
            differ[key].append((span["span"], str(ours), str(total), model))

    print(f"genai-prices {importlib.metadata.version('genai-prices')}: {equal} amounts are equal to the last digit")
    print(f"not known to genai-prices under the span's name: {sum(unknown.values())}")
    for (provider, model), count in sorted(unknown.items()):
        print(f"    {provider} {model}: {count}")
    unexplained = 0
    for key, spans in sorted(differ.items()):
        reason = EXPLAINED.get(key)
        unexplained += 0 if reason else len(spans)
        print(f"different: {'/'.join(key)}: {len(spans)}: {reason or 'UNEXPLAINED'}")
        for span, ours, total, model in spans[:3]:
            print(f"    {span}: {ours} for {total} ({model})")
    stale = [key for key in EXPLAINED if key not in differ]
    for key in stale:
        print(f"no longer different: {'/'.join(key)}")
    return 1 if unexplained or stale or equal < LEAST else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
