"""A mail server for the tests: aiosmtpd on a loopback port.

    smtp_server.py certificates DIR
    smtp_server.py serve DIR PORT TLS

TLS is none, starttls or required. Each accepted mail is appended to DIR/mails as a line of JSON. The word in DIR/mode
decides how a mail is handled: accept, later (451), never (550 to the recipient), drop (close after the mail),
hang (no answer). If DIR/login contains "name password", this login is required.
"""

import asyncio
import datetime
import ipaddress
import json
import pathlib
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


def certificates(directory):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)

    def name(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def write(file, bytes_):
        (directory / file).write_bytes(bytes_)

    def certificate(subject, key, issuer, issuer_key, is_ca, names):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    def pem(key):
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    loopback = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    for ca in ["ca", "other"]:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        root = certificate(ca, ca_key, ca, ca_key, True, [])
        write(f"{ca}.pem", root.public_bytes(serialization.Encoding.PEM))
        if ca == "ca":
            for server, names in [("server", loopback), ("stranger", [x509.DNSName("mail.example")])]:
                key = ec.generate_private_key(ec.SECP256R1())
                leaf = certificate(server, key, ca, ca_key, False, names)
                write(f"{server}.pem", leaf.public_bytes(serialization.Encoding.PEM) + pem(key))


class Handler:
    def __init__(self, directory):
        self.directory = directory

    def mode(self):
        return (self.directory / "mode").read_text()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.mode() == "never" or address.startswith("never"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mode = self.mode()
        if mode == "later":
            return "451 later"
        if mode == "hang":
            await asyncio.sleep(3600)
        login = session.auth_data.login.decode() if session.auth_data else None
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "data": envelope.content.decode(),
            "tls": session.ssl is not None or server.is_implicit,
            "login": login,
            "was_dropped": mode == "drop",
        }
        with open(self.directory / "mails", "a") as mails:
            mails.write(json.dumps(mail) + "\n")
        if mode == "drop":
            server.transport.abort()
        return "250 taken"


def serve(directory, port, tls):
    context = None
    if tls != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(directory / "identity.pem")
    settings = {}
    if (directory / "login").exists():
        name, password = (directory / "login").read_text().split()

        def authenticator(server, session, envelope, mechanism, data):
            fits = (data.login.decode(), data.password.decode()) == (name, password)
            return AuthResult(success=fits, auth_data=data, handled=False)

        settings = {"authenticator": authenticator, "auth_required": True, "auth_require_tls": tls == "starttls"}
    if tls == "starttls":
        settings |= {"tls_context": context, "require_starttls": True}

    class Server(Controller):
        def factory(self):
            server = super().factory()
            server.is_implicit = tls == "required"
            return server

    controller = Server(
        Handler(directory), "127.0.0.1", port, ssl_context=context if tls == "required" else None, **settings
    )
    controller.start()
    print("ready", flush=True)
    # Ends when the process at the other end does.
    sys.stdin.read()
    controller.stop(no_assert=True)


directory = pathlib.Path(sys.argv[2])
if sys.argv[1] == "certificates":
    certificates(directory)
else:
    serve(directory, int(sys.argv[3]), sys.argv[4])
