"""Where the SageMaker SDK is, and a server that speaks for AWS."""

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

SDK = Path(os.environ.get("SCANWISE_SAGEMAKER_PYTHON") or Path(__file__).parents[2] / ".venv-sagemaker/bin/python")


@pytest.fixture(scope="session")
def sdk() -> Path:
    """The Python of the environment that has the SDK."""
    if not SDK.exists():
        pytest.skip(f"there is no {SDK}; `make sdk` brings the SageMaker SDK")
    return SDK


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def aws(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty account that everything finds by the environment."""
    about = {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1"}
    for name, value in about.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("SAGEMAKER_VALIDATE_ROLE", "false")  # moto cannot simulate policies
    urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/reset", method="POST")).close()  # noqa: S310
    return server
