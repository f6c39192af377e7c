"""Encrypted reception and delivery: who shows no certificate, or a wrong one, gets and gives nothing."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="needs scanwise[dicom]")
pytest.importorskip("highdicom", reason="needs scanwise[dicom]")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pynetdicom import AE, evt
from senders import image, running, send

from scanwise.errors import DataError
from scanwise.receiving.destinations import Refusal, StoreEntity, WebServer, parse_destinations
from scanwise.receiving.encryption import Encryption
from scanwise.receiving.spool import Spool
from tiny_bundles import write_tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed.*socket:ResourceWarning")  # pynetdicom leaves them


def write_certificate(folder: Path, name: str, password: bytes | None = None) -> Encryption:
    """A certificate for this machine that signs itself, its key, and itself as the authority."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    lock = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    )
    return Encryption(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.pem")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("model") / "bundle", "demo")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encryption, Encryption]:
    """Certificates of the hospital, and of a stranger."""
    folder = tmp_path_factory.mktemp("certificates")
    return write_certificate(folder, "hospital"), write_certificate(folder, "stranger")


@pytest.mark.extended
def test_images_are_received_from_those_with_a_certificate(
    model: Path, tmp_path: Path, certificates: tuple[Encryption, Encryption]
) -> None:
    ours, theirs = certificates
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.load_verify_locations(ours.authorities)
    stranger = Encryption(theirs.certificate, theirs.key, ours.authorities).for_sending()
    with running(model, Spool(tmp_path, 0), quiet=60, encryption=ours) as (_, port):
        for context in (nobody, stranger):
            assert send(port, [image(1, 1)], secure=(context, "127.0.0.1")) == []
        assert send(port, [image(1, 1)], secure=(theirs.for_sending(), "127.0.0.1")) == []  # which does not trust us
        assert send(port, [image(1, 1), image(1, 2)], secure=(ours.for_sending(), "127.0.0.1")) == [0, 0]
    assert len(list(tmp_path.rglob("*.dcm"))) == 2


@pytest.mark.extended
def test_clear_images_are_turned_away_where_a_certificate_is_given(
    model: Path, tmp_path: Path, certificates: tuple[Encryption, Encryption]
) -> None:
    ours, _ = certificates
    with running(model, Spool(tmp_path, 0), quiet=60, encryption=ours) as (_, port):
        assert send(port, [image(1, 1)]) == []
    assert not list(tmp_path.rglob("*.dcm"))


@pytest.mark.extended
def test_results_are_sent_to_an_entity_with_a_certificate_alone(
    tmp_path: Path, certificates: tuple[Encryption, Encryption]
) -> None:
    ours, theirs = certificates
    image(1, 1).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    entity, taken = AE("PACS"), list[str]()
    entity.add_supported_context(image(1, 1).SOPClassUID)

    def take(event: Any) -> int:
        taken.append(event.request.AffectedSOPInstanceUID)
        return 0

    server = entity.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=ours.for_receiving(), evt_handlers=[(evt.EVT_C_STORE, take)]
    )
    port = server.socket.getsockname()[1]
    try:
        for wrong in (None, theirs):
            with pytest.raises(Refusal):
                StoreEntity("PACS", "127.0.0.1", port, "SCANWISE", wrong).send(tmp_path / "a.dcm")
        assert not taken
        StoreEntity("PACS", "127.0.0.1", port, "SCANWISE", ours).send(tmp_path / "a.dcm")
    finally:
        server.shutdown()
    assert taken == [image(1, 1).SOPInstanceUID]


@contextmanager
def web_server(encryption: Encryption) -> Iterator[tuple[str, list[bytes]]]:
    """The address of an encrypted server that takes everything, and what it has taken."""
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = encryption.for_receiving()
    assert context is not None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/dicom-web", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_results_are_sent_to_a_web_server_with_a_certificate_alone(
    tmp_path: Path, certificates: tuple[Encryption, Encryption], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = certificates
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(theirs.certificate))  # which is not asked
    monkeypatch.setattr(HTTPServer, "handle_error", lambda *_: None)
    image(1, 1).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with web_server(ours) as (url, taken):
        for wrong in (None, theirs):
            with pytest.raises(Refusal, match="does not answer"):
                WebServer(url, wrong).send(tmp_path / "a.dcm")
        assert not taken
        WebServer(url, ours).send(tmp_path / "a.dcm")
    assert len(taken) == 1
    with pytest.raises(DataError, match="https://"):
        parse_destinations([], ["http://127.0.0.1/dicom-web"], "SCANWISE", ours)


@pytest.mark.extended
def test_another_program_sends_encrypted(
    model: Path, tmp_path: Path, certificates: tuple[Encryption, Encryption]
) -> None:
    if shutil.which("storescu") is None:
        pytest.skip("storescu is not installed (dcmtk)")
    ours, theirs = certificates
    image(1, 1).save_as(tmp_path / "a.dcm", enforce_file_format=True)

    def store(port: int, shown: Encryption) -> int:
        tls = ["--enable-tls", shown.key, shown.certificate, "--add-cert-file", ours.authorities, "--require-peer-cert"]
        address = ["-aet", "MODALITY", "-aec", "SCANWISE", "127.0.0.1", f"{port}"]
        return subprocess.run(
            ["storescu", *tls, *address, tmp_path / "a.dcm"], capture_output=True, check=False
        ).returncode

    spool = tmp_path / "spool"
    with running(model, Spool(spool, 0), quiet=60, encryption=ours) as (_, port):
        assert store(port, theirs) != 0
        assert not list(spool.rglob("*.dcm"))
        assert store(port, ours) == 0
    assert len(list(spool.rglob("*.dcm"))) == 1


def test_files_that_are_no_certificates_are_refused(
    tmp_path: Path, certificates: tuple[Encryption, Encryption]
) -> None:
    ours, theirs = certificates
    locked = write_certificate(tmp_path, "locked", b"secret")
    (tmp_path / "no.pem").write_text("no certificate")
    for files, word in (
        ((ours.certificate, None, None), "go together"),
        ((tmp_path / "missing", ours.key, None), "--tls-cert .* not there"),
        ((ours.certificate, theirs.key, None), "own key"),
        ((locked.certificate, locked.key, None), "without a password"),
        ((None, None, tmp_path / "no.pem"), "--tls-ca"),
    ):
        with pytest.raises(DataError, match=word):
            Encryption.parse(*files)
    assert Encryption.parse(None, None, None) is None
