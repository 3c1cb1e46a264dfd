"""The lines of requests: all of visits, and a sample of what everybody can send (S18)."""

from stepup_tests.metrics import metric
from structlog.testing import capture_logs

from stepup.web.request_lines import BURST, LINES_PER_SECOND, PROBE, RequestLines, route_is

SUPPRESSED = "stepup_web_request_lines_suppressed_total"


class Requests:
    """Requests of one route, one after the other, at the time of a clock of their own."""

    def __init__(self, route, *, status=200, in_visit=False):
        self.seconds = 0.0

        async def app(scope, _receive, send):
            route_is(scope, route)
            if in_visit:
                scope["state"]["visit"] = object()
            await send({"type": "http.response.start", "status": status})

        self._app = RequestLines(app, now=lambda: self.seconds)

    async def written(self, times):
        """How many of so many lines are written."""

        async def send(_message):
            pass

        with capture_logs() as lines:
            for _ in range(times):
                await self._app({"type": "http", "method": "GET"}, None, send)
        return len(lines)


async def test_s18_of_a_flood_the_first_lines_are_written_and_then_a_sample():
    requests = Requests("/flooded", status=404)
    assert await requests.written(BURST + 30) == BURST
    assert metric(SUPPRESSED, route="/flooded", status="404") == 30
    requests.seconds += 3 / LINES_PER_SECOND
    assert await requests.written(30) == 3


async def test_s18_all_lines_of_visits_are_written():
    requests = Requests("account/", in_visit=True)
    assert await requests.written(3 * BURST) == 3 * BURST


async def test_probes_have_no_line():
    assert await Requests(PROBE).written(3) == 0
