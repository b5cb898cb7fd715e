"""Who may use the server: names it is called by, origins, the token, other hosts; and the headers of every answer."""

from __future__ import annotations

import subprocess
import sys

import pytest
from serving_examples import files, serving
from starlette.testclient import TestClient

from detectclf.config import ServeConfig
from detectclf.errors import ConfigError
from detectclf.inference.predictor import Predictor
from detectclf.recipes import load_recipe
from detectclf.serving.guard import host_name, is_loopback

TOKEN = "correct-horse-battery"

HOSTS = [
    ("127.0.0.1:8080", 200, "the address"),
    ("localhost:9000", 200, "another port, as after forwarding it"),
    ("LOCALHOST", 200, "no port, capitals"),
    ("[::1]:8080", 200, "IPv6"),
    ("localhost.", 200, "a fully qualified name"),
    ("evil.example", 421, "DNS rebinding"),
    ("127.0.0.1.evil.example:8080", 421, "a name that begins like ours"),
    ("localhost:8080@evil.example", 421, "a user name that looks like ours"),
    ("192.168.1.5:8080", 421, "an address that does not reach a loopback server"),
    ("localhost:80:80", 421, "no host"),
    ("", 421, "empty"),
]


@pytest.mark.parametrize(("host", "status", "why"), HOSTS, ids=[row[2] for row in HOSTS])
def test_the_server_answers_to_its_own_names_only(client: TestClient, host: str, status: int, why: str) -> None:
    answer = client.get("/healthz", headers={"host": host})
    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == "wrong_host"


OWN = "http://127.0.0.1:8080"
SITES = [
    ({}, 422, "curl"),
    ({"origin": OWN}, 422, "our page"),
    ({"origin": OWN, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 422, "our page, as browsers send it"),
    ({"origin": "https://evil.example"}, 403, "a page on the web"),
    ({"origin": "http://127.0.0.1:3000"}, 403, "another server on this machine"),
    ({"origin": "http://localhost:8080"}, 403, "another name than the one that it was called by"),
    ({"origin": "null"}, 403, "a sandboxed frame, or a file"),
    ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403, "a page without an origin"),
    ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403, "a neighbour of the same site"),
]


@pytest.mark.parametrize(("headers", "status", "why"), SITES, ids=[row[2] for row in SITES])
def test_pages_from_elsewhere_are_refused(client: TestClient, headers: dict[str, str], status: int, why: str) -> None:
    answer = client.post("/v1/predict", files=files(("a.png", b"x")), headers=headers)
    assert answer.status_code == status  # 422: it got as far as the picture


def test_a_link_from_elsewhere_opens_the_page(client: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=headers).status_code == 200


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/nothing"), client.get("/", headers={"host": "evil.example"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


TOKENS = [
    (None, 401, "no token"),
    (f"Bearer {TOKEN}", 200, "the token"),
    (f"bearer {TOKEN} ", 200, "schemes have no case"),
    (f"Bearer {TOKEN}x", 401, "longer"),
    (f"Bearer {TOKEN[:-1]}", 401, "shorter"),
    (f"Basic {TOKEN}", 401, "another scheme"),
    (TOKEN, 401, "no scheme"),
    ("Bearer \xff\xfe", 401, "not ASCII"),
    ("Bearer", 401, "empty"),
]


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/page/example/glioma"])
def test_the_token_opens_what_tells_of_pictures(predictor: Predictor, path: str) -> None:
    with serving(predictor, host="0.0.0.0", token=TOKEN) as client:
        for given, status, why in TOKENS:
            headers = {} if given is None else {"authorization": given.encode("latin-1")}
            answer = client.get(path, headers=headers)
            assert answer.status_code == status, why
            assert TOKEN not in answer.text
        for open_path in ("/", "/static/page.js", "/healthz", "/docs"):
            assert client.get(open_path).status_code == 200
        assert client.get("/openapi.json").json()["security"] == [{"token": []}]


def test_with_a_token_any_address_and_the_names_that_were_allowed_will_do(predictor: Predictor) -> None:
    with serving(predictor, host="0.0.0.0", token=TOKEN, allowed_hosts=("Scanner.example",)) as client:
        for host, status in (("192.168.1.5:8080", 200), ("scanner.example", 200), ("evil.example", 421)):
            assert client.get("/healthz", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "192.168.0.1", "localhost.evil.example", "")],
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


@pytest.mark.parametrize(
    ("netloc", "name"),
    [
        *[("a:1", "a"), ("A", "a"), ("[::1]:80", "::1"), ("[::1]", "::1")],
        *[(netloc, None) for netloc in ("::1", "a:b", "a/b", "a:", ":80", "[::1", "a b")],
    ],
)
def test_host_names(netloc: str, name: str | None) -> None:
    assert host_name(netloc) == name


@pytest.mark.parametrize(
    "token", ["short", "x" * 15, "with a space in it", "ümlaut-ümlaut-ümlaut", "line\nbreak-and-more"]
)
def test_tokens_that_are_no_secret_are_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(ServeConfig, None, (), {"token": token})
    assert "16 printable" in str(error.value) and token not in str(error.value)


REFUSED = [
    (("--host", "0.0.0.0"), "--token", "another host without a token"),
    (("--host", "192.0.2.1", "--token", TOKEN), "cannot listen on 192.0.2.1", "an address of another machine"),
    (("--token", "short"), "16 printable", "a short token"),
    (("--set", "max_file=3"), "unknown setting", "a limit that does not exist"),
]


@pytest.mark.parametrize(("flags", "said", "why"), REFUSED, ids=[row[2] for row in REFUSED])
def test_the_command_line_refuses_in_one_line(flags: tuple[str, ...], said: str, why: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detectclf", "serve", *flags], capture_output=True, text=True, timeout=60
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and last.startswith("detectclf: ") and said in last and "short" not in last
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_without_the_extra_one_line_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None; sys.argv = ['detectclf', 'serve']\n"
        "from detectclf.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "detectclf: serve needs fastapi, which is not installed; pip install 'detectclf[serve]'\n"
