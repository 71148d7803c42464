"""Where things are on a bootable disk: partitions, and GRUB in two of them.  Pure.

GPT, and both ways to boot: a BIOS loads the boot record, which loads GRUB from a partition of its
own; UEFI finds GRUB as a file of the system partition.  The root is last on the disk so that it can
grow, and number 1, as it is on Debian's own cloud images.

Sources: UEFI 2.10, 5.3; GRUB 2.06, include/grub/i386/pc/boot.h and grub-core/boot/i386/pc.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SECTOR = 512
MIB = 1 << 20
_SECTORS_A_MIB = MIB // SECTOR

BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
EFI_SYSTEM = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX_ROOT_X86_64 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"

BOOT_CODE = 440  # bytes of the first sector before the disk's signature
_CORE_SECTOR = 0x5C  # in the boot record: the sector of GRUB's core, 8 bytes
_BLOCK_LIST = SECTOR - 12  # in the core's first sector: where its rest is, and how long

# What GRUB must know before it can read its configuration, and what that uses.
_MODULES = (
    "normal configfile part_gpt ext2 search search_fs_uuid linux echo test serial terminal boot"
)
MODULES = {
    "i386-pc": (*_MODULES.split(), "biosdisk"),
    "x86_64-efi": (*_MODULES.split(), "fat", "efi_gop"),
}


@dataclass(frozen=True)
class Partition:
    """``start`` and ``size`` in bytes, both whole MiB."""

    number: int
    name: str
    kind: str
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """A disk of ``size`` bytes; the partitions in the order in which they lie on it."""

    bios: Partition
    efi: Partition
    root: Partition
    size: int

    @property
    def partitions(self) -> tuple[Partition, ...]:
        return self.bios, self.efi, self.root


def layout(root_bytes: int) -> Layout:
    """A disk whose root has at least ``root_bytes``."""
    bios = Partition(14, "bios", BIOS_BOOT, 1 * MIB, 1 * MIB)
    efi = Partition(15, "efi", EFI_SYSTEM, 2 * MIB, 14 * MIB)
    root = Partition(1, "root", LINUX_ROOT_X86_64, 16 * MIB, -(-root_bytes // MIB) * MIB)
    # The table's second copy is at the end of the disk.
    return Layout(bios, efi, root, root.start + root.size + 1 * MIB)


def root_bytes(used: int) -> int:
    """How large a file system for ``used`` bytes of files must be: its own tables, a journal, and
    room to boot before it has grown."""
    return used + used // 6 + 320 * MIB


def sfdisk_script(disk: Layout) -> str:
    """The table of partitions, as sfdisk reads it."""
    lines = ["label: gpt", "unit: sectors"]
    for part in disk.partitions:
        start, size = part.start // SECTOR, part.size // SECTOR
        lines.append(
            f"{part.number} : start={start}, size={size}, type={part.kind}, name={part.name}"
        )
    return "\n".join(lines) + "\n"


def boot_record(boot_image: bytes, core: Partition) -> bytes:
    """The code of the disk's first sector: GRUB's ``boot.img`` that knows where the core is."""
    if len(boot_image) != SECTOR:
        raise ValueError(f"boot.img has {len(boot_image)} bytes and not {SECTOR}")
    code = bytearray(boot_image[:BOOT_CODE])
    struct.pack_into("<Q", code, _CORE_SECTOR, core.start // SECTOR)
    return bytes(code)


def located_core(core_image: bytes, core: Partition) -> bytes:
    """GRUB's ``core.img``, whose first sector knows where the others are."""
    if len(core_image) > core.size:
        raise ValueError(f"core.img has {len(core_image)} bytes, there is room for {core.size}")
    located = bytearray(core_image)
    struct.pack_into("<Q", located, _BLOCK_LIST, core.start // SECTOR + 1)
    return bytes(located)


def grub_search(root_uuid: str) -> str:
    """What GRUB does first: find the root, whichever disk it is."""
    return f"search.fs_uuid {root_uuid} root\nset prefix=($root)/boot/grub\n"


def grub_configuration(root_uuid: str) -> str:
    """Boots what the kernel's package links to, so that a new kernel needs no word here."""
    return f"""\
# Written by vacuo image build. /vmlinuz and /initrd.img are links that Debian keeps.
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=1
menuentry "Debian" {{
    linux /vmlinuz root=UUID={root_uuid} ro console=tty0 console=ttyS0,115200n8
    initrd /initrd.img
}}
"""


def file_system_table(root_uuid: str) -> str:
    return f"UUID={root_uuid} / ext4 defaults,errors=remount-ro 0 1\n"
