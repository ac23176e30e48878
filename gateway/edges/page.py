"""The web page: sites, votes, open anomalies, and a failover as it happens. NiceGUI on the same app; assets from its wheel."""

from typing import Any

from fastapi import FastAPI
from nicegui import ui

from gateway.core import presentation
from gateway.edges.snapshot import Snapshot, Snapshots

_REFRESH_SECONDS = 0.5
_EVENTS_SHOWN = 12
_COLOURS = {"primary": "#1f5fbf", "positive": "#1a7f37", "negative": "#b3001b", "warning": "#f2c037", "info": "#9ad4e0"}
_BLACK_ON = ("warning", "info")
_STYLE = """
.nicegui-content{max-width:1100px;margin:0 auto;width:100%;gap:.75rem}
body:not(.body--dark){background:#f6f7f9}
.mono{font-family:ui-monospace,monospace}
.muted{opacity:.72}
.q-card{gap:.5rem}
.q-card.running{border-left:4px solid var(--q-primary)}
.rows{display:grid;grid-template-columns:auto auto 1fr;column-gap:.6rem;row-gap:.3rem;align-items:baseline;width:100%}
.q-icon{overflow:hidden}
.rows .q-icon{align-self:start;margin-top:.18em}
.rows .q-badge{justify-content:center}
.steps{display:grid;grid-template-columns:repeat(2,1fr);gap:.4rem;width:100%}
@media(min-width:600px){.steps{grid-template-columns:repeat(4,1fr)}}
@media(min-width:1024px){.steps{grid-template-columns:repeat(8,1fr)}}
.anywhere{overflow-wrap:anywhere}
.sign-positive{color:#1a7f37}.body--dark .sign-positive{color:#4cc26b}
.sign-negative{color:#b3001b}.body--dark .sign-negative{color:#ff7b7b}
.sign-warning{color:#b7860b}.body--dark .sign-warning{color:#f2c037}
.sign-grey-7{color:#757575}.body--dark .sign-grey-7{color:#a8a8a8}
"""


def mount(app: FastAPI, snapshots: Snapshots) -> None:
    """Put the page at `/`."""

    @ui.page("/", title="redis-agent")
    async def fleet() -> None:
        ui.dark_mode(None)
        ui.colors(**_COLOURS)
        ui.add_css(_STYLE)
        view = _View(await snapshots.current())

        async def refresh() -> None:
            view.show(await snapshots.current())

        ui.timer(_REFRESH_SECONDS, refresh)

    ui.run_with(app, mount_path="/", show_welcome_message=False)


class _View:
    """One person's page: redrawn where what it shows has changed; what they unfolded stays unfolded."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._shown: Any = None
        self._unfolded: dict[str, bool] = {}
        with ui.row().classes("w-full items-baseline justify-between"):
            ui.label("redis-agent").classes("text-2xl font-bold").props("role=heading aria-level=1")
            self._time = ui.label().classes("text-sm muted mono")
        self._body()
        self.show(snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Redraw if anything but the clock changed."""
        self._snapshot = snapshot
        self._time.set_text(f"live, as of {snapshot.at:%H:%M:%S} UTC")
        now = (
            presentation.steady(snapshot.instances),
            presentation.steady_findings(snapshot.findings),
            snapshot.anomalies,
            snapshot.alerts,
            snapshot.missing,
        )
        if now != self._shown:
            self._shown = now
            self._body.refresh()

    @ui.refreshable_method
    def _body(self) -> None:
        snapshot = self._snapshot
        _headline(presentation.headline(snapshot.instances, snapshot.anomalies, snapshot.findings, snapshot.missing))
        for service, why in snapshot.missing.items():
            _missing(service, why)
        _findings(snapshot.findings)
        for instance in snapshot.instances:
            self._instance(instance, [a for a in snapshot.anomalies if a["site"]["instance"] == instance["instance"]])
        _alerts(snapshot.alerts)

    def _instance(self, instance: dict[str, Any], anomalies: list[dict[str, Any]]) -> None:
        failover = instance["failover"]
        with _card():
            _title(instance)
            if presentation.is_running(failover):
                self._running(failover, instance["instance"])
            _refusals(instance["refusals"])
            _anomalies(anomalies)
            with ui.grid().classes("w-full grid-cols-1 md:grid-cols-2 gap-2"):
                for site in instance["sites"]:
                    _site(site, fenced=presentation.is_fenced(instance["failover"], site["datacenter"]))
            if failover is not None and not presentation.is_running(failover):
                with self._folded(failover["id"], presentation.move(failover, instance["instance"])):
                    _steps(failover)
                    _journal(failover)

    def _running(self, failover: dict[str, Any], instance: str) -> None:
        with _card("running"):
            ui.label(presentation.move(failover, instance)).classes("text-lg font-medium").props(
                "role=heading aria-level=3"
            )
            _steps(failover)
            with self._folded(f"{failover['id']} journal", "Journal"):
                _journal(failover)

    def _folded(self, name: str, title: str) -> ui.expansion:
        def keep(event: Any) -> None:
            self._unfolded[name] = event.value

        fold = ui.expansion(title, value=self._unfolded.get(name, False), on_value_change=keep)
        return fold.classes("w-full").props("dense header-class=q-px-none")


def _card(classes: str = "") -> ui.card:
    return ui.card().props("flat bordered").classes(f"w-full {classes}")


def _badge(text: str, colour: str) -> None:
    ui.badge(text, color=colour, text_color="black" if colour in _BLACK_ON else "white")


