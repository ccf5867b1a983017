"""A local server for a built page: the headers of :mod:`deploykit.web.headers`, byte ranges, nothing outside the folder."""

from __future__ import annotations

import re
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deploykit.errors import InputError
from deploykit.web.headers import HEADERS, TYPES


class Handler(SimpleHTTPRequestHandler):
    """Serves files of one folder."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # headers and body are written apart: the second would wait 40 ms for the first's receipt
    )
    headers_sent = HEADERS
    _left: int | None = None

    def end_headers(self) -> None:
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        """No listings: a folder without index.html is not found."""
        self.send_error(404, "File not found")

    def send_head(self) -> Any:
        """Like the base's, with one byte range (``Range: bytes=100-`` or ``bytes=100-199``)."""
        self._left = None
        path = Path(self.translate_path(self.path))
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None or not path.is_file():
            return super().send_head()
        total = path.stat().st_size
        first, last = int(found[1]), min(int(found[2] or total - 1), total - 1)
        if first > last:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        f = path.open("rb")
        f.seek(first)
        self._left = last - first + 1
        self.send_response(206)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        self.send_header("Content-Length", str(self._left))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))  # is it still the same file?
        self.end_headers()
        return f

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send the whole file, or as much as the range asks for."""
        if self._left is None:
            super().copyfile(source, outputfile)
            return
        while self._left > 0 and (chunk := source.read(min(self._left, 1 << 16))):
            outputfile.write(chunk)
            self._left -= len(chunk)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the terminal belongs to the command."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is nothing to report."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def server(folder: Path, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server bound to ``host:port`` (0: any free port), not yet running.  Raises InputError when the port is taken."""
    try:
        return _Server((host, port), partial(Handler, directory=str(folder)))
    except OSError as e:
        raise InputError(f"port {port}: {e.strerror or e}. Choose another with --port.") from None
