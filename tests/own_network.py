"""A network namespace of its own, for programs that must not listen where others could reach them."""

import shutil
import subprocess

import pytest

LOOPBACK = "ip link set lo up"
OUTSIDE = f"""{LOOPBACK}
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
ip link add outside type veth peer name beyond
ip addr add 10.9.9.2/24 dev outside
ip link set outside up
ip link set beyond up
ip route add default via 10.9.9.1"""
"""A second interface with a way out, on which nobody answers."""


def own_network(setup: str = LOOPBACK) -> list[str]:
    """The command that runs others in such a namespace; skips where the system grants none."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        prefix = [*command, "sh", "-ec", f'{setup}\nexec "$@"', "sh"]
        if (
            shutil.which("unshare")
            and not subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
        ):
            return prefix
    pytest.skip("no network namespace can be made here (unshare, ip)")
