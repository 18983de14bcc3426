"""A throw-away Kafka broker to try things on, until Ctrl-C: python -m tests.integration [HOST[:PORT]]."""

import signal
import sys

from tests.integration.broker import Cluster
from tests.integration.launcher import KafkaUnavailableError, find_launcher


def main() -> int:
    """Serve on this machine's address HOST, loopback unless told; the data goes with the process."""
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1").partition(":")
    try:
        cluster = Cluster(find_launcher())
    except KafkaUnavailableError as problem:
        print(problem, file=sys.stderr)
        return 1
    try:
        cluster.brokers[0].host, cluster.brokers[0].client_port = host, int(port or 9092)
        cluster.start()
        print(f"Kafka serves on {cluster.bootstrap}; its data is thrown away on Ctrl-C", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        return 0
    finally:
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
