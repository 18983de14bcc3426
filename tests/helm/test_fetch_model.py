"""The init container's program: a model is kept only if it is the one that was asked for."""

import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

PROGRAM = Path(__file__).parents[2] / "helm" / "tidecast" / "files" / "fetch_model.py"
MODEL = b"a model" * 400_000
SHA256 = hashlib.sha256(MODEL).hexdigest()
NOW = datetime(2013, 5, 24, tzinfo=UTC)
KEY = {
    "S3_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "S3_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "S3_REGION": "us-east-1",
}

spec = importlib.util.spec_from_file_location("fetch_model", PROGRAM)
fetch_model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fetch_model)


class Store(BaseHTTPRequestHandler):
    """Serves the model at any path, or says to ask at `?to=`; `asked` keeps each request's headers."""

    asked: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append({name.lower(): value for name, value in self.headers.items()})
        if "?to=" in self.path:
            self.send_response(302)
            self.send_header("Location", self.path.partition("?to=")[2])
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(MODEL)))
        self.end_headers()
        self.wfile.write(MODEL)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[str]:
    Store.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Store) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_model_with_the_right_checksum_is_kept(store, tmp_path):
    said = fetch_model.fetch({"MODEL_URL": f"{store}/m", "MODEL_SHA256": SHA256.upper()}, tmp_path / "model.onnx", NOW)
    assert (tmp_path / "model.onnx").read_bytes() == MODEL
    assert f"{len(MODEL)} bytes" in said


def test_a_model_with_another_checksum_is_not(store, tmp_path):
    with pytest.raises(ValueError, match=f"found SHA-256 {SHA256}.*expected {'0' * 64}.*model.sha256"):
        fetch_model.fetch({"MODEL_URL": f"{store}/m", "MODEL_SHA256": "0" * 64}, tmp_path / "model.onnx", NOW)
    assert not list(tmp_path.iterdir())


def test_the_authorization_goes_along(store, tmp_path):
    environ = {"MODEL_URL": f"{store}/m", "MODEL_SHA256": SHA256, "MODEL_AUTHORIZATION": "Bearer x"}
    fetch_model.fetch(environ, tmp_path / "model.onnx", NOW)
    assert Store.asked[0]["authorization"] == "Bearer x"


@pytest.mark.parametrize(("host", "told"), [("127.0.0.1", True), ("localhost", False)])
def test_a_redirect_takes_the_authorization_along_to_the_same_host_alone(store, tmp_path, host, told):
    onward = store.replace("127.0.0.1", host)
    environ = {"MODEL_URL": f"{store}/m?to={onward}/n", "MODEL_SHA256": SHA256, "MODEL_AUTHORIZATION": "Bearer x"}
    fetch_model.fetch(environ, tmp_path / "model.onnx", NOW)
    assert [("authorization" in asked) for asked in Store.asked] == [True, told]


@pytest.mark.parametrize("sha256", [SHA256, "0" * 64])
def test_what_may_be_secret_in_an_address_is_not_said(store, monkeypatch, capsys, tmp_path, sha256):
    monkeypatch.setenv("MODEL_URL", f"{store}/m?X-Amz-Signature=hunter2")
    monkeypatch.setenv("MODEL_SHA256", sha256)
    monkeypatch.setattr("sys.argv", ["fetch_model.py", str(tmp_path / "model.onnx")])
    assert fetch_model.main() == (sha256 != SHA256)
    said = "".join(capsys.readouterr())
    assert f"{store}/m: " in said
    assert "hunter2" not in said


@pytest.mark.parametrize("end", ["", "\n", " \r\n"])
def test_a_secret_that_ends_a_line_is_sent_without_its_end(store, tmp_path, end):
    environ = {"MODEL_URL": f"{store}/m", "MODEL_SHA256": SHA256, "MODEL_AUTHORIZATION": f"Bearer x{end}"}
    fetch_model.fetch(environ, tmp_path / "model.onnx", NOW)
    signed = {"MODEL_URL": f"{store}/m", "MODEL_SHA256": SHA256, **{k: v + end for k, v in KEY.items()}}
    fetch_model.fetch(signed | {"S3_REGION": KEY["S3_REGION"]}, tmp_path / "model.onnx", NOW)
    assert Store.asked[0]["authorization"] == "Bearer x"
    without = fetch_model.sign(f"{store}/m", KEY["S3_REGION"], *list(KEY.values())[:2], NOW)
    assert Store.asked[1]["authorization"] == without["Authorization"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODEL_AUTHORIZATION", "Bearer\nhunter2"), ("MODEL_AUTHORIZATION", "hunter2…"), ("MODEL_URL", "/ ?key=hunter2")],
)
def test_what_the_library_refuses_is_refused_without_being_shown(store, monkeypatch, capsys, tmp_path, name, value):
    monkeypatch.setenv("MODEL_URL", f"{store}/m")
    monkeypatch.setenv("MODEL_SHA256", SHA256)
    monkeypatch.setenv(name, f"{store}{value}" if name == "MODEL_URL" else value)
    monkeypatch.setattr("sys.argv", ["fetch_model.py", str(tmp_path / "model.onnx")])
    assert fetch_model.main() == 1
    said = "".join(capsys.readouterr())
    assert said.startswith(f"{store}/")
    assert "hunter2" not in said


def test_a_file_of_this_machine_is_no_model_to_fetch(tmp_path):
    with pytest.raises(ValueError, match="http://"):
        fetch_model.fetch({"MODEL_URL": "file:///etc/passwd", "MODEL_SHA256": SHA256}, tmp_path / "m", NOW)


def test_requests_to_s3_are_signed(store, tmp_path):
    environ = {"MODEL_URL": f"{store}/models/a b.onnx".replace(" ", "%20"), "MODEL_SHA256": SHA256, **KEY}
    fetch_model.fetch(environ, tmp_path / "model.onnx", NOW)
    asked = Store.asked[0]
    assert asked["x-amz-date"] == "20130524T000000Z"
    assert "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request" in asked["authorization"]


def test_the_signature_is_that_of_the_published_example_for_listing_nothing_else():
    """AWS's documented example "GET Bucket Lifecycle": the same three headers, one query."""
    url = "https://examplebucket.s3.amazonaws.com/?lifecycle="
    headers = fetch_model.sign(url, KEY["S3_REGION"], KEY["S3_ACCESS_KEY_ID"], KEY["S3_SECRET_ACCESS_KEY"], NOW)
    assert headers["Authorization"].endswith("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")


def test_a_failure_is_said_and_ends_with_1(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MODEL_URL", "http://127.0.0.1:1/m")
    monkeypatch.setenv("MODEL_SHA256", SHA256)
    monkeypatch.setattr("sys.argv", ["fetch_model.py", str(tmp_path / "model.onnx")])
    assert fetch_model.main() == 1
    assert "http://127.0.0.1:1/m" in capsys.readouterr().err
