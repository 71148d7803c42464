#!/usr/bin/python3
"""check_key.py KEY DESTINATION FINGERPRINT...: install an OpenPGP key if it is one of ours.

KEY may be armoured or binary.  Every primary key in it must have one of the fingerprints (RFC 4880,
12.2).  It is written as it is where DESTINATION names a key of rpm, binary otherwise, for that is
what every apt reads.  Prints `changed` or `unchanged`.
"""

import base64
import hashlib
import os
import sys


def binary(content):
    if b"-----BEGIN PGP" not in content:
        return content
    keys = b""
    for block in content.split(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")[1:]:
        lines = block.split(b"-----END")[0].replace(b"\r", b"").split(b"\n\n", 1)[1].split(b"\n")
        # The line that begins with = is a checksum of the armour.
        keys += base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")))
    return keys


def packets(content):
    at = 0
    while at < len(content):
        tag = content[at]
        at += 1
        if tag & 0x40:  # the new format
            kind, first = tag & 0x3F, content[at]
            if first < 192:
                length, at = first, at + 1
            elif first < 224:
                length, at = ((first - 192) << 8) + content[at + 1] + 192, at + 2
            else:
                length, at = int.from_bytes(content[at + 1 : at + 5], "big"), at + 5
        else:
            kind, size = tag >> 2 & 0x0F, 1 << (tag & 3)
            length, at = int.from_bytes(content[at : at + size], "big"), at + size
        yield kind, content[at : at + length]
        at += length


def fingerprints(content):
    """Of the primary keys, version 4."""
    return [
        hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324 - what a fingerprint of OpenPGP is
        for kind, body in packets(content)
        if kind == 6
    ]


def main(source, destination, *allowed):
    with open(source, "rb") as file:
        content = file.read()
    try:
        key = binary(content)
        found = fingerprints(key)
    except (IndexError, ValueError):
        sys.exit("what was fetched is not an OpenPGP key")
    wanted = {one.replace(" ", "").upper() for one in allowed}
    if not found or not set(found) <= wanted:
        sys.exit(
            "the key's fingerprint is {}, and {} is expected".format(
                " and ".join(found) or "not to be found", " or ".join(sorted(wanted))
            )
        )
    if os.path.basename(destination).startswith("RPM"):
        key = content
    if os.path.exists(destination):
        with open(destination, "rb") as file:
            if file.read() == key:
                print("unchanged")
                return
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    with open(destination + ".new", "wb") as file:
        file.write(key)
    os.chmod(destination + ".new", 0o644)
    os.replace(destination + ".new", destination)
    print("changed")


main(*sys.argv[1:])
