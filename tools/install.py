"""Install into the environment of the Python that runs this, with uv where it can be had and with pip where not.

    .venv/bin/python tools/install.py -c constraints.txt -e '.[dev]'

The arguments are those of `pip install`. uv (put into the environment by pip) is about three times as fast, but reads
none of pip's settings: they are handed over here, so that a mirror, a folder of wheels or a certificate that pip was
given holds for uv too.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
LISTS = {
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "constraint": "--constraint",
}
VALUES = {
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}


def settings(lines: Iterable[str]) -> dict[str, str]:
    """Settings of `pip config list`: {name: value}; those for `install` win over `global`, the environment over both.

    >>> settings(["global.index-url='https://a'", "install.index-url='https://b'", ":env:.find-links='/w'", "freeze.all='1'"])
    {'index-url': 'https://b', 'find-links': '/w'}
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in lines:
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections:
            sections[section][key] = value.strip().strip("'\"").replace("\\n", " ")
    return sections["global"] | sections["install"] | sections[":env:"]


def uv_options(pip: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of uv that mean what pip's settings mean.

    >>> uv_options({"index-url": "https://a", "find-links": "/w /v", "cert": "/c.pem"})
    (['--default-index', 'https://a', '--find-links', '/w', '--find-links', '/v'], {'SSL_CERT_FILE': '/c.pem'})
    """
    options = ["--default-index", pip["index-url"]] if "index-url" in pip else []
    for name, flag in LISTS.items():
        options += [part for value in pip.get(name, "").split() for part in (flag, value)]
    if "extra-index-url" in pip:
        options += ["--index-strategy", "unsafe-best-match"]  # pip looks everywhere and takes the newest
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    return options, {variable: pip[name] for name, variable in VALUES.items() if name in pip}


def _pins(arguments: list[str]) -> list[str]:
    """The constraint files among the arguments, which hold for uv itself too."""
    return [part for flag, file in itertools.pairwise(arguments) if flag == "-c" for part in (flag, file)]


def install_with_uv(arguments: list[str]) -> bool:
    """Whether uv could be had and has installed everything."""
    if subprocess.run([*PIP, "install", "--quiet", *_pins(arguments), "uv"], check=False).returncode:
        return False
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False)
    options, variables = uv_options(settings(listed.stdout.splitlines()))
    if sys.dont_write_bytecode:  # as pip does: else every process compiles torch anew before it imports it
        options.append("--compile-bytecode")
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, *options, *arguments]
    return subprocess.run(command, env=variables | os.environ, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    """Install, and give the exit code."""
    if "--resolution" in arguments:  # pip has nothing like it
        return 0 if install_with_uv(arguments) else 1
    if install_with_uv(arguments):
        return 0
    print("uv cannot install this here; pip does it, which takes longer.", file=sys.stderr)
    return subprocess.run([*PIP, "install", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
