"""crypt(3), for passwords that a seed holds in plain. Called by `appliance.box.first_boot`.

Through libcrypt, which every Debian has: the module of the standard library ends with Python 3.12.
"""

from __future__ import annotations

import ctypes

from appliance.model.errors import OperatorError

#: SHA-512. yescrypt would be better against guessing and takes seconds to make under emulation; whoever minds, writes a hash.
METHOD = b"$6$"


def hashed(password: str) -> str:
    """Return a hash with fresh salt."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt_gensalt.restype = library.crypt.restype = ctypes.c_char_p
    salt = library.crypt_gensalt(METHOD, ctypes.c_ulong(0), None, 0)
    made: bytes | None = library.crypt(password.encode(), salt) if salt else None
    if not made or not made.startswith(METHOD):
        raise OperatorError.of("this machine cannot hash a password", "write its hash into the seed")
    return made.decode()
