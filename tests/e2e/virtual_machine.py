"""A virtual machine of a disk image, as a cloud makes one: a larger disk, user data, a console.

It is emulated, not virtualised: slow, and the same on every machine, nested ones included.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

MEMORY_MB = 1024
SEED_KIB = 2880  # a floppy's size: mtools knows its shape
_CONSOLE_KEY = re.compile(
    r"BEGIN SSH HOST KEY KEYS-+\r?\n(ssh-ed25519 [A-Za-z0-9+/=]+).*?END SSH HOST KEY KEYS",
    re.DOTALL,
)


class VirtualMachine:
    """One machine, whose port 22 is that of ``address`` here; ``close`` ends it."""

    def __init__(
        self, directory: Path, image: Path, address: str = "", firmware: str = "", seed: str = ""
    ) -> None:
        directory.mkdir()
        self._directory = directory
        self._console = directory / "console.log"
        disk = directory / "disk.qcow2"
        # As a cloud does it: the image stays as it is, and the machine's disk is larger.
        _run(
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-b",
            str(image),
            str(disk),
            "5G",
        )
        command = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "Nehalem"]
        # One processor: of two, emulated in two threads, one may meet a breakpoint that the kernel
        # set to patch its own code after the other has taken it away ("Oops: int3", and the end).
        command += ["-m", str(MEMORY_MB), "-smp", "1", "-display", "none", "-no-reboot"]
        command += ["-serial", f"file:{self._console}", "-device", "virtio-rng-pci"]
        command += ["-drive", f"file={disk},if=virtio,cache=unsafe"]
        if seed:
            command += ["-drive", f"file={self._seed(seed)},if=virtio,format=raw"]
        if address:
            command += ["-netdev", f"user,id=net,hostfwd=tcp:{address}:22-:22"]
            command += ["-device", "virtio-net-pci,netdev=net"]
        if firmware:
            command += ["-bios", firmware]
        self._log = (directory / "qemu.log").open("wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )

    def _seed(self, user_data: str) -> Path:
        """What the cloud tells the machine: a small disk, by its label cloud-init's NoCloud."""
        seed = self._directory / "seed.img"
        (self._directory / "user-data").write_text(user_data)
        (self._directory / "meta-data").write_text("instance-id: one\nlocal-hostname: baked\n")
        with seed.open("wb") as file:
            file.truncate(SEED_KIB * 1024)
        _run("mformat", "-i", str(seed), "-f", str(SEED_KIB), "-v", "CIDATA", "::")
        for name in ("user-data", "meta-data"):
            _run("mcopy", "-i", str(seed), str(self._directory / name), "::")
        return seed

    def console(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def wait(self, condition: Callable[[str], object], what: str, seconds: float) -> None:
        """Until the console says what is waited for."""
        deadline = time.monotonic() + seconds
        while not condition(self.console()):
            died = self._process.poll()
            if died is not None or time.monotonic() > deadline:
                raise AssertionError(self._why(what, died, seconds))
            time.sleep(0.5)

    def host_key(self, seconds: float) -> str:
        """The ssh host key that the machine made for itself, by its console."""
        self.wait(_CONSOLE_KEY.search, "the ssh host key on the console", seconds)
        found = _CONSOLE_KEY.search(self.console())
        assert found
        return found[1]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        (self._directory / "disk.qcow2").unlink()

    def _why(self, what: str, died: int | None, seconds: float) -> str:
        end = "\n".join(self.console().splitlines()[-30:])
        said = (self._directory / "qemu.log").read_text(errors="replace")
        how = f"qemu ended with {died}: {said}" if died is not None else f"not in {seconds:g} s"
        return f"{what}: {how}\n{end}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
