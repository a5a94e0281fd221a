"""A development server in small: a page that shows events and loads itself again when its text changes, and uploads.

Each event goes out when the page has said that it shows the one before it.
"""
import base64
import hashlib
import http.server
import os
import threading

PAGE = """<!doctype html><title>judged</title><h1>{text}</h1><ol></ol><script>
const list = document.querySelector('ol');
new EventSource('/events').onmessage = ({{ data }}) => {{
  list.append(Object.assign(document.createElement('li'), {{ textContent: data }}));
  fetch('/seen/' + data, {{ method: 'POST' }});
}};
new WebSocket(`ws://${{location.host}}/changes?{version}`).onmessage = ({{ data }}) => {{
  if (data === 'reload') location.reload();
}};
</script>"""
TEXT = "text"
seen = threading.Condition()
sent = shown = 0


def version():
    return str(os.stat(TEXT).st_mtime_ns)


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/":
            with open(TEXT) as file:
                page = PAGE.format(text=file.read(), version=version())
            self.reply(page, "text/html")
        elif path == "/events":
            self.events()
        elif path == "/changes":
            self.changes(query)
        else:
            self.send_error(404)

    def do_POST(self):
        global shown
        size = int(self.headers.get("Content-Length", 0))
        digest = hashlib.sha256()
        while size > 0:
            part = self.rfile.read(min(size, 1 << 20))
            digest.update(part)
            size -= len(part)
        if self.path.startswith("/seen/"):
            with seen:
                shown = int(self.path.removeprefix("/seen/"))
                seen.notify_all()
        self.reply(digest.hexdigest(), "text/plain")

    def handle_expect_100(self):
        if self.path != "/refused":
            return super().handle_expect_100()
        self.send_error(413)
        return False

    def reply(self, text, kind):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self):
        global sent
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for _ in range(3):
            with seen:
                sent += 1
                number = sent
            self.wfile.write(f"data: {number}\n\n".encode())
            with seen:
                if not seen.wait_for(lambda: shown >= number, 120):
                    return
        # A page whose stream ends would ask for it again.
        self.rfile.read(1)

    def changes(self, known):
        """One message by a WebSocket (RFC 6455), as soon as the text is another than the page has."""
        self.close_connection = True
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        while version() == known:
            threading.Event().wait(0.1)
        self.wfile.write(b"\x81\x06reload")
        self.rfile.read(1)


server = http.server.ThreadingHTTPServer(("", 8080), Site)
print("listens", flush=True)
server.serve_forever()
