"""Who asks too much, and what the log says of whom."""

import socket
from contextlib import ExitStack

import pytest

from linkspan.webhooks.http.rate import Buckets, neighbourhood
from linkspan.webhooks.http.refusals import Refusals
from tests.waiting import until
from tests.webhooks.serving import SECRET, push, request, route
from tests.webhooks.stage import Stage, patient


class TestRates:
    """Who asks too much."""

    def test_too_many_at_once_are_told_to_come_back(self, stage: Stage) -> None:
        stage.serve(limits=patient(requests_at_once=2))
        with ExitStack() as held:
            for _ in range(2):
                slow = held.enter_context(socket.create_connection(("127.0.0.1", stage.port)))
                slow.sendall(request(b"", "Content-Length: 100", length=False))
            until(lambda: stage.app.state.receiver._under_way.total() == 2)
            answer = stage.call(push())
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        until(lambda: stage.app.state.receiver._under_way.total() == 0)
        assert stage.call(push()).status_code == 202

    def test_a_source_has_its_rate(self, stage: Stage) -> None:
        limits = patient(route_rate=1e-6, route_burst=3)
        stage.serve({"git": route(), "other": route()}, limits)
        assert [stage.call(push(n)).status_code for n in range(4)] == [202, 202, 202, 429]
        answer = stage.call(push(5))
        assert int(answer.headers["retry-after"]) > 10
        assert stage.call(push(6), "/hooks/other").status_code == 202

    def test_nobody_else_uses_up_the_rate_of_a_source(self, stage: Stage) -> None:
        stage.serve(limits=patient(route_rate=1e-6, route_burst=1, refused_burst=100))
        for _ in range(20):
            stage.http.post("/hooks/git", content=b"{}")
        assert stage.call(push()).status_code == 202

    def test_an_address_that_is_refused_again_and_again_hears_it_and_the_honest_behind_it_are_served(
        self, stage: Stage
    ) -> None:
        limits = patient(refused_rate=1e-6, refused_burst=3, small_bytes=1000)
        stage.serve(limits=limits)
        found = [stage.http.post("/hooks/git", content=b"{}") for _ in range(5)]
        assert [each.status_code for each in found] == [401, 401, 401, 429, 429]
        assert int(found[4].headers["retry-after"]) > 10
        assert stage.http.post("/hooks/unknown", content=b"{}").status_code == 429
        assert stage.call(push()).status_code == 202
        # Of such an address nothing big is read.
        assert stage.call(push(1, more="x" * 2000)).status_code == 503

    def test_one_address_does_not_take_all(self, stage: Stage) -> None:
        stage.serve(limits=patient(address_at_once=1))
        with socket.create_connection(("127.0.0.1", stage.port)) as slow:
            slow.sendall(request(b"", "Content-Length: 100", length=False))
            until(lambda: stage.app.state.receiver._under_way.total() == 1)
            assert stage.call(push()).status_code == 503
        until(lambda: not stage.app.state.receiver._under_way)
        assert stage.call(push()).status_code == 202

    def test_buckets(self) -> None:
        now = 0.0
        buckets = Buckets(0.5, 2, most=3, clock=lambda: now)
        assert [buckets.take("a") for _ in range(3)] == [0, 0, 2]
        now = 1.0
        assert (buckets.take("a"), buckets.wait("a")) == (1, 1)
        now = 2.0
        assert (buckets.wait("a"), buckets.take("a"), buckets.wait("a")) == (0, 0, 2)
        for key in range(1000):
            buckets.take(str(key))
        assert len(buckets) == 3
        now = 1e6
        assert [buckets.take("a") for _ in range(3)] == [0, 0, 2]

    @pytest.mark.parametrize(
        ("address", "whole"),
        [
            ("10.1.2.3", "10.1.2.3"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("x" * 100, "x" * 64),
        ],
    )
    def test_a_customer_is_one(self, address: str, whole: str) -> None:
        assert neighbourhood(address) == whole


def stop_the_clock(refusals: Refusals) -> None:
    """On a slow machine it allows more lines."""
    refusals._kinds._clock = refusals._all._clock = lambda: 0.0


class TestLog:
    """Enough to mend it, nothing that helps an attacker, no flood."""

    def test_no_secret_and_no_order_to_a_terminal(self, stage: Stage) -> None:
        stage.serve()
        body = push("\x1b[2J\u202eevil\nline")
        stage.call(body, f"/hooks/git?code={SECRET}")
        stage.http.post(f"/hooks/a%1b%5b2Jb%0ac?token={SECRET}", content=b"x")
        stage.http.post("/hooks/git", content=b"x", headers={b"X-Hub-Signature-256": b"sha256=\x85"})
        assert len(stage.lines) == 3
        for line in stage.lines:
            assert line.isprintable(), line
            assert SECRET not in line

    def test_repeated_refusals_are_counted_not_written(self, stage: Stage) -> None:
        stage.serve()
        stop_the_clock(stage.app.state.receiver.refusals)
        for _ in range(50):
            stage.http.post("/hooks/git", content=b"{}")
        assert len(stage.lines) == 5
        stage.app.state.receiver.refusals.flush()
        assert stage.lines[5] == "refused 45 more: 401 git from 127.0.0.1"
        stage.call(push())
        assert stage.lines[6].startswith("202 accepted")

    def test_a_thousand_names_are_no_flood_either(self) -> None:
        lines: list[str] = []
        refusals = Refusals(lines.append)
        stop_the_clock(refusals)
        for number in range(5000):
            refusals.add(f"kind {number}", f"line {number}")
        assert len(lines) <= 101
        refusals.flush()
        assert len(lines) <= 113
        assert sum(int(line.split()[1]) for line in lines if line.startswith("refused")) >= 4890
