"""Where the SageMaker SDK is, and an account for it."""

import os
from pathlib import Path

import pytest

SDK = Path(os.environ.get("SCANWISE_SAGEMAKER_PYTHON") or Path(__file__).parents[2] / ".venv-sagemaker/bin/python")


@pytest.fixture(scope="session")
def sdk() -> Path:
    """The Python of the environment that has the SDK."""
    if not SDK.exists():
        pytest.skip(f"there is no {SDK}; `make sdk` brings the SageMaker SDK")
    return SDK


@pytest.fixture
def sagemaker(aws: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty account in which roles are not looked at: the server cannot simulate policies."""
    monkeypatch.setenv("SAGEMAKER_VALIDATE_ROLE", "false")
    return aws
