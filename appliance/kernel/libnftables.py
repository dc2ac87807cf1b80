"""libnftables by ctypes: run text in a context that belongs to the namespace it was made in.

Called by `nft` only, with the thread inside that namespace: a context's socket stays where it was made, but a name of a
device (`iif "eth0"`) is looked up where the caller is.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

NFT_CTX_OUTPUT_STATELESS: Final = 1 << 2


def _library() -> ctypes.CDLL:
    """Load the library and say what its functions take."""
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_run_cmd_from_filename.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    return library


class NftError(Exception):
    """What libnftables said against a script."""


class NftContext:
    """One context: make it, and run it, inside its namespace."""

    def __init__(self) -> None:
        """Open a netlink socket here."""
        self._library = _library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise MemoryError
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_output_set_flags(self._context, NFT_CTX_OUTPUT_STATELESS)

    def run(self, script: str) -> str:
        """Run a script as one transaction; return what it prints.

        It goes through a file in memory, for only then does the library say in which line an error is.
        """
        fd = os.memfd_create("nft")
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(script.encode())
            path = f"/proc/self/fd/{fd}"
            result = self._library.nft_run_cmd_from_filename(self._context, path.encode())
        finally:
            os.close(fd)
        printed: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        said: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if result:
            raise NftError(said.decode(errors="replace").replace(f"{path}:", "line ").strip())
        return printed.decode()

    def close(self) -> None:
        """Close the socket."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None
