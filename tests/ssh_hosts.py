"""Hosts that are reached by ssh, as a cloud's machines are."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from hosts import Host, Network, why_no_hosts


def why_no_ssh_hosts() -> str:
    """Why such hosts cannot be made here; empty if they can."""
    if missing := [name for name in ("sshd", "ssh", "rsync", "ssh-keygen") if not _program(name)]:
        return f"{', '.join(missing)} not installed (Debian: openssh-server, rsync)"
    return why_no_hosts()


def _program(name: str) -> str | None:
    return shutil.which(name, path="/usr/sbin:/usr/bin:/bin:/sbin")


def make_key(folder: Path) -> Path:
    """A new key without a passphrase; its public half lies beside it."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return key


class SshHost:
    """A host with an ssh server, and with this Python's environment as ~/venv.

    Args:
        lab: Its network.
        name: Its host name.
        key: Whoever has this key may log in as root.
    """

    def __init__(self, lab: Network, name: str, key: Path) -> None:
        self.host: Host = lab.host(name)
        home = Path(self.host.environment["HOME"])
        (home / ".bashrc").touch()
        (home / "venv").symlink_to(sys.prefix)
        Path("/run/sshd").mkdir(exist_ok=True)
        config = self.host.folder / "sshd_config"
        variables = " ".join(f"{name}={value}" for name, value in self.host.environment.items())
        config.write_text(
            f"HostKey {key}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nPidFile none\n"
            f"PermitRootLogin yes\nSubsystem sftp internal-sftp\nSetEnv {variables}\n"
        )
        command = [str(_program("sshd")), "-D", "-e", "-f", str(config)]
        self.host.start(command, self.host.folder / "sshd.log")

    @property
    def address(self) -> str:
        """Its address."""
        return self.host.address

    def end(self) -> None:
        """Switches it off."""
        self.host.end()
