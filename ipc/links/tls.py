"""TLS for what listens on the network."""

import ssl


class TlsError(ValueError):
    """Certificate or key cannot be used; the text says why."""


def server_context(certificate: str, key: str) -> ssl.SSLContext | None:
    """Return the context of a server with PEM files, None without any. Raises ``TlsError``."""
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(
            f"tls.certificate = {certificate!r}, tls.key = {key!r}: cannot be used: {error}"
        ) from None
    return context
