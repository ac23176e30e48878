"""The web page: sites, votes, open anomalies, and a failover as it happens. NiceGUI on the same app; assets from its wheel."""

from typing import Any

from fastapi import FastAPI
from nicegui import ui

from gateway.core import look
from gateway.edges.snapshot import Snapshot, Snapshots

_REFRESH_SECONDS = 0.5
_EVENTS_SHOWN = 12


def mount(app: FastAPI, snapshots: Snapshots) -> None:
    """Put the page at `/`."""

    @ui.page("/", title="redis-agent")
    async def fleet() -> None:
        ui.dark_mode(None)
        ui.add_css(
            ".nicegui-content{max-width:1100px;margin:0 auto;width:100%} .mono{font-family:ui-monospace,monospace}"
        )
        view = _View(await snapshots.current())

        async def refresh() -> None:
            view.show(await snapshots.current())

        ui.timer(_REFRESH_SECONDS, refresh)

    ui.run_with(app, mount_path="/", show_welcome_message=False)


class _View:
    """One person's page: redrawn where what it shows has changed."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._shown: Any = None
        with ui.row().classes("w-full items-center justify-between"):
            ui.label("redis-agent").classes("text-2xl font-bold").props("role=heading aria-level=1")
            self._time = ui.label().classes("text-sm opacity-70 mono")
        self._body()
        self.show(snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Redraw if anything but the clock changed."""
        self._snapshot = snapshot
        self._time.set_text(f"live, as of {snapshot.at:%H:%M:%S} UTC")
        now = (_without_ages(snapshot.instances), snapshot.anomalies, snapshot.alerts, snapshot.missing)
        if now != self._shown:
            self._shown = now
            self._body.refresh()

    @ui.refreshable_method
    def _body(self) -> None:
        snapshot = self._snapshot
        for service, why in snapshot.missing.items():
            with ui.card().classes("w-full bg-negative text-white"):
                ui.label(f"The {service} does not answer: what it knows is missing below. {why}")
        text, colour = look.headline(snapshot.instances, len(snapshot.anomalies))
        with ui.card().classes(f"w-full bg-{colour} text-white"):
            ui.label(text).classes("text-lg font-medium").props("role=status")
        for instance in snapshot.instances:
            _instance(instance, [a for a in snapshot.anomalies if a["site"]["instance"] == instance["instance"]])
        _alerts(snapshot.alerts)


def _instance(instance: dict[str, Any], anomalies: list[dict[str, Any]]) -> None:
    with ui.card().classes("w-full"):
        with ui.row().classes("w-full items-baseline justify-between"):
            ui.label(instance["instance"]).classes("text-xl font-bold").props("role=heading aria-level=2")
            ui.label(f"{instance['record']} → {instance['active_datacenter'] or 'unknown'}").classes("mono")
            ui.label(
                f"mode {instance['mode']}" + (f", paused: {instance['pause_reason']}" if instance["paused"] else "")
            )
        with ui.grid().classes("w-full grid-cols-1 md:grid-cols-2 gap-4"):
            for site in instance["sites"]:
                _site(site)
        for refusal in instance["refusals"]:
            ui.label(f"Not moved: {refusal}").classes("text-negative")
        for anomaly in anomalies:
            _anomaly(anomaly)
        if instance["failover"] is not None:
            _failover(instance["failover"])


def _site(site: dict[str, Any]) -> None:
    icon, colour = look.HEALTH.get(site["health"], look.HEALTH["unknown"])
    with ui.card().props("bordered flat").classes("w-full"):
        with ui.row().classes("items-center gap-2"):
            ui.icon(icon, color=colour, size="md")
            ui.label(site["datacenter"]).classes("text-lg")
            ui.badge(site["health"], color=colour)
            if site["active"]:
                ui.badge("active", color="primary")
            ui.label(site["role"] if site["role"] not in ("unspecified", "unknown") else "").classes("opacity-70")
        for vote in site["votes"]:
            ui.label(look.vote(vote)).classes("text-sm mono").tooltip(vote["why"])


def _anomaly(anomaly: dict[str, Any]) -> None:
    with ui.row().classes("w-full items-center gap-2"):
        ui.badge(anomaly["severity"], color=look.SEVERITY.get(anomaly["severity"], "grey"))
        where = anomaly["site"]["datacenter"]
        ui.label(f"{where} since {look.clock(anomaly['opened_at'])}: {anomaly['explanation']}")


def _failover(failover: dict[str, Any]) -> None:
    plan = failover["plan"]
    title = f"{plan['kind']} {plan['source']} → {plan['target']}: {failover['stage'].replace('_', ' ')}"
    ui.separator()
    with ui.row().classes("w-full items-baseline justify-between"):
        ui.label(title).classes("text-lg font-medium").props("role=heading aria-level=3")
        ui.label(failover["id"]).classes("mono text-sm opacity-70")
    ui.label(failover["reason"])
    with ui.row().classes("gap-2"):
        for name, seconds in look.steps(failover):
            icon = "check" if seconds is not None else "more_horiz"
            ui.chip(f"{name} {seconds or ''}", icon=icon, color="positive" if seconds else "grey").props(
                "dense outline"
            )
    with ui.expansion("Journal").classes("w-full"), ui.column().classes("gap-0"):
        for event in failover["events"][-_EVENTS_SHOWN:]:
            line = f"{look.clock(event['at'])} {event['kind']} {event['stage'].replace('_', ' ')}: {event['reason']}"
            ui.label(line).classes("text-sm mono")


def _alerts(alerts: list[dict[str, Any]]) -> None:
    if not alerts:
        return
    with ui.card().classes("w-full"):
        ui.label("Alerts").classes("text-xl font-bold").props("role=heading aria-level=2")
        for alert in alerts:
            with ui.row().classes("w-full items-center gap-2 no-wrap"):
                resolved = alert["state"] == "resolved"
                colour = "positive" if resolved else look.SEVERITY.get(alert["severity"], "grey")
                ui.badge("resolved" if resolved else alert["severity"], color=colour)
                ui.label(look.clock(alert["at"])).classes("mono text-sm")
                ui.label(alert["title"])


def _without_ages(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The instances without what changes at every look."""

    def vote(said: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in said.items() if key not in ("age", "why")}

    def site(shown: dict[str, Any]) -> dict[str, Any]:
        return {**shown, "votes": [vote(said) for said in shown["votes"]]}

    return [{**instance, "sites": [site(shown) for shown in instance["sites"]]} for instance in instances]
