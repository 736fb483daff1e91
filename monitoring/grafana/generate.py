"""Writes the dashboards: python monitoring/grafana/generate.py. What stands here is reviewed; the JSON follows from it.

A dashboard is rows of panels, each a title, its queries, their unit, and what the reader should know. Every query
selects the routers that the reader has chosen.
"""

import sys
from pathlib import Path
from typing import Final

from panels import Dashboard, Panel, Query, text_of

FOLDER: Final = Path(__file__).parent / "dashboards"
_ROUTER: Final = 'instance=~"$router"'
_RATE: Final = "[$__rate_interval]"


def rate(metric: str, by: str = "", more: str = "") -> str:
    """Return the query for how fast a counter grows, summed up by labels."""
    selected = f"sum by ({by})" if by else "sum"
    return f"{selected} (rate(hopwire_{metric}{{{_ROUTER}{', ' + more if more else ''}}}{_RATE}))"


def quantile(share: float, metric: str, by: str = "") -> str:
    """Return the query for a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le, {by}' if by else 'le')})"


def now(metric: str, by: str = "", more: str = "") -> str:
    """Return the query for a gauge, summed up by labels."""
    selected = f"sum by ({by})" if by else "sum"
    return f"{selected} (hopwire_{metric}{{{_ROUTER}{', ' + more if more else ''}}})"


def mean(metric: str, by: str) -> str:
    """Return the query for the mean of a histogram; 0 where there was nothing."""
    return f"{rate(f'{metric}_sum', by)} / clamp_min({rate(f'{metric}_count', by)}, 1e-9)"


def quantiles(metric: str) -> tuple[Query, ...]:
    """Return the queries for three quantiles."""
    return tuple(Query(quantile(share, metric), f"{share * 100:g} %") for share in (0.5, 0.99, 0.999))


_STAGE: Final = "stage, process"
_OVERRUNS: Final = 'reason=~"rx_overrun|forwarder_full|arp_full|slow_path_full|tx_full|stale"'
_SENT: Final = f"{rate('forwarded_frames_total')} + {rate('generated_sent_frames_total')}"
_RECEIVED: Final = rate("received_frames_total")
_DROPPED: Final = rate("dropped_frames_total")


def _stat(title: str, expression: str, unit: str = "short", text: str = "") -> Panel:
    return Panel(title, (Query(expression),), unit, text, kind="stat", width=4, height=4)


DASHBOARDS: Final = (
    Dashboard(
        "overview",
        "hopwire: overview",
        (
            _stat("ready", f"min (hopwire_ready{{{_ROUTER}}})", "bool_yes_no", "Forwards on all its interfaces."),
            _stat("frame balance", now("unaccounted_frames"), "none", "Frames unaccounted for; 0: all is well."),
            _stat("alerts firing", 'count (ALERTS{alertname=~"Hopwire.*", alertstate="firing"}) or vector(0)', "none"),
            _stat(
                "services down",
                f'count (hopwire_service_up{{{_ROUTER}, service!="ingress"}} == 0) or vector(0)',
                "none",
            ),
            _stat("routes", now("routes"), "none"),
            _stat("neighbours", now("neighbours", more='state!="failed"'), "none"),
            Panel(
                "frames a second",
                (Query(_RECEIVED, "received"), Query(_SENT, "sent"), Query(_DROPPED, "dropped")),
                "pps",
            ),
            Panel(
                "bits a second",
                (
                    Query(f"8 * {rate('received_bytes_total')}", "received"),
                    Query(f"8 * {rate('sent_bytes_total')}", "sent"),
                ),
                "bps",
            ),
            Panel(
                "share of frames dropped", (Query(f"{_DROPPED} / clamp_min({_RECEIVED}, 1)", "dropped"),), "percentunit"
            ),
            Panel(
                "latency",
                quantiles("latency_seconds"),
                "s",
                "From a frame's arrival in the kernel until it was sent; the first frame of each batch.",
            ),
        ),
    ),
    Dashboard(
        "drops",
        "hopwire: drops",
        (
            Panel(
                "drops by reason",
                (Query(f"topk(12, {rate('dropped_frames_total', 'reason')})", "{{reason}}"),),
                "pps",
                "What each reason means stands in docs/metrics.md.",
                stacked=True,
                width=24,
            ),
            Panel(
                "drops by interface",
                (Query(rate("dropped_frames_total", "interface"), "{{interface}}"),),
                "pps",
                stacked=True,
            ),
            Panel(
                "dropped because something was full",
                (Query(rate("dropped_frames_total", "reason, interface", _OVERRUNS), "{{reason}} {{interface}}"),),
                "pps",
            ),
            Panel(
                "ICMP sent",
                (Query(rate("icmp_sent_messages_total", "message"), "{{message}}"),),
                "pps",
                "What senders were told.",
            ),
            Panel("ICMP withheld", (Query(rate("icmp_suppressed_messages_total", "cause"), "{{cause}}"),), "pps"),
            Panel(
                "drops in the time shown",
                (
                    Query(
                        f"sort_desc(sum by (interface, reason) "
                        f"(increase(hopwire_dropped_frames_total{{{_ROUTER}}}[$__range])) > 0.5)",
                    ),
                ),
                "short",
                kind="table",
                width=24,
            ),
        ),
    ),
    Dashboard(
        "interfaces",
        "hopwire: interfaces",
        (
            Panel("received", (Query(rate("received_frames_total", "interface"), "{{interface}}"),), "pps"),
            Panel(
                "sent",
                (
                    Query(
                        f"{rate('forwarded_frames_total', 'interface')} "
                        f"+ {rate('generated_sent_frames_total', 'interface')}",
                        "{{interface}}",
                    ),
                ),
                "pps",
            ),
            Panel("received", (Query(f"8 * {rate('received_bytes_total', 'interface')}", "{{interface}}"),), "bps"),
            Panel("sent", (Query(f"8 * {rate('sent_bytes_total', 'interface')}", "{{interface}}"),), "bps"),
            Panel(
                "left to the kernel",
                (Query(rate("delivered_frames_total", "interface, reason"), "{{interface}} {{reason}}"),),
                "pps",
            ),
            Panel(
                "ended in hopwire",
                (Query(rate("consumed_frames_total", "interface, reason"), "{{interface}} {{reason}}"),),
                "pps",
                "Echo requests answered, datagrams fragmented, ARP.",
            ),
            Panel("up", (Query(now("interface_up", "interface"), "{{interface}}"),), "bool_on_off", width=8),
            Panel(
                "forwards", (Query(now("interface_forwarding", "interface"), "{{interface}}"),), "bool_on_off", width=8
            ),
            Panel("MTU", (Query(now("interface_mtu_bytes", "interface"), "{{interface}}"),), "bytes", width=8),
        ),
    ),
    Dashboard(
        "routes",
        "hopwire: routes",
        (
            Panel("destinations by what is done with them", (Query(now("routes", "kind"), "{{kind}}"),), "none"),
            Panel("routes by origin", (Query(f"{now('kernel_routes', 'origin')} > 0", "{{origin}}"),), "none"),
            Panel(
                "generation",
                (Query(now("rib_generation"), "published by control"), Query(now("fib_generation"), "applied")),
                "none",
            ),
            Panel(
                "changes applied",
                (Query(rate("fib_update_seconds_count"), "changes a second"),),
                "ops",
            ),
            Panel("time to apply a change", quantiles("fib_update_seconds"), "s"),
            Panel(
                "kernel's tables read again",
                (Query(rate("netlink_resyncs_total"), "a second"),),
                "ops",
                "Because announcements did not suffice.",
            ),
        ),
    ),
    Dashboard(
        "neighbours",
        "hopwire: neighbours",
        (
            Panel("neighbours by state", (Query(now("neighbours", "state"), "{{state}}"),), "none", stacked=True),
            Panel(
                "neighbours by interface",
                (Query(now("neighbours", "interface"), "{{interface}}"),),
                "none",
            ),
            Panel("frames that wait", (Query(now("waiting_frames", "interface"), "{{interface}}"),), "none"),
            Panel("bytes that wait", (Query(now("waiting_bytes", "interface"), "{{interface}}"),), "bytes"),
            Panel(
                "ARP messages",
                (
                    Query(rate("arp_sent_messages_total", "message"), "{{message}} sent"),
                    Query(rate("consumed_frames_total", more='reason="arp_handled"'), "received"),
                ),
                "pps",
            ),
            Panel(
                "dropped for want of a neighbour",
                (
                    Query(
                        rate(
                            "dropped_frames_total",
                            "reason",
                            'reason=~"host_unreachable|neighbour_.*|arp_.*"',
                        ),
                        "{{reason}}",
                    ),
                ),
                "pps",
            ),
        ),
    ),
    Dashboard(
        "pipeline",
        "hopwire: pipeline",
        (
            Panel(
                "frames of a batch, mean",
                (Query(mean("stage_batch_frames", _STAGE), "{{stage}} {{process}}"),),
                "none",
                "Large batches under load: the cost of a batch is shared by many frames.",
            ),
            Panel(
                "time for a batch, 99 %",
                (Query(quantile(0.99, "stage_batch_seconds", _STAGE), "{{stage}} {{process}}"),),
                "s",
            ),
            Panel(
                "share of time busy",
                (Query(rate("stage_batch_seconds_sum", _STAGE), "{{stage}} {{process}}"),),
                "percentunit",
                "Of a core, in batches.",
            ),
            Panel(
                "time for a frame, mean",
                (
                    Query(
                        f"{rate('stage_batch_seconds_sum', _STAGE)} "
                        f"/ clamp_min({rate('stage_batch_frames_sum', _STAGE)}, 1e-9)",
                        "{{stage}} {{process}}",
                    ),
                ),
                "s",
            ),
            Panel(
                "batches of the forwarder by size",
                (
                    Query(
                        rate("stage_batch_frames_bucket", "le", 'stage="forward"'),
                        "{{le}}",
                    ),
                ),
                "none",
                kind="heatmap",
            ),
            Panel(
                "latency of the first frame of each batch",
                (Query(rate("latency_seconds_bucket", "le"), "{{le}}"),),
                "s",
                kind="heatmap",
            ),
            Panel(
                "fill of the frame rings",
                (
                    Query(
                        f"{now('frame_ring_peak_frames', 'interface')} "
                        f"/ clamp_min({now('frame_ring_slots', 'interface')}, 1)",
                        "{{interface}}",
                    ),
                ),
                "percentunit",
                "The most in the last quarter of a second.",
            ),
            Panel(
                "overruns",
                (Query(rate("dropped_frames_total", "reason", _OVERRUNS), "{{reason}}"),),
                "pps",
            ),
            Panel(
                "wake-ups",
                (
                    Query(rate("service_wake_ups_total", "process"), "{{process}} wakes"),
                    Query(rate("forwarder_bells_total", "interface"), "{{interface}} rings"),
                ),
                "ops",
            ),
            Panel(
                "slow path",
                (Query(rate("slow_path_frames_total"), "frames decided in Python"),),
                "pps",
            ),
        ),
    ),
    Dashboard(
        "nat",
        "hopwire: address translation",
        (
            Panel(
                "sessions", (Query(now("nat_sessions", "session"), "{{session}}"),), "none", "By state.", stacked=True
            ),
            Panel(
                "share of the table",
                (Query(f"{now('nat_sessions')} / clamp_min({now('nat_sessions_limit')}, 1)", "in use"),),
                "percentunit",
                "When it is full, new sessions are refused.",
            ),
            Panel("new sessions", (Query(rate("nat_sessions_opened_total"), "opened"),), "ops"),
            Panel(
                "ports in use",
                (
                    Query(now("nat_ports_in_use", "protocol"), "{{protocol}}"),
                    Query(now("nat_outside_addresses"), "outside addresses"),
                ),
                "none",
            ),
            Panel(
                "refused",
                (Query(rate("dropped_frames_total", "reason", 'reason=~"nat_.*"'), "{{reason}}"),),
                "pps",
                "What each reason means stands in docs/metrics.md.",
                width=24,
            ),
        ),
    ),
    Dashboard(
        "services",
        "hopwire: services",
        (
            Panel("up", (Query(now("service_up", "process"), "{{process}}"),), "bool_on_off", width=8),
            Panel("ready", (Query(now("service_ready", "process"), "{{process}}"),), "bool_on_off", width=8),
            Panel("restarts", (Query(now("service_restarts_total", "process"), "{{process}}"),), "none", width=8),
            Panel(
                "CPU",
                (Query(rate("service_cpu_seconds_total", "process"), "{{process}}"),),
                "percentunit",
                "Of a core.",
            ),
            Panel("memory", (Query(now("service_resident_memory_bytes", "process"), "{{process}}"),), "bytes"),
            Panel("wake-ups", (Query(rate("service_wake_ups_total", "process"), "{{process}}"),), "ops"),
            Panel(
                "malformed messages and rings",
                (Query(rate("bad_messages_total"), "messages"), Query(rate("bad_rings_total"), "rings")),
                "ops",
            ),
            Panel(
                "configuration",
                (
                    Query(now("config_parameters_changed"), "parameters differ from the file"),
                    Query(now("config_absent_interfaces"), "interfaces not there"),
                    Query(now("warnings"), "warnings"),
                ),
                "none",
            ),
            Panel("what runs", (Query(f"hopwire_build_info{{{_ROUTER}}}"),), "none", kind="table"),
        ),
    ),
)


def main(folder: Path) -> None:
    """Write all files into a folder."""
    folder.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        (folder / f"{dashboard.name}.json").write_text(text_of(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
