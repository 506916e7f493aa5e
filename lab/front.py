"""A TLS server in front of another one, with a certificate of its own, run as a program in a host.

What is said on a connection is handed on to the server behind it, and back.
"""

import argparse
import socket
import ssl
import threading


def pump(source, sink):
    """Hands on what comes until one end closes."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        # The other direction ends with it.
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(connection, context, behind):
    """One connection; ends with its handshake when the client will not have the certificate."""
    try:
        connection.settimeout(10)
        front = context.wrap_socket(connection, server_side=True)
        onward = ssl.create_default_context()
        onward.check_hostname = False
        onward.verify_mode = ssl.CERT_NONE
        back = onward.wrap_socket(socket.create_connection((behind, 443), 5))
    except OSError:
        connection.close()
        return
    for end in (front, back):
        end.settimeout(None)
    threading.Thread(target=pump, args=(front, back), daemon=True).start()
    pump(back, front)


def main():
    """Serves until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("certificate", help="certificate and key in one PEM file")
    parser.add_argument("port", type=int)
    parser.add_argument("behind", help="address of the server behind")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate)
    listener = socket.create_server(("::", options.port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, _ = listener.accept()
        arguments = (connection, context, options.behind)
        threading.Thread(target=serve, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()
