"""Wraps an update key under an AES key, as a token does, with a COSE library that shares no code with Kiln.

usage: wrap_update_key.py URI AES_KEY SECRET (the last two in hexadecimal); prints the file: a COSE_Encrypt0 in PEM.
"""

import base64
import os
import sys
import textwrap

from pycose.algorithms import A256GCM
from pycose.headers import IV, KID, Algorithm
from pycose.keys import SymmetricKey
from pycose.messages import Enc0Message

uri, key, secret = sys.argv[1], bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
message = Enc0Message(
    phdr={Algorithm: A256GCM, KID: uri.encode()},
    uhdr={IV: os.urandom(12)},
    payload=secret,
    external_aad=b"kiln v1 update key file",
)
message.key = SymmetricKey(k=key)
lines = textwrap.wrap(base64.b64encode(message.encode(tag=False)).decode(), 64)
print("-----BEGIN WRAPPED KILN UPDATE KEY-----", *lines, "-----END WRAPPED KILN UPDATE KEY-----", sep="\n")
