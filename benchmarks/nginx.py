"""nginx serving ready OCSP answers as static files under the names that GETs ask for: the bar for any responder.

In its favour: one worker, no access log, files already open (as many as the limit of descriptors allows), no Cache-Control or
Expires, and no sendfile, which costs a system call that files of 300 bytes do not repay.
"""

from __future__ import annotations

import os
import resource
import shutil
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from benchmarks import install, paths
from benchmarks.asking import GET, Answer, Ready
from benchmarks.servers import Server, free_port

PATH = "/ocsp"
FILES, ONE_FILE = "nginx, static files", "nginx, one static file for all"
CONFIGURATION = """
worker_processes 1; {user} daemon off; pid {base}/nginx.pid; error_log {base}/error.log; worker_rlimit_nofile {files};
events {{ worker_connections 1024; }}
http {{
  access_log off; default_type application/ocsp-response; keepalive_requests 1000000000; sendfile off;
  open_file_cache max={cached} inactive=1h; open_file_cache_valid 1h;
  client_body_temp_path {base}/body; proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/fastcgi;
  scgi_temp_path {base}/scgi; uwsgi_temp_path {base}/uwsgi;
  server {{ listen 127.0.0.1:{port}; root {base}/files; location / {{ {how} }} }}
}}
"""
_SPARE = 2000  # descriptors beside those of the cached files


class Nginx(Server):
    """`one`: the first answer, from one file, to every request: the floor of what a request costs nginx, since no name is
    looked up and everything is in the processor's cache."""

    methods = (GET,)  # static files answer no POST

    def __init__(self, ready: Ready, one: bool = False) -> None:
        self.title = ONE_FILE if one else FILES
        # base64 that ends in a slash is no file's name; one in 64 is left out
        self._answers = {request: answer for request, answer in ready.answers.items() if not _name(request).endswith("/")}
        self._one, self.questions = one, Ready(ready.issuer, self._answers).questions(PATH)
        if one:
            self.questions = replace(self.questions, wrong=self._not_the_one)
        self._base = paths.work() / "nginx"
        port = free_port()
        super().__init__("nginx", [install.nginx() or "nginx", "-p", self._base, "-c", self._base / "nginx.conf"], port, cwd=paths.work())

    def __enter__(self) -> Self:
        self._write()
        return super().__enter__()

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self._base, ignore_errors=True)

    def _write(self) -> None:
        shutil.rmtree(self._base, ignore_errors=True)
        files = self._base / "files"
        files.mkdir(parents=True)
        if self._one:
            (files / "one").write_bytes(next(iter(self._answers.values())))
        else:
            _lay_out(files / PATH.lstrip("/"), self._answers)
        self._configure()

    def _configure(self) -> None:
        limit = _descriptors(len(self._answers) + _SPARE)
        self._open = limit - _SPARE
        how = "try_files /one =404;" if self._one else ""
        user = "" if os.geteuid() else "user root;"  # as whom the cache directory can be read
        text = CONFIGURATION.format(base=self._base, user=user, files=limit, cached=self._open, port=self.port, how=how)
        (self._base / "nginx.conf").write_text(text)

    def _not_the_one(self, _: bytes, answer: Answer) -> str | None:
        return None if answer.body == next(iter(self._answers.values())) else f"HTTP {answer.status}, not the bytes of the file"

    @property
    def measured(self) -> list[Server]:
        """Every server, for a Meter."""
        return [self]

    def facts(self) -> dict[str, str]:
        """Version, and how many of the files are open all the time."""
        return {"nginx": f"{install.package_version('nginx-light')}, {self._open:,} files open"}


def _lay_out(directory: Path, answers: Mapping[bytes, bytes]) -> None:
    """A file for each answer. nginx undoes %2F, so that a slash in the base64 is one in the path."""
    made: set[str] = set()
    for request, answer in answers.items():
        file = f"{directory}/{_name(request)}"
        parent = os.path.dirname(file)
        if parent not in made:
            os.makedirs(parent, exist_ok=True)
            made.add(parent)
        with open(file, "xb") as output:
            output.write(answer)


def _name(request: bytes) -> str:
    return b64encode(request).decode()


def _descriptors(wanted: int) -> int:
    """How many files nginx may have open: where root may not raise the limit either, as in containers, as many as that says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(hard, wanted)))
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
