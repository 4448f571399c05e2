#!/usr/bin/env python3
"""Verifies the signatures of a sealed image, or of a message, with a COSE library that shares no code with Kiln.

usage: verify_cose.py IMAGE [ROOT_DIGEST]
       verify_cose.py MESSAGE ROOT_DIGEST CONTENT_TYPE

Reads the delegation certificates (COSE_Sign1) and the manifest or message (COSE_Sign) as crates/sealed-image/README.md
draws them, verifies every signature with pycose, then flips each byte of both parts and expects a refusal each time. With
ROOT_DIGEST (64 hexadecimal digits) the root key must have that RFC 9679 thumbprint.

Needs `pip install pycose`. Prints one line of JSON; exit status 0 only if everything held.
"""

import hashlib
import json
import struct
import sys

import cbor2
from pycose.headers import KID, Algorithm, ContentType
from pycose.keys import CoseKey
from pycose.messages import CoseMessage, Sign1Message, SignMessage

HEADER = struct.Struct("<8sHHIIIIIQ24s")
KINDS = {1: "stage1", 2: "stage2", 3: "kernel", 4: "device-tree", 5: "initramfs", 7: "secret", 9: "bundle", 11: "package", 10: "update"}


class Refused(Exception):
    """The image is not what it should be."""


def require(condition, reason):
    if not condition:
        raise Refused(reason)


def split(image):
    """Returns the delegation and the manifest part of an image."""
    fields = HEADER.unpack_from(image)
    magic, major, minor, delegation_len, manifest_len = fields[:5]
    require((magic, major, minor) == (b"KILNIMG1", 1, 0), "header")
    manifest_start = HEADER.size + delegation_len
    return image[HEADER.size : manifest_start], image[manifest_start : manifest_start + manifest_len]


def thumbprint(key):
    """Returns the RFC 9679 thumbprint of a COSE_Key that has the required members only."""
    return hashlib.sha256(cbor2.dumps(key, canonical=True)).digest()


def pycose_key(key):
    return CoseKey.from_dict(key)


def verify_certificate(item, root):
    """Verifies a delegation certificate and returns what it grants."""
    message = CoseMessage.decode(cbor2.dumps(item, canonical=True))
    require(isinstance(message, Sign1Message), "a certificate is no COSE_Sign1")
    require(message.phdr[KID] == thumbprint(root), "a certificate names another root")
    require(message.phdr[Algorithm].fullname == "ES256", "a root signs with another algorithm than ES256")
    require(message.phdr[ContentType] == "application/kiln-delegation+cbor", "content type of a certificate")
    require(not message.uhdr, "a certificate has unprotected headers")
    message.key = pycose_key(root)
    require(message.verify_signature(), "the root's signature does not verify")
    return cbor2.loads(message.payload)


def verify_signatures(delegation, signed, content_type, root_digest=None):
    """Verifies both parts; returns the payload, what is granted to each signer, and their algorithms."""
    root, *certificates = cbor2.loads(delegation)
    # An independent encoder makes the same bytes: the encoding is the deterministic one.
    require(cbor2.dumps([root, *certificates], canonical=True) == delegation, "encoding of the delegation")
    require(root_digest in (None, thumbprint(root)), "another root")
    grants = [verify_certificate(item, root) for item in certificates]

    message = CoseMessage.decode(signed)
    require(isinstance(message, SignMessage), "it is no COSE_Sign")
    require(message.phdr[ContentType] == content_type, "content type")
    require(cbor2.dumps(cbor2.loads(signed), canonical=True) == signed, "encoding")
    require(not message.uhdr and len(message.signers) == len(grants) > 0, "signatures and certificates")
    algorithms = []
    for signer, grant in zip(message.signers, grants):
        require(signer.phdr[KID] == thumbprint(grant[2]), "a signature names another key")
        require(not signer.uhdr, "a signature has unprotected headers")
        signer.key = pycose_key(grant[2])
        require(signer.verify_signature(), "a role's signature does not verify")
        algorithms.append(signer.phdr[Algorithm].fullname)
    return message.payload, grants, algorithms


def verify(delegation, manifest, root_digest=None):
    """Verifies both parts of an image and returns the facts of the manifest."""
    payload, grants, algorithms = verify_signatures(
        delegation, manifest, "application/kiln-manifest+cbor", root_digest
    )
    facts = cbor2.loads(payload)
    require(cbor2.dumps(facts, canonical=True) == payload, "encoding of the facts")
    for grant in grants:
        require(facts[1] in grant[3] and facts[2] in grant[4], "kind or board is not delegated")
        require(grant[5] <= facts[3] <= grant[6], "the version is not delegated")
    return facts, algorithms


def refuse_altered(check, delegation, signed):
    """Flips a bit of each byte of both parts, each of which has to be refused: whatever the libraries raise for nonsense
    is a refusal. Returns how many were."""
    taken = []
    for name, part in (("delegation", delegation), ("signed part", signed)):
        for position in range(len(part)):
            altered = bytearray(part)
            altered[position] ^= 1 << (position % 8)
            pair = (bytes(altered), signed) if name == "delegation" else (delegation, bytes(altered))
            try:
                check(*pair)
                taken.append(f"{name} byte {position}")
            except Exception:
                pass
    require(not taken, f"altered parts were taken: {', '.join(taken)}")
    return len(delegation) + len(signed)


def main_message(path, root_digest, content_type):
    with open(path, "rb") as file:
        message = file.read()
    parts = cbor2.loads(message)
    require(cbor2.dumps(parts, canonical=True) == message, "encoding of the message")
    root = bytes.fromhex(root_digest)

    def check(delegation, signed):
        return verify_signatures(delegation, signed, content_type, root)

    payload, grants, algorithms = check(*parts)
    flips = refuse_altered(check, *parts)
    roles = [grant[1] for grant in grants]
    sha256 = hashlib.sha256(payload).hexdigest()
    print(json.dumps({"roles": roles, "algorithms": algorithms, "payload": sha256, "flips_refused": flips}))


def main(path, root_digest=None):
    with open(path, "rb") as file:
        delegation, manifest = split(file.read())
    facts, algorithms = verify(delegation, manifest, root_digest and bytes.fromhex(root_digest))
    flips = refuse_altered(verify, delegation, manifest)
    version = facts[3]
    print(
        json.dumps(
            {
                "kind": KINDS[facts[1]],
                "board": facts[2],
                "version": f"{version >> 48}.{version >> 32 & 0xFFFF}.{version & 0xFFFFFFFF}",
                "algorithms": algorithms,
                "flips_refused": flips,
            }
        )
    )


if __name__ == "__main__":
    try:
        (main_message if len(sys.argv) > 3 else main)(*sys.argv[1:])
    except Refused as refusal:
        sys.exit(f"refused: {refusal}")