def _sign(icon: str, colour: str, size: str = "1rem") -> None:
    # Classes of our own: Quasar's colours are too dark for a sign on a dark page.
    ui.icon(icon, size=size).classes(f"sign-{colour}")


def _headline(told: presentation.Headline) -> None:
    loud = told.colour == "negative"
    with _card("bg-negative text-white" if loud else ""), ui.row().classes("items-center gap-3 no-wrap"):
        _sign(told.icon, "loud" if loud else told.colour, "md")
        ui.label(told.text).classes("text-lg font-medium").props("role=status")


def _missing(service: str, why: str) -> None:
    with _card("bg-negative text-white").props("role=alert"), ui.row().classes("items-center gap-3 no-wrap"):
        ui.icon("cloud_off", size="md")
        with ui.column().classes("gap-0"):
            ui.label(f"The {service} does not answer; what it knows is missing here").classes("font-medium")
            ui.label(why.removeprefix(f"the {service} does not answer: ")).classes("text-sm anywhere")


def _findings(findings: list[dict[str, Any]]) -> None:
    if not findings:
        return
    with _card():
        ui.label("Findings").classes("text-xl font-bold").props("role=heading aria-level=2")
        with ui.element("div").classes("rows"):
            for finding in findings:
                _badge(finding["severity"], presentation.SEVERITY.get(finding["severity"], "grey-7"))
                ui.label(presentation.clock(finding["since"])).classes("mono text-sm muted")
                with ui.column().classes("gap-0"):
                    ui.label(finding["text"])
                    if finding["command"]:
                        ui.label(finding["command"]).classes("text-sm mono muted anywhere")


def _title(instance: dict[str, Any]) -> None:
    with ui.row().classes("w-full items-center gap-2"):
        ui.label(instance["instance"]).classes("text-xl font-bold").props("role=heading aria-level=2")
        if instance["paused"]:
            _badge("paused", "warning")
        ui.space()
        ui.label(f"mode {instance['mode']}").classes("text-sm muted")
    where = instance["active_datacenter"] or "unknown"
    ui.label(f"{instance['record'] or 'no name'} → {where}").classes("mono text-sm muted anywhere")
    if instance["paused"]:
        ui.label(f"Paused: {instance['pause_reason']}")


def _refusals(refusals: list[str]) -> None:
    if refusals:
        with ui.element("div").classes("rows").props("role=alert"):
            for refusal in refusals:
                _sign("block", "negative")
                ui.label("not moved").classes("font-medium")
                ui.label(refusal)


def _anomalies(anomalies: list[dict[str, Any]]) -> None:
    if anomalies:
        with ui.element("div").classes("rows"):
            for anomaly in anomalies:
                _badge(anomaly["severity"], presentation.SEVERITY.get(anomaly["severity"], "grey-7"))
                ui.label(anomaly["site"]["datacenter"]).classes("font-medium")
                ui.label(f"since {presentation.clock(anomaly['opened_at'])}: {anomaly['explanation']}")


def _site(site: dict[str, Any], *, fenced: bool) -> None:
    icon, colour = presentation.HEALTH.get(site["health"], presentation.HEALTH["unknown"])
    with _card():
        with ui.row().classes("w-full items-center gap-2"):
            _sign(icon, colour, "sm")
            ui.label(site["datacenter"]).classes("text-lg")
            _badge(site["health"], colour)
            if site["active"]:
                _badge("active", "primary")
            if fenced:
                _badge("fenced: refuses writes", "grey-7")
            ui.label(site["role"] if site["role"] not in ("unspecified", "unknown") else "").classes("text-sm muted")
            ui.space()
            ui.label(f"since {presentation.clock(site['since'])}").classes("text-sm muted")
        with ui.element("div").classes("rows text-sm"):
            for vote in site["votes"]:
                icon, colour = presentation.VERDICT.get(vote["counted"], presentation.VERDICT["cannot_tell"])
                _sign(icon, colour)
                ui.label(vote["vantage"])
                ui.label(presentation.vote(vote)).classes("muted")


def _steps(failover: dict[str, Any]) -> None:
    ui.label(failover["reason"])
    with ui.element("div").classes("steps").props("role=list"):
        for step in presentation.steps(failover):
            with ui.row().classes("items-start gap-1 no-wrap").props("role=listitem"):
                if step.awaited:
                    ui.spinner(size="1.1rem")
                else:
                    _sign(*(("check", "positive") if step.seconds is not None else ("more_horiz", "grey-7")), "1.1rem")
                with ui.column().classes("gap-0"):
                    ui.label(step.name).classes("text-sm" + (" font-medium" if step.awaited else ""))
                    ui.label("" if step.seconds is None else f"{step.seconds:.1f} s").classes("text-xs muted")


def _journal(failover: dict[str, Any]) -> None:
    ui.label(failover["id"]).classes("mono text-sm muted")
    for event in failover["events"][-_EVENTS_SHOWN:]:
        line = f"{presentation.clock(event['at'])} {event['kind']} {event['stage']}: {event['reason']}".replace(
            "_", " "
        )
        ui.label(line).classes("text-sm mono")


def _alerts(alerts: list[dict[str, Any]]) -> None:
    if not alerts:
        return
    with _card():
        ui.label("Alerts").classes("text-xl font-bold").props("role=heading aria-level=2")
        with ui.element("div").classes("rows"):
            for alert in alerts:
                resolved = alert["state"] == "resolved"
                colour = "positive" if resolved else presentation.SEVERITY.get(alert["severity"], "grey-7")
                _badge("resolved" if resolved else alert["severity"], colour)
                ui.label(presentation.clock(alert["at"])).classes("mono text-sm muted")
                ui.label(alert["title"])
