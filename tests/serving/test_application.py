"""The server answers with the bytes of the command line, and refuses in one way whatever else it is sent."""

import asyncio
import base64
import gc
import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs scanwise[serve]")
pytest.importorskip("prometheus_client", reason="needs scanwise[serve]")

import nibabel
import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from medical_files import shipped
from scanwise import bundle
from scanwise.conformal import CrossSets
from scanwise.errors import DataError
from scanwise.recipe import Data
from scanwise.serving.answering import MOST_JOINED_BYTES, ModelAnswers
from scanwise.serving.application import build_application
from scanwise.serving.decoding import IsolatedDecoder
from scanwise.serving.messages import Header, Message
from scanwise.serving.server import serve_model
from scanwise.serving.service import Service
from scanwise.serving.settings import ServerLimits, read_token
from scanwise.serving.supervision import Fault
from tiny_bundles import write_scans_of, write_tiny_bundle

BuildOnce = Callable[[str, Callable[[Path], object]], Path]
Files = list[tuple[str, tuple[str, bytes]]]
LIMITS = ServerLimits(body=200_000, scans=30, waiting=40, read_seconds=5, answer_seconds=30, fields=2000)
CANARY = "Mustermann-1961"
CUT_OFF = b'--b\r\nContent-Disposition: form-data; name="scans"; filename="x"\r\n\r\n0\r\n--b\r\n'


class ModelHere:
    """A model that answers in this process, so that a test can reach into it."""

    def __init__(self, answers: ModelAnswers) -> None:
        self.answers = answers
        self.about: dict[str, Any] = answers.answer({"kind": "about"}, [])[0]["about"]
        self.ready = True
        self.restarts = 0

    async def start(self) -> None:
        pass

    async def ask(self, header: Header, contents: Sequence[bytes] = ()) -> Message:
        try:
            return await asyncio.to_thread(self.answers.answer, header, list(contents))
        except Exception as error:
            raise Fault(type(error).__name__) from error

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def answers(build_once: BuildOnce) -> Iterator[ModelAnswers]:
    folder = build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo"))
    answers = ModelAnswers(folder, LIMITS.decoding_memory, 2)
    yield answers
    answers.close()


@pytest.fixture
def service(answers: ModelAnswers) -> Service:
    return Service(ModelHere(answers), LIMITS, ("127.0.0.1", "localhost", "::1", "testserver"))


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(build_application(service)) as client:
        yield client


@pytest.fixture(scope="module")
def scans(build_once: BuildOnce) -> list[Path]:
    return sorted(build_once("scans-of-kinds", write_scans_of).iterdir())


def nifti_of(slices: int) -> bytes:
    return nibabel.Nifti1Image(np.arange(slices * 64, dtype=np.int16).reshape(8, 8, slices), np.eye(4)).to_bytes()


def files(paths: list[Path], names: list[str] | None = None) -> Files:
    labels = names or [str(path) for path in paths]
    return [("scans", (name, path.read_bytes())) for name, path in zip(labels, paths, strict=True)]


