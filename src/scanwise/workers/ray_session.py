"""Ray, joined where it runs, or started on this machine for one command: on loopback alone, and without leaving anything behind."""

import os
import secrets
import site
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanwise.errors import RunError

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray reads it when it is imported: with 0 all its ports are on loopback, as it has them on Windows and macOS."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
ALONE = {LOOPBACK: "0", "RAY_enable_metrics_collection": "0", "RAY_AUTH_MODE": "token"}
LONGEST = 40
"""Bytes of a folder's path in which the sockets of Ray have names short enough for the system."""
STORE = 100_000_000
"""Bytes of the memory in which answers are handed over; more than that go through files."""
CLUSTER_FILE = "ray_bootstrap_config.yaml"
"""A file of the home folder in which Ray reads where it runs. Without it, Ray asks the network for a cloud's metadata."""

OWN_HOME = "SCANWISE_HOME"
"""Variable by which a worker finds the home folder that the other processes of Ray do not see."""


@contextmanager
def connected_ray(cluster: str, cores: int) -> Iterator[Any]:
    """The module ray, connected until the block ends.

    Args:
        cluster: HOST:PORT of one that runs, or "" for one of this machine alone.
        cores: that one of this machine may use.

    Raises:
        RunError: if Ray is not installed, is already used by this process, or the cluster is not there.
    """
    os.environ.update(QUIET)
    if cluster:
        _require_cluster(cluster)
        with _initialised(_imported(), {"address": cluster}) as ray:
            yield ray
        return
    _require_loopback()
    os.environ.update(ALONE)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray would write one into the home folder
    with tempfile.TemporaryDirectory(
        prefix="scanwise-", ignore_cleanup_errors=True
    ) as scratch:  # Ray opens its own to all
        if len(os.fsencode(scratch)) > LONGEST:
            raise RunError(f"The path {scratch} is too long for the sockets of Ray. Set TMPDIR to a shorter one.")
        options = {
            "address": "local", "num_cpus": cores, "num_gpus": 0, "include_dashboard": False,
            "object_store_memory": STORE, "_temp_dir": str(Path(scratch) / "ray"), "_node_ip_address": "127.0.0.1",
        }  # fmt: skip
        (Path(scratch) / CLUSTER_FILE).write_text("{}")
        home = {"HOME": scratch, OWN_HOME: os.environ.get("HOME", ""), "PYTHONUSERBASE": site.getuserbase()}
        with _initialised(_imported(), options, home) as ray:
            yield ray


def return_home() -> None:
    """Give a worker the home folder of its user, where credentials and settings of other packages lie."""
    if home := os.environ.pop(OWN_HOME, ""):
        os.environ["HOME"] = home


@contextmanager
def _initialised(ray: Any, options: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> Iterator[Any]:
    if ray.is_initialized():
        raise RunError("This process is connected to Ray already. Call ray.shutdown() first, or leave --engine out.")
    try:
        with _environment(variables or {}):
            try:
                ray.init(log_to_driver=False, configure_logging=False, **options)
            except Exception as error:
                raise RunError(f"Ray cannot start or be reached: {error}. Or leave --engine out.") from error
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of the processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise RunError("--engine ray needs Ray: pip install 'scanwise[ray]'. Or leave --engine out.") from error
    return ray


def _require_loopback() -> None:
    """Refuse a Ray that was imported to listen on all networks.

    Raises:
        RunError: if it was.
    """
    constants = sys.modules.get("ray._private.ray_constants")
    if "ray" in sys.modules and getattr(constants, "ENABLE_RAY_CLUSTER", True):
        raise RunError(
            "Ray was imported by this process before, and would listen on all networks. Set "
            f"{LOOPBACK}=0 before it is imported, run scanwise in a process of its own, or join a cluster with --cluster."
        )


def _require_cluster(address: str) -> None:
    """Refuse the address of a cluster where nobody answers.

    Raises:
        RunError: if it is no HOST:PORT, or nobody answers there.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise RunError(
            f"There is no Ray cluster at {address} ({error}). Give HOST:PORT of its head, such as 10.0.0.1:6379, or leave "
            "--cluster out."
        ) from error
