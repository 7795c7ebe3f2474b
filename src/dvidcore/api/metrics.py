"""``/metrics`` for Prometheus: the server's counters, read when asked for, in a registry of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dvidcore._version import __version__
from dvidcore.api.state import Server


class ServerCollector(Collector):
    """Translates a server's counters into metrics."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        load, database = self.server.load, self.server.database
        info = GaugeMetricFamily("dvidcore_info", "The version of the server", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        requests = CounterMetricFamily("dvidcore_requests", "Answered requests", labels=["verb", "status"])
        for (verb, status), number in list(load.requests.items()):
            requests.add_metric([verb, str(status)], number)
        yield requests
        times = HistogramMetricFamily("dvidcore_request_seconds", "Time until an answer begins to leave")
        total, buckets = 0, []
        for bound, number in zip((*map(str, load.BUCKETS), "+Inf"), list(load.classes), strict=True):
            total += number
            buckets.append((bound, total))
        times.add_metric([], buckets, load.seconds)
        yield times
        yield CounterMetricFamily("dvidcore_body_bytes", "Bytes of request bodies", value=load.bytes_in)
        yield CounterMetricFamily("dvidcore_answer_bytes", "Bytes of answers", value=load.bytes_out)
        yield GaugeMetricFamily("dvidcore_active_requests", "Requests being handled", value=load.active)
        yield GaugeMetricFamily("dvidcore_repos", "Repos", value=len(database.repos))
        instances = sum(len(repo.instances) for repo in list(database.repos.values()))
        yield GaugeMetricFamily("dvidcore_instances", "Data instances", value=instances)
        yield GaugeMetricFamily("dvidcore_start_time_seconds", "When it started", value=self.server.started.timestamp())
        if (resident := _resident()) is not None:
            yield GaugeMetricFamily("dvidcore_resident_bytes", "Resident memory", value=resident)


def _resident() -> int | None:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


@lru_cache(maxsize=4)
def _registry(server: Server) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServerCollector(server))
    return registry


def exposition(server: Server) -> tuple[bytes, str]:
    """The text that Prometheus reads, and its content type."""
    return generate_latest(_registry(server)), CONTENT_TYPE_LATEST
