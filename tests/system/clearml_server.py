"""A stand-in for a ClearML server, for tests: api, web and file host, with faults that a test switches on and off.

    from clearml_server import ClearmlServer      in a test; see clearml_stand_in/server.py and faults.py
    clearml_server.py --folder F [--port N] ...   a program; prints its addresses as one line of JSON, and runs until
                                                  its standard input ends or it is interrupted
"""

import argparse
import json
import signal
import sys

from clearml_stand_in.server import ClearmlServer

__all__ = ["ClearmlServer"]


def main():
    parser = argparse.ArgumentParser(description="a stand-in for a ClearML server")
    parser.add_argument("--folder", required=True, help="where uploaded files are kept")
    parser.add_argument("--port", type=int, default=0, help="of the api host; 0: from the kernel, as those of the others")
    parser.add_argument("--tolerate-sdk", action="store_true", help="the official SDK's own mistakes are no violations")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="files; then the hosts speak https")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ClearmlServer(given.folder, given.tolerate_sdk, given.tls, {"api": given.port}) as server:
        print(json.dumps({**server.addresses, **server.environment()}), flush=True)
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
