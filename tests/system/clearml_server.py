"""A stand-in for a ClearML server, for tests: api, web and file host, with faults that a test switches on and off.

    from clearml_server import ClearmlServer      in a test; see clearml_stand_in/server.py and faults.py
    clearml_server.py --folder F [--port N] ...   a program; prints its addresses and a client's environment as one line
                                                  of JSON; runs until it is terminated or who started it is gone
"""

import argparse
import json
import os
import signal
import time

from clearml_stand_in.server import ClearmlServer

__all__ = ["ClearmlServer"]


def main():
    parser = argparse.ArgumentParser(description="a stand-in for a ClearML server")
    parser.add_argument("--folder", required=True, help="where uploaded files are kept")
    parser.add_argument("--port", type=int, default=0, help="of the api host; 0: from the kernel, as the others")
    parser.add_argument("--tolerate-sdk", action="store_true", help="the official SDK's own mistakes are no violations")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="files; then the hosts speak https")
    given = parser.parse_args()
    starter = os.getppid()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ClearmlServer(given.folder, given.tolerate_sdk, given.tls, {"api": given.port}) as server:
            print(json.dumps({**server.addresses, "environment": server.environment()}), flush=True)
            while os.getppid() == starter:
                time.sleep(0.2)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
