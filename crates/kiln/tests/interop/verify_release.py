"""Verifies provenance and SBOM of a release folder with other people's libraries.

securesystemslib verifies the DSSE envelope, cyclonedx-python-lib validates the SBOM against the schema of CycloneDX
1.6. Both have to refuse what is altered.
"""

import base64
import copy
import hashlib
import json
import pathlib
import sys

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey, Signature

folder = pathlib.Path(sys.argv[1])


def accepts(document, key):
    try:
        envelope = Envelope.from_dict(copy.deepcopy(document))
        envelope.verify([key], threshold=1)
        return envelope
    except (VerificationError, ValueError, TypeError):
        return None


document = json.loads((folder / "provenance.intoto.json").read_text())
public = load_pem_public_key((folder / "keys/provision.pub.pem").read_bytes())
key = SSlibKey.from_crypto(public, keyid=document["signatures"][0]["keyid"])
envelope = accepts(document, key)
assert envelope is not None, "securesystemslib refuses the envelope"
assert document["payloadType"] == "application/vnd.in-toto+json"
statement = json.loads(envelope.payload)
assert statement["_type"] == "https://in-toto.io/Statement/v1"
assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
definition = statement["predicate"]["buildDefinition"]
assert definition["buildType"] and definition["externalParameters"] and definition["resolvedDependencies"]
assert statement["predicate"]["runDetails"]["builder"]["id"]
for subject in statement["subject"]:
    found = hashlib.sha256((folder / subject["name"]).read_bytes()).hexdigest()
    assert found == subject["digest"]["sha256"], subject["name"]

other = SSlibKey.from_crypto(
    load_pem_public_key((folder / "keys/owner-root.pub.pem").read_bytes()), keyid=key.keyid
)
assert accepts(document, other) is None, "another key is taken"
envelopes = 0
for field in (document, document["signatures"][0]):
    name = "payload" if field is document else "sig"
    original = base64.b64decode(field[name])
    for at in range(0, len(original), max(1, len(original) // 60)):
        altered = bytearray(original)
        altered[at] ^= 1
        field[name] = base64.b64encode(altered).decode()
        assert accepts(document, key) is None, f"{name}, byte {at}"
        envelopes += 1
    field[name] = base64.b64encode(original).decode()

text = (folder / "sbom.cdx.json").read_text()
validator = JsonStrictValidator(SchemaVersion.V1_6)
problem = validator.validate_str(text)
assert problem is None, problem
bill = json.loads(text)
bills = 0
for alter in (
    lambda b: b.pop("bomFormat"),
    lambda b: b.__setitem__("unknown", 1),
    lambda b: b.__setitem__("serialNumber", "none"),
    lambda b: b["components"][0].pop("name"),
    lambda b: b["components"][0]["hashes"][0].__setitem__("content", "none"),
    lambda b: b["components"][0].__setitem__("type", "none"),
):
    altered = copy.deepcopy(bill)
    alter(altered)
    assert validator.validate_str(json.dumps(altered)) is not None
    bills += 1

references = [one["bom-ref"] for one in bill["components"]] + [bill["metadata"]["component"]["bom-ref"]]
assert len(set(references)) == len(references), "a reference is used twice"
for dependency in bill["dependencies"]:
    assert set([dependency["ref"], *dependency["dependsOn"]]) <= set(references)

print(
    json.dumps(
        {
            "subjects": len(statement["subject"]),
            "components": len(bill["components"]),
            "envelopes_refused": envelopes,
            "bills_refused": bills,
        }
    )
)
