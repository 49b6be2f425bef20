"""A small HTTP server on 127.0.0.1 that can be told to break off, to know no ranges, or to change its file."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        content, start = server.content, 0
        server.requests.append(self.headers.get("Range"))
        fresh = self.headers.get("If-Range") in (None, server.tag)
        if server.ranges and fresh and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if server.status or start >= len(content) > 0:
            self.send_response(server.status or 416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if server.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        if server.encoding:
            self.send_header("Content-Encoding", server.encoding)
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        end = start + server.breaks.pop(0) if server.breaks else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(content, *, ranges=True, breaks=(), tag='"one"', status=None, encoding=None, says_length=True):
    """A running server with `url` and `requests` (the Range of each); `breaks` are the bytes each answer gets to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.content, server.ranges, server.breaks = content, ranges, list(breaks)
    server.says_length = says_length
    server.tag, server.status, server.encoding, server.requests = tag, status, encoding, []
    server.url = f"http://127.0.0.1:{server.server_port}/files/set.zip"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
