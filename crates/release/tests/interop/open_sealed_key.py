"""Opens the sealed content key of a folder as its documentation says, with other people's libraries.

The folder holds content-key.sealed, release.json and the authority's private key, sealing.key.pem. cbor2 reads the file
and writes the `info`, and the HPKE of cryptography opens it; the content key is printed in hex.
"""

import json
import pathlib
import sys

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import load_pem_private_key

folder = pathlib.Path(sys.argv[1])
facts = json.loads((folder / "release.json").read_text())
fuses = facts["fuses"]
sealed = cbor2.loads((folder / "content-key.sealed").read_bytes())
private = load_pem_private_key((folder / "sealing.key.pem").read_bytes(), None)

assert sorted(sealed) == [1, 2, 3, 4, 5] and sealed[1] == 1, "another form"
major, minor, patch = (int(number) for number in facts["version"].split("."))
digests = ["package_id", "package_sha256", "stage1_measurement", "stage2_measurement"]
info = b"kiln v1 sealed content key" + cbor2.dumps(
    [facts["board"], major << 48 | minor << 32 | patch, facts["release"]]
    + [bytes.fromhex(facts[name]) for name in digests]
    + [bytes.fromhex(fuses[name]) for name in ("root_digest", "provisioning_key_tag")]
    + [bytes(fuses[name]) for name in ("secured_floors", "production_floors")]
    + [bytes.fromhex(fuses["closing_measurement"])]
)
suite = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
try:
    print(suite.decrypt(sealed[4] + sealed[5], private, info=info).hex())
except InvalidTag:
    sys.exit("it does not open")
