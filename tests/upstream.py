"""A stand-in for a paid server on loopback: OpenAI-compatible, and answering as its attributes say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

PIECES = ("The ", "guest ", "takes ", "no seat.")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    handle_error = staticmethod(lambda *_: None)  # of a caller who has gone away
    request_queue_size = 128


def handler(plan: SimpleNamespace) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply({"data": [{"id": name, "object": "model"} for name in plan.models]})

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            plan.seen.append((self.path, dict(self.headers), asked))
            if plan.gate is not None:
                plan.gate.wait(20)
            if plan.status != 200:
                self.reply({"error": {"message": f"no: {self.headers['Authorization']}"}}, plan.status)
            elif asked.get("stream"):
                self.stream(asked)
            else:
                text = plan.answer(asked) if callable(plan.answer) else "".join(PIECES)
                made = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                self.reply(made | {"choices": [choice]} | ({"usage": plan.usage} if plan.usage else {}))

        def stream(self, asked):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in PIECES]
            if plan.usage and asked.get("stream_options", {}).get("include_usage"):
                events.append({"choices": [], "usage": plan.usage})
            for event in events[: plan.events]:
                made = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": asked["model"]} | event
                self.wfile.write(b"data: " + json.dumps(made).encode() + b"\n\n")
                self.wfile.flush()
            if plan.events is None:
                self.wfile.write(b"data: [DONE]\n\n")

        def reply(self, content, status=200):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


@contextmanager
def upstream() -> Iterator[SimpleNamespace]:
    """models: that it lists; status: of its answers; usage: that it states; gate: an event to wait for; events: of a
    stream, after which it breaks off; answer: (request) -> text; seen: (path, headers, body) of each request."""
    usage = {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26}
    plan = SimpleNamespace(models=["paid"], status=200, usage=usage, gate=None, events=None, answer=None, seen=[])
    listening = Server(("127.0.0.1", 0), handler(plan))
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    plan.url = f"http://127.0.0.1:{listening.server_port}/v1"
    yield plan
    listening.shutdown()
    listening.server_close()
