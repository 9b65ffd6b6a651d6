"""As much of the OpenAI API as the instrumentations need to make their spans: known answers with known usage."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Tokens of every answer, as OpenAI reports them: the input includes what was read from the cache, the output includes
# reasoning.
USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 340,
    "total_tokens": 1540,
    "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 40, "audio_tokens": 0},
}

# The name under which a requested model answers.
SERVED = {"gpt-4o": "gpt-4o-2024-08-06", "gpt-4o-mini": "gpt-4o-mini-2024-07-18"}

TEXT = "Why did the span cross the weir? To be accounted for."


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.endswith("/chat/completions"):
            return self._json(404, {"error": {"message": f"unknown path {self.path}", "type": "invalid_request_error"}})
        with self.server.lock:
            self.server.calls += 1
            number = self.server.calls
        model = SERVED.get(body["model"], body["model"])
        head = {"id": f"chatcmpl-{number:06}", "created": 1_700_000_000 + number, "model": model}
        if body.get("stream"):
            return self._stream(head, body)
        message = {"role": "assistant", "content": TEXT, "refusal": None}
        finish = "stop"
        if body.get("tools"):
            call = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Z\\u00fcrich"}'}
            message = {**message, "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
            finish = "tool_calls"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        self._json(200, {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE})

    def _json(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, head, body):
        head = {**head, "object": "chat.completion.chunk"}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        choice = {"index": 0, "logprobs": None, "finish_reason": None}
        for word in TEXT.split(" "):
            self._event({**head, "choices": [{**choice, "delta": {"role": "assistant", "content": word + " "}}]})
        self._event({**head, "choices": [{**choice, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            self._event({**head, "choices": [], "usage": USAGE})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, value):
        self._chunk(f"data: {json.dumps(value)}\n\n".encode())

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


class OpenAi:
    """The stub on a free port of this machine, until `close`."""

    def __init__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.lock, self._server.calls = threading.Lock(), 0
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def calls(self):
        """Calls answered."""
        return self._server.calls

    def close(self):
        """Gives the port back."""
        self._server.shutdown()
        self._server.server_close()
