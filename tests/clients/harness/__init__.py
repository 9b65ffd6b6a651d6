"""Runs real OpenTelemetry programs against Weir. Python's standard library only."""