def refusal(response: Any, status: int) -> str:
    """The detail of a problem."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return str(problem["detail"])


def test_an_answer_has_the_bytes_of_the_command_line(
    client: TestClient, service: Service, scans: list[Path], scanwise: Any, build_once: BuildOnce
) -> None:
    folder = build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo"))
    for some in (scans[7:8], scans[3:14]):
        response = client.post("/v1/predict", files=files(some))
        assert response.status_code == 200, response.text
        answer = scanwise("predict", folder, *some, "--format", "json").out.rstrip()
        assert response.text.endswith(f'"answer": {answer}}}\n')
        assert response.json()["model"] == service.model.about["digest"]
        assert response.json()["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    "names", [("CT_small.dcm", "MR_small.dcm"), ("volume.nii", "MR_small.dcm", "scan.png", "no.pdf")]
)
def test_headers_say_what_they_say_to_the_command_line(
    names: tuple[str, ...],
    client: TestClient,
    scans: list[Path],
    scanwise: Any,
    build_once: BuildOnce,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo"))
    contents = {"volume.nii": nifti_of(3), "scan.png": scans[0].read_bytes(), "no.pdf": b"%PDF-1.7 no picture"}
    for name in names:
        (tmp_path / name).write_bytes(contents.get(name) or shipped(name).read_bytes())
    response = client.post("/v1/predict", files=files([tmp_path / name for name in names], list(names)))
    monkeypatch.chdir(tmp_path)
    expected = scanwise("predict", folder, *names, "--format", "json").out.rstrip()
    assert response.text.endswith(f'"answer": {expected}}}\n')


def test_subjects_are_pooled_and_a_bad_file_touches_no_other(client: TestClient, scans: list[Path]) -> None:
    about = {"subjects": [path.stem[:3] for path in scans[:8]]}
    whole = client.post("/v1/predict", files=files(scans[:8]), data={"about": json.dumps(about)}).json()["answer"]
    assert [row["subject"] for row in whole["subjects"]] == ["p00", "p01"]
    mixed = [*files(scans[:8]), ("scans", ("paper.pdf", b"%PDF-1.7 no picture"))]
    about["subjects"].append("p01")
    answer = client.post("/v1/predict", files=mixed, data={"about": json.dumps(about)}).json()["answer"]
    assert answer["scans"] == whole["scans"]
    assert answer["subjects"] == whole["subjects"]
    assert [row["path"] for row in answer["quarantine"]] == ["paper.pdf"]


def test_requests_that_are_answered_together_get_the_bytes_of_each_alone(
    answers: ModelAnswers, scans: list[Path]
) -> None:
    def question(paths: Sequence[bytes], names: Sequence[str], **about: Any) -> Message:
        limits = {"most_scans": 3, "most_pixels": 10**9}
        header = {"kind": "predict", "names": names, "subjects": None, "words": None, "target": None}
        return {**header, **limits, **about}, list(paths)

    some = [path.read_bytes() for path in scans[:5]]
    slices = [shipped(name).read_bytes() for name in ("CT_small.dcm", "MR_small.dcm")]
    questions = [
        question(some[:1], ["a"]),
        question([*some[1:2], b"%PDF"], ["a", "paper.pdf"], subjects=["p", "q"]),
        question([b"no picture"], ["a"]),
        question(some[:4], list("abcd")),
        question(slices, ["a.dcm", "b.dcm"]),
        question([nifti_of(3)], ["v.nii"], subjects=["p"]),
        question([some[3], some[4][:60], some[0]], ["a.png", "b.png", "c.png"], subjects=["", "p", "p"]),
        question(some[2:4], ["a", "a"]),
    ]
    assert all(map(answers.may_join, questions))
    together = answers.answer_together([(dict(header), contents) for header, contents in questions])
    assert together == [answers.answer(header, contents) for header, contents in questions]
    assert [("problem" in header) for header, _ in together] == [False, False, True, True, False, False, False, False]
    assert not answers.may_join(({"kind": "explain", "names": ["a"]}, [b""]))
    assert not answers.may_join(({"kind": "predict", "names": ["a"] * 9}, [b""] * 9))


def test_a_large_volume_is_answered_by_itself(answers: ModelAnswers) -> None:
    header = {"kind": "predict", "names": ["a.nii", "b.nii"]}
    half = bytes(MOST_JOINED_BYTES // 2)
    assert answers.may_join((header, [half, half]))
    assert not answers.may_join((header, [half, half + b"."]))


def test_a_model_that_is_checked_has_a_decoder_that_waits(
    answers: ModelAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = IsolatedDecoder(Data(), LIMITS.decoding_memory)
    monkeypatch.setattr(answers, "_decoder", decoder)
    answers.answer({"kind": "check"}, [])
    process = decoder._current
    assert process is not None
    decoder.start()
    assert decoder._current is process
    decoder.close()


def test_names_are_labels_and_never_paths(client: TestClient, scans: list[Path]) -> None:
    names = ["../../etc/passwd", str(scans[5]), "C:x.png", "a#3", "Schädel-頭.png"]
    response = client.post("/v1/predict", files=files(scans[:5], names))
    assert [row["path"] for row in response.json()["answer"]["scans"]] == names
    for name in ("a\0.png", "n" * 300, "two\nlines"):
        response = client.post("/v1/predict", files=files(scans[:1], [name]))
        if response.status_code != 200:  # a client may have replaced what no header can hold
            assert response.status_code in (400, 422)
        else:
            assert "\0" not in response.text
            assert len(name) < 300


@pytest.mark.parametrize(
    ("send", "status", "expected"),
    [
        ({"content": b"x", "headers": {"content-type": "application/pdf"}}, 415, "Send multipart/form-data"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "form cannot be read"),
        (
            {"content": CUT_OFF, "headers": {"content-type": "multipart/form-data; boundary=b"}},
            400,
            "its parts are whole",
        ),
        ({"files": [("scans", ("x", b"0" * 250_000))]}, 413, "Send at most 200,000 bytes"),
        ({"files": [("scans", (f"{n}", b"0")) for n in range(31)]}, 413, "Send at most 30 files"),
        ({"files": [("scans", ("x", b"0"))], "data": {"about": "[" * 3000}}, 413, "2,000 bytes"),
        ({"files": [("scans", ("x", b"0"))], "data": {"about": "[" * 1500}}, 422, "must be JSON"),
        ({"files": [("scans", ("x", b"0"))], "data": {"about": '{"other": 1}'}}, 422, "must be JSON"),
        (
            {"files": [("scans", ("x", b"0"))], "data": {"about": '{"subjects": ["a", "b"]}'}},
            422,
            "lists 2 subjects for 1 file; give one",
        ),
        ({"files": [("scans", ("x", b"0"))], "data": {"more": "1"}}, 422, "neither a file called scans"),
        ({"files": [("other", ("x", b"0"))]}, 422, "neither a file called scans"),
        ({"files": [("scans", ("x.zip", b"PK\3\4 nothing"))]}, 422, "The file cannot be read"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_way(
    send: dict[str, Any], status: int, expected: str, client: TestClient
) -> None:
    assert expected in refusal(client.post("/v1/predict", **send), status)
    assert client.get("/v1/health/ready").status_code == 200


def test_a_body_longer_than_it_says_is_refused_while_it_streams(client: TestClient) -> None:
    def stream() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="scans"; filename="x"\r\n\r\n'
        for _ in range(100):
            yield b"0" * 10_000

    response = client.post("/v1/predict", content=stream(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert "Send at most 200,000 bytes" in refusal(response, 413)


def test_addresses_and_methods_that_are_none(client: TestClient) -> None:
    refusal(client.get("/v1/elsewhere"), 404)
    refusal(client.get("/v1/predict"), 405)
    refusal(client.post("/v1/model"), 405)


def test_scans_that_wait_are_limited(service: Service, scans: list[Path]) -> None:
    served = replace(service, limits=replace(LIMITS, waiting=2))
    with TestClient(build_application(served)) as client:
        response = client.post("/v1/predict", files=files(scans[:3]))
        assert "fewer scans" in refusal(response, 429)
        assert int(response.headers["retry-after"]) > 0
        assert client.post("/v1/predict", files=files(scans[:2])).status_code == 200
        assert served.waiting == 0


def test_an_answer_that_takes_too_long_is_given_up(
    service: Service, scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    released = threading.Event()
    outputs_of = bundle.Bundle.outputs_of
    monkeypatch.setattr(
        bundle.Bundle, "outputs_of", lambda *args, **options: (released.wait(20), outputs_of(*args, **options))[1]
    )
    served = replace(service, limits=replace(LIMITS, answer_seconds=0.2))
    with TestClient(build_application(served)) as client:
        assert "Send fewer scans" in refusal(client.post("/v1/predict", files=files(scans[:1])), 504)
        assert served.waiting == 1  # it is being answered still
        released.set()


def test_a_fault_over_what_was_given_up_prints_nothing(
    service: Service, scans: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_late(*_: Any) -> Message:
        await asyncio.sleep(0.3)
        raise Fault("OSError")

    monkeypatch.setattr(service.model, "ask", fail_late)
    served = replace(service, limits=replace(LIMITS, answer_seconds=0.1))
    with TestClient(build_application(served)) as client:
        refusal(client.post("/v1/predict", files=files(scans[:1])), 504)
        time.sleep(0.4)
        assert served.waiting == 0
        gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_model_that_is_not_ready_is_asked_nothing(service: Service, scans: list[Path]) -> None:
    service.model.ready = False
    with TestClient(build_application(service)) as client:
        response = client.get("/v1/health/ready")
        refusal(response, 503)
        assert int(response.headers["retry-after"]) > 0
        refusal(client.post("/v1/predict", files=files(scans[:1])), 503)
        assert client.get("/v1/health/live").json() == {"status": "live"}


def test_bytes_of_requests_are_limited_together(service: Service, scans: list[Path]) -> None:
    service.limits = replace(LIMITS, held=scans[0].stat().st_size + 600)
    with TestClient(build_application(service)) as client:
        assert client.post("/v1/predict", files=files(scans[:1])).status_code == 200
        refusal(client.post("/v1/predict", files=files(scans[:8])), 429)
        assert service.held == 0


def test_scans_and_pixels_of_a_request_are_limited(service: Service, scans: list[Path]) -> None:
    with Image.open(scans[0]) as image:
        allowed = 2 * image.width * image.height
    service.limits = replace(LIMITS, pixels=allowed)
    with TestClient(build_application(service)) as client:
        assert client.post("/v1/predict", files=files(scans[:2])).status_code == 200
        assert "pixels in all" in refusal(client.post("/v1/predict", files=files(scans[:3])), 422)
        service.limits = replace(LIMITS, scans=4)
        volume = [("scans", (f"{CANARY}.nii", nifti_of(5)))]
        assert "more than 4 scans" in refusal(client.post("/v1/predict", files=volume), 422)
        service.limits = LIMITS
        answer = client.post("/v1/predict", files=volume).json()["answer"]
        assert [row["path"] for row in answer["scans"]] == [f"{CANARY}.nii#{number:03d}" for number in range(5)]


def test_a_fault_says_nothing_of_itself(
    service: Service, scans: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*args: object, **options: object) -> None:
        raise KeyError(CANARY)

    monkeypatch.setattr(bundle.Bundle, "outputs_of", fault)
    with TestClient(build_application(service), raise_server_exceptions=False) as client:
        response = client.post("/v1/predict", files=files(scans[:1], [CANARY]))
    assert "Give the request id" in refusal(response, 500)
    assert CANARY not in response.text + caplog.text
    assert "KeyError" in caplog.text


def test_who_may_ask(service: Service) -> None:
    token = "a-long-random-text-0123"  # noqa: S105
    with TestClient(build_application(replace(service, token=token))) as client:
        assert client.get("/v1/health/live").status_code == 200
        assert client.get("/v1/health/ready").status_code == 200
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": token}, {"authorization": "Bearer ü"}):
            encoded = {name: value.encode() for name, value in headers.items()}
            response = client.get("/v1/model", headers=encoded)
            assert "Authorization: Bearer" in refusal(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
        refusal(client.get("/metrics"), 401)
        assert client.get("/v1/model", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_another_name_and_pages_of_other_sites_are_refused(client: TestClient) -> None:
    refusal(client.get("/v1/model", headers={"host": "evil.example"}), 421)
    refusal(client.get("/v1/model", headers={"origin": "https://evil.example"}), 403)
    refusal(client.get("/v1/model", headers={"origin": "null"}), 403)
    assert client.get("/v1/model", headers={"host": "127.0.0.1:80", "origin": "http://localhost:3"}).status_code == 200
    assert client.get("/v1/model", headers={"host": "[::1]:80"}).status_code == 200


def test_the_model_is_described(client: TestClient) -> None:
    about = client.get("/v1/model").json()
    assert about["classes"] == ["none", "mild", "severe"]
    assert len(about["digest"]) == 64
    assert about["guarantee"]["subject"]["coverage"] == 0.9
    assert about["limits"]["scans"] == 30
    assert "not a medical device" in about["intended_use"]
    assert "/v1/predict" in client.get("/openapi.json").json()["paths"]


def test_a_weaker_guarantee_is_named(answers: ModelAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: Any = vars(answers)["_bundle"]
    crossed = replace(loaded.predictors["subject"], sets=CrossSets("lac", 0.1, ((0.1,) * 40, (0.2,) * 40, (0.3,) * 40)))
    monkeypatch.setattr(answers, "_bundle", replace(loaded, predictors={**loaded.predictors, "subject": crossed}))
    guarantee = answers.answer({"kind": "about"}, [])[0]["about"]["guarantee"]["subject"]
    assert guarantee["coverage"] == 0.8
    assert "guarantee 80% coverage, not 90%" in guarantee["warning"]


def test_counts_hold_no_text_of_a_user(client: TestClient, scans: list[Path]) -> None:
    about = json.dumps({"subjects": [CANARY]})
    sent = [*files(scans[:1], [f"{CANARY}.png"]), ("scans", (f"{CANARY}.pdf", b"%PDF"))]
    client.post("/v1/predict", files=sent, data={"about": json.dumps({"subjects": [CANARY, CANARY]})})
    client.post("/v1/predict", files=sent[1:], data={"about": about})
    client.get(f"/{CANARY}")
    counts = client.get("/metrics").text
    assert CANARY not in counts
    assert 'scanwise_scans_total{predicted="' in counts
    assert "scanwise_quarantined_total 1.0" in counts
    assert 'scanwise_requests_total{route="/v1/predict",status="200"} 1.0' in counts
    assert 'scanwise_requests_total{route="/v1/predict",status="422"} 1.0' in counts
    assert 'scanwise_requests_total{route="other",status="404"} 1.0' in counts
    assert "scanwise_waiting_scans 0.0" in counts
    assert f'digest="{client.get("/v1/model").json()["digest"]}"' in counts
    assert "scanwise_ready 1.0" in counts


def test_refusals_name_files_by_number(client: TestClient) -> None:
    response = client.post("/v1/predict", files=[("scans", (f"{CANARY}.png", b"no picture"))])
    detail = refusal(response, 422)
    assert "file 1" in detail
    assert CANARY not in response.text


# --- heatmaps


def test_heatmaps_come_with_the_verdict_of_their_checks(
    client: TestClient, answers: ModelAnswers, scans: list[Path]
) -> None:
    sent = [*files(scans[:2], ["a", "b"]), ("scans", ("paper.pdf", b"%PDF-1.7 no picture"))]
    response = client.post("/v1/explain", files=sent)
    assert response.status_code == 200, response.text
    explained = response.json()
    assert [row["path"] for row in explained["quarantine"]] == ["paper.pdf"]
    predicted = client.post("/v1/predict", files=sent).json()["answer"]["scans"]
    for row, answer in zip(explained["explanations"], predicted, strict=True):
        assert (row["path"], row["target"]) == (answer["path"], answer["predicted"])
        assert row["probability"] == pytest.approx(answer[f"p_{row['target']}"])
        assert (row["method"], row["verdict"], row["reason"]) == ("pooled_gradients", "not checked", "")
        for name in ("png", "scan_png"):
            with Image.open(io.BytesIO(base64.b64decode(row[name]))) as image:
                assert image.size == (32, 32)
    answers._bundle.about["explained"]["pooled_gradients"] = {"layer": "", "reasons": ["it does not change"]}
    try:
        (row,) = client.post("/v1/explain", files=files(scans[:1]), data={"about": '{"target": "mild"}'}).json()[
            "explanations"
        ]
    finally:
        answers._bundle.about["explained"].clear()
    assert (row["target"], row["verdict"], row["reason"]) == ("mild", "failed", "it does not change")


def test_what_cannot_be_explained_is_refused(client: TestClient, service: Service, scans: list[Path]) -> None:
    unknown = client.post("/v1/explain", files=files(scans[:1]), data={"about": '{"target": "milt"}'})
    assert "Did you mean" in refusal(unknown, 422)
    assert "At most 16 scans" in refusal(client.post("/v1/explain", files=files(scans[:17])), 422)
    service.model.about["explains"] = False
    assert "exported" in refusal(client.post("/v1/explain", files=files(scans[:1])), 409)


# --- jobs


def finished(client: TestClient, address: str) -> Any:
    for _ in range(3000):
        job = client.get(address).json()
        if job["status"] not in ("waiting", "running"):
            return job
        time.sleep(0.01)
    raise AssertionError("it does not end")


def test_a_job_has_the_answer_of_a_request_and_is_gone_when_deleted(client: TestClient, scans: list[Path]) -> None:
    about = {"about": json.dumps({"subjects": ["p"] * 24})}
    response = client.post("/v1/jobs", files=files(scans), data=about)
    assert response.status_code == 202
    address = response.headers["location"]
    assert len(address.rsplit("/", 1)[1]) == 32
    assert finished(client, address)["status"] == "done"
    expected = client.post("/v1/predict", files=files(scans), data=about).text
    assert client.get(address).text.partition('"answer": ')[2] == expected.partition('"answer": ')[2]
    assert client.delete(address).status_code == 204
    refusal(client.get(address), 404)
    refusal(client.delete(address), 404)
    assert 'route="/v1/jobs",status="202"' in client.get("/metrics").text


def test_jobs_are_kept_for_a_time_and_wait_in_bounded_number(service: Service, scans: list[Path]) -> None:
    service.limits = replace(LIMITS, job_scans=3, keep_hours=0.3 / 3600)
    with TestClient(build_application(service)) as client:
        refusal(client.post("/v1/jobs", files=files(scans[:4])), 413)
        address = client.post("/v1/jobs", files=files(scans[:3])).headers["location"]
        for _ in range(3000):
            if client.get(address).status_code == 404:
                break
            time.sleep(0.01)
        refusal(client.get(address), 404)


def test_a_job_that_cannot_be_answered_says_why_without_names(client: TestClient, scans: list[Path]) -> None:
    response = client.post("/v1/jobs", files=[("scans", (f"{CANARY}.png", b"no picture"))])
    job = finished(client, response.headers["location"])
    assert (job["status"], job["problem"]["status"]) == ("failed", 422)
    assert CANARY not in json.dumps(job)


# --- the page


def test_the_page_runs_no_script_but_its_own(service: Service) -> None:
    with TestClient(build_application(replace(service, token="a-long-random-text-0123"))) as client:  # noqa: S106
        response = client.get("/")
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "http" not in response.text.replace("http-equiv", "")
    assert "innerHTML" not in response.text
    assert "Research use only" in response.text


# --- before it starts


def test_another_address_needs_a_token_that_is_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Give --token-file"):
        serve_model(tmp_path, host="0.0.0.0")  # noqa: S104 - it is refused
    file = tmp_path / "token"
    file.write_text("short", encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(DataError, match="at least 16"):
        read_token(file)
    file.write_text("a-long-random-text-0123\n", encoding="utf-8")
    assert read_token(file) == "a-long-random-text-0123"
    file.chmod(0o640)
    with pytest.raises(DataError, match="chmod 600"):
        read_token(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_token(tmp_path / "gone")


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(DataError, match="Choose another --port"):
            serve_model(tmp_path, port=taken.getsockname()[1])
