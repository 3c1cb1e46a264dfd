"""What a Prometheus server would see of a server process."""

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from stepup_tests.e2e.processes import ServerProcess

LISTEN = '[metrics]\nlisten = "127.0.0.1:0"'


def exposed(server: ServerProcess) -> str:
    """The page of metrics, found by the line in the log that says where it is."""
    [line] = server.logged("metrics_are_served")
    with urlopen(f"http://{line['address']}/metrics", timeout=10) as page:
        return page.read().decode()


def metrics(server: ServerProcess) -> dict[tuple[str, ...], float]:
    """The value of each series, by its name and then the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(exposed(server))
        for sample in family.samples
    }
