"""The tracer keeps the promises every tracer gives, by name, by itself and while it serves."""

from __future__ import annotations

from flow_prometheus import PrometheusTracer
from flow_testkit import TracerSuite
from prometheus_client import CollectorRegistry

from flow import Tracer


class TestPrometheusTracer(TracerSuite):
    def make_tracer(self) -> str:
        return "prometheus"


class TestPrometheusTracerOfARegistry(TracerSuite):
    def make_tracer(self) -> Tracer:
        return PrometheusTracer(CollectorRegistry())


class TestServingPrometheusTracer(TracerSuite):
    def make_tracer(self) -> Tracer:
        return PrometheusTracer(CollectorRegistry(), port=0)
