"""Fetch a model over HTTP or from an S3-compatible store, and keep it only if it is the one that was asked for.

    MODEL_URL=… MODEL_SHA256=… python fetch_model.py /models/model.onnx

MODEL_AUTHORIZATION  value of the Authorization header, if any
S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_REGION  sign the request with AWS Signature Version 4

The standard library alone: it runs in the daemon's own image, before the daemon. Exits with 1 where it cannot have
the file; Kubernetes then tries again.
"""

import hashlib
import hmac
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

TIMEOUT_SECONDS = 30.0  # without a byte
CHUNK_BYTES = 1 << 20
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()  # a GET has no body


class SameHost(HTTPRedirectHandler):
    """Follows redirects, but tells no other host what was meant for the first: a signature or a password."""

    def redirect_request(self, req: Request, *answer: Any) -> Request | None:
        """As the library does, which hands on every header."""
        onward = super().redirect_request(req, *answer)
        if onward and (onward.type, onward.host) != (req.type, req.host):
            onward.headers.pop("Authorization", None)
        return onward


def fetch(environ: Mapping[str, str], target: Path, now: datetime) -> str:
    """Write the model to `target`; what was done, in words. Raises ValueError for another checksum, OSError."""
    url, expected = environ["MODEL_URL"], environ["MODEL_SHA256"].lower()
    headers = {}
    if authorization := secret(environ, "MODEL_AUTHORIZATION"):
        headers["Authorization"] = authorization
    if key_id := secret(environ, "S3_ACCESS_KEY_ID"):
        headers = sign(url, environ["S3_REGION"], key_id, secret(environ, "S3_SECRET_ACCESS_KEY"), now)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"found {shown(url)!r}, expected an address that begins with http:// or https://")
    part = target.with_suffix(".part")
    digest, size = hashlib.sha256(), 0
    request = Request(url, headers=headers)  # noqa: S310
    with build_opener(SameHost).open(request, timeout=TIMEOUT_SECONDS) as answer, part.open("wb") as file:
        while chunk := answer.read(CHUNK_BYTES):
            digest.update(chunk)
            size += file.write(chunk)
    if digest.hexdigest() != expected:
        part.unlink()
        raise ValueError(
            f"found SHA-256 {digest.hexdigest()} ({size} bytes), expected {expected}; "
            "correct model.sha256, or find out who changed the file"
        )
    part.replace(target)
    return f"{size} bytes, SHA-256 as expected"


def secret(environ: Mapping[str, str], name: str) -> str:
    """A secret without the line's end that many a Secret's value has. Raises ValueError that does not show it."""
    value = environ.get(name, "").strip()
    if not value.isprintable() or not value.isascii():  # the library would refuse it, too, and show it
        raise ValueError(f"{name}: found a character that no header can have; correct the Secret")
    return value


def shown(url: str) -> str:
    """The address without what may be secret in it: a query that signs it, a name and a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def sign(url: str, region: str, key_id: str, secret: str, now: datetime) -> dict[str, str]:
    """Headers of a signed GET. Source: AWS Signature Version 4, "Authenticating Requests: Using Query/Headers"."""
    parts = urlsplit(url)
    time, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    signed = {"host": parts.netloc, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": time}
    names = ";".join(signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    path = quote(unquote(parts.path), safe="/-_.~")
    request = f"GET\n{path}\n{parts.query}\n{lines}\n{names}\n{EMPTY_SHA256}"
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}


def main() -> int:
    place = shown(os.environ.get("MODEL_URL", ""))
    try:
        print(f"{place}: {fetch(os.environ, Path(sys.argv[1]), datetime.now(UTC))}")
    except HTTPException as problem:  # its text may hold the whole address
        print(f"{place}: no answer that HTTP allows, or no such address: {type(problem).__name__}", file=sys.stderr)
        return 1
    except (ValueError, URLError, OSError) as problem:
        print(f"{place}: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
