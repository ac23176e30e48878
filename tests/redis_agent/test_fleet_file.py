"""Reading the fleet's file: one line a fault, with file, line, key and what would be right."""

import json
from pathlib import Path

import pytest
import yaml

from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import inspect, load, load_for, shown

KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
GOOD = """\
datacenters:
  - name: dc-east
  - name: dc-west
dns:
  main: {route53: {hosted_zone_id: Z0001}}
instances:
  - id: orders
    dns: {provider: main, record: orders.example.com.}
    preferred: dc-east
    sites:
      - datacenter: dc-east
        url: redis://127.0.0.1:6379
        dns_value: east.example.com.
      - datacenter: dc-west
        url: redis://127.0.0.2:6379
        dns_value: west.example.com.
collector:
  vantage: dc-east
"""


def written(tmp_path: Path, text: str, name: str = "fleet.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def faults(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    """The faults of the file, without the folder that it is in."""
    with pytest.raises(ConfigurationError) as failed:
        load(path, environ or {})
    assert all("\n" not in line for line in failed.value.faults)
    return [line.replace(f"{path.parent}/", "") for line in failed.value.faults]


def changed(tmp_path: Path, old: str, new: str) -> list[str]:
    assert old in GOOD
    return faults(written(tmp_path, GOOD.replace(old, new, 1)))


def added(tmp_path: Path, text: str) -> list[str]:
    return faults(written(tmp_path, GOOD + text))


# --- what is right ----------------------------------------------------------------------------------------------


def test_a_good_file_gives_a_fleet_with_safe_defaults(tmp_path: Path) -> None:
    fleet = load(written(tmp_path, GOOD), {})
    assert [instance.id for instance in fleet.instances] == ["orders"]
    assert fleet.failover.mode.value == "observe"
    assert (fleet.api.enabled, fleet.api.host, fleet.api.api_key) == (False, "127.0.0.1", None)
    assert fleet.grpc.host == "127.0.0.1"
    assert fleet.log.embedded is not None and fleet.log.kafka is None


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    as_json = json.dumps(yaml.safe_load(GOOD), indent=2)
    assert load(written(tmp_path, as_json, "fleet.json"), {}) == load(written(tmp_path, GOOD), {})


def test_json_may_be_indented_with_tabs(tmp_path: Path) -> None:
    as_json = json.dumps(yaml.safe_load(GOOD), indent="\t")
    assert load(written(tmp_path, as_json, "fleet.json"), {}) == load(written(tmp_path, GOOD), {})
    wrong = as_json.replace('"vantage"', '"vintage"')
    line = wrong[: wrong.index("vintage")].count("\n") + 1
    found = faults(written(tmp_path, wrong, "fleet.json"))
    assert found[1].startswith(f"fleet.json:{line}: collector.vintage: unknown key; known here: ")


def test_the_shape_of_the_api_section_works_as_it_stands(tmp_path: Path) -> None:
    data = yaml.safe_load(GOOD) | {"api": {"enabled": True, "api_key": KEY, "host": "0.0.0.0", "port": 8080}}
    fleet = load(written(tmp_path, json.dumps(data), "fleet.json"), {})
    assert (fleet.api.host, fleet.api.port, fleet.api.reveal("api_key")) == ("0.0.0.0", 8080, KEY)


# --- every fault, with its key, its line and what would be right --------------------------------------------------


def test_an_unknown_key_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    assert changed(tmp_path, "  vantage: dc-east\n", "  vantage: dc-east\n  intervall_seconds: 1\n") == [
        "fleet.yaml:19: collector.intervall_seconds: unknown key; "
        "known here: interval_seconds, samples_seconds, timeout_seconds, vantage"
    ]


def test_an_unknown_key_of_an_item_of_a_list_is_named_with_its_place(tmp_path: Path) -> None:
    (found,) = changed(
        tmp_path, "        url: redis://127.0.0.2:6379", "        uri: redis://127.0.0.2:6379\n        url: redis://h:1"
    )
    assert found.startswith("fleet.yaml:15: instances[0].sites[1].uri: unknown key; known here: ca_file, datacenter,")


def test_an_unknown_service_and_a_key_that_is_no_text_are_unknown_keys(tmp_path: Path) -> None:
    found = added(tmp_path, "grpc: {ports: {colector: 1}}\n8080: x\n")
    assert (
        found[0]
        == "fleet.yaml:19: grpc.ports.colector: unknown key; known here: collector, controller, detector, notifier"
    )
    assert found[1].startswith("fleet.yaml:20: 8080: unknown key; known here: alerting, api,")


def test_a_missing_site_is_told_where_it_belongs(tmp_path: Path) -> None:
    head = GOOD.split("    sites:")[0]
    assert faults(written(tmp_path, head + "collector: {vantage: dc-east}\n")) == [
        "fleet.yaml:7: instances[0].sites: is missing; it is a list"
    ]
    assert faults(written(tmp_path, head + "    sites: []\ncollector: {vantage: dc-east}\n")) == [
        "fleet.yaml:10: instances[0].sites: must have at least one item"
    ]


def test_a_missing_section_and_a_missing_key_say_what_they_are(tmp_path: Path) -> None:
    assert changed(tmp_path, "collector:\n  vantage: dc-east\n", "") == [
        "fleet.yaml:1: collector: is missing; it is a section with vantage"
    ]
    assert changed(tmp_path, "  vantage: dc-east\n", "  interval_seconds: 1\n") == [
        "fleet.yaml:17: collector.vantage: is missing; it is lower-case letters, digits and dashes"
    ]


def test_an_empty_section_says_so(tmp_path: Path) -> None:
    (found,) = added(tmp_path, "failover:\n")
    assert found.startswith("fleet.yaml:19: failover: is empty; it is a section with ")


def test_a_value_in_place_of_a_section(tmp_path: Path) -> None:
    assert changed(tmp_path, "collector:\n  vantage: dc-east\n", "collector: dc-east\n") == [
        "fleet.yaml:17: collector: must be a section with vantage (got 'dc-east')"
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("- name: dc-west", "- name: dc-east", "3: datacenters[1].name: 'dc-east' is used twice; each must differ"),
        (
            "      - datacenter: dc-west",
            "      - datacenter: dc-east",
            "14: instances[0].sites[1].datacenter: 'dc-east' is used twice; each must differ",
        ),
        (
            "      - datacenter: dc-west",
            "      - datacenter: dc-north",
            "14: instances[0].sites[1].datacenter: 'dc-north' isn't a datacenter; known: dc-east, dc-west",
        ),
        (
            "preferred: dc-east",
            "preferred: dc-n",
            "9: instances[0].preferred: orders has no site in 'dc-n'; it has: dc-east, dc-west",
        ),
        ("provider: main", "provider: lab", "8: instances[0].dns.provider: no dns provider 'lab'; known: main"),
        (
            "id: orders",
            "id: Orders!",
            "7: instances[0].id: must be lower-case letters, digits and dashes (got 'Orders!')",
        ),
        ("Z0001", "zone", "5: dns.main.route53.hosted_zone_id: must be an id like Z0123456789ABCDEFGHIJ (got 'zone')"),
        (
            "redis://127.0.0.2:6379",
            "127.0.0.2:6379",
            "15: instances[0].sites[1].url: must look like redis://host:port or rediss://host:port",
        ),
        (
            "redis://127.0.0.2:6379",
            "redis://127.0.0.2",
            "15: instances[0].sites[1].url: must look like redis://host:port or rediss://host:port",
        ),
    ],
)
def test_each_fault_has_its_line_its_key_and_what_would_be_right(tmp_path: Path, old: str, new: str, said: str) -> None:
    expected = f"fleet.yaml:{said}"
    found = changed(tmp_path, old, new)
    assert found[0] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("api: {port: 99999}\n", "19: api.port: must be less than or equal to 65535 (got 99999)"),
        (
            "api: {port: http}\n",
            "19: api.port: must be a valid integer, unable to parse string as an integer (got 'http')",
        ),
        ("grpc: {ports: {collector: 0}}\n", "19: grpc.ports.collector: must be greater than or equal to 1 (got 0)"),
        ("grpc: {addresses: {collector: here}}\n", "19: grpc.addresses.collector: 'here' must be host:port"),
        (
            "grpc: {ports: {collector: 50052}}\n",
            "19: grpc.ports.detector: 127.0.0.1:50052 is collector's, too; each must differ",
        ),
        (
            "failover: {mode: sometimes}\n",
            "19: failover.mode: must be 'observe', 'approve' or 'auto' (got 'sometimes')",
        ),
        (
            "failover: {mode: auto, quorum: 1}\n",
            "7: instances[0].failover: quorum 1 with mode auto lets one vantage move traffic; at least 2 is right",
        ),
        ("log: {}\n", "19: log: give exactly one of embedded and kafka"),
        (
            "log: {embedded: {}, kafka: {bootstrap_servers: 'h:9092'}}\n",
            "19: log: give exactly one of embedded and kafka",
        ),
        (
            "telemetry: {otlp_endpoint: 'collector:4317'}\n",
            "19: telemetry.otlp_endpoint: must be an address like http://otel-collector:4317 (got 'collector:4317')",
        ),
        (
            "alerting:\n  receivers:\n    - {name: chat, slack: {}, email: {host: h, sender: a, to: [b]}}\n",
            "21: alerting.receivers[0]: give exactly one of slack, pagerduty and email",
        ),
        (
            "alerting:\n  receivers:\n    - name: chat\n      slack: {}\n",
            "22: alerting.receivers[0].slack.webhook_url: is missing: give webhook_url_file, webhook_url_env or webhook_url",
        ),
    ],
)
def test_each_sections_faults(tmp_path: Path, text: str, said: str) -> None:
    (found,) = added(tmp_path, text)
    assert found == f"fleet.yaml:{said}"


def test_a_duplicate_id_and_a_duplicate_record(tmp_path: Path) -> None:
    instances = GOOD[GOOD.index("  - id: orders") : GOOD.index("collector:")]
    text = GOOD.replace("collector:", instances + "collector:", 1)
    assert faults(written(tmp_path, text)) == [
        "fleet.yaml:17: instances[1].id: 'orders' is used twice; each must differ",
        "fleet.yaml:18: instances[1].dns.record: 'orders.example.com.' is used twice; each must differ",
    ]


def test_a_mode_that_moves_needs_a_name_and_a_second_site(tmp_path: Path) -> None:
    one_site = (
        GOOD[: GOOD.index("      - datacenter: dc-west")] + "collector: {vantage: dc-east}\nfailover: {mode: approve}\n"
    )
    assert faults(written(tmp_path, one_site)) == [
        "fleet.yaml:10: instances[0].sites: mode approve needs a second site to move to"
    ]
    nameless = (
        GOOD.replace("    dns: {provider: main, record: orders.example.com.}\n", "") + "failover: {mode: approve}\n"
    )
    assert faults(written(tmp_path, nameless)) == [
        "fleet.yaml:7: instances[0]: mode approve needs a dns section: there is no name to move"
    ]


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("vantage: dc-east", "vantage: DC!").replace("name: dc-west", "nam: dc-west")
    assert [line.split(": ")[1] for line in faults(written(tmp_path, text))] == [
        "datacenters[1].name",
        "datacenters[1].nam",
        "collector.vantage",
    ]
    text = GOOD.replace("provider: main", "provider: lab").replace("preferred: dc-east", "preferred: dc-x")
    assert len(faults(written(tmp_path, text + "api: {enabled: true, host: 0.0.0.0}\n"))) == 3


# --- what is no fleet's file at all -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.yaml", b"a: [1\nb: 2\n", "f.yaml:2: not YAML: "),
        ("f.json", b'{"a": 1,\n "b": }', "f.json:2: not JSON: Expecting value"),
        ("f.yaml", b"- a\n- b\n", "f.yaml:1: must be a mapping of sections: log, datacenters, instances, …"),
        ("f.yaml", b"", "f.yaml:1: must be a mapping of sections"),
        ("f.yaml", b"just words", "f.yaml:1: must be a mapping of sections"),
        ("f.json", b"[1]", "f.json:1: must be a mapping of sections"),
        ("f.yaml", b"a: 1\nb: \xff\xfe", "f.yaml:2: not text: it must be YAML or JSON in UTF-8"),
        ("f.yaml", b"a: \0", "f.yaml:1: not YAML: unacceptable character #x0000"),
        ("f.yaml", b"a: " + b"[" * 5000, "f.yaml:1: "),
        (
            "f.json",
            b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "f.json:1: nested too deeply to be a fleet's file",
        ),
        ("f.yaml", b"a: &again [*again]\n", "f.yaml:"),
    ],
)
def test_what_is_no_fleets_file_is_told_in_lines(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert faults(path)[0].startswith(said)


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.yaml") == ["none.yaml: can't be read: No such file or directory"]
    assert faults(tmp_path)[0].endswith(": can't be read: Is a directory")


def test_a_key_that_is_given_twice_is_told_in_yaml_and_in_json(tmp_path: Path) -> None:
    assert changed(tmp_path, "    preferred: dc-east\n", "    preferred: dc-east\n    preferred: dc-west\n") == [
        "fleet.yaml:10: instances[0].preferred: given twice; keep one"
    ]
    path = written(tmp_path, '{"collector": {"vantage": "a"},\n "collector": {"vantage": "b"}}', "fleet.json")
    assert faults(path) == ["fleet.json:2: collector: given twice; keep one"]


# --- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "",
        "short",
        "changeme",
        "change-me",
        "your-api-key-goes-here",
        "<your key here>",
        "x" * 40,
        "…",
        "${API_KEY_OF_PROD}",
    ],
)
def test_a_placeholder_or_short_key_is_refused_and_never_repeated(tmp_path: Path, key: str) -> None:
    (found,) = added(tmp_path, f"api:\n  enabled: true\n  api_key: {json.dumps(key)}\n")
    assert found == (
        "fleet.yaml:21: api.api_key: is empty, short or a placeholder; "
        "use at least 16 random characters, e.g. from: openssl rand -hex 24"
    )


def test_a_key_that_no_header_can_carry_is_refused(tmp_path: Path) -> None:
    (found,) = added(tmp_path, "api: {enabled: true, api_key: 'with a blank in the middle'}\n")
    assert found.startswith(
        "fleet.yaml:19: api.api_key: holds blanks or letters that a header can't carry; use at least"
    )


def test_a_key_of_digits_that_yaml_takes_for_a_number_is_refused_without_being_shown(tmp_path: Path) -> None:
    (found,) = added(tmp_path, "api: {enabled: true, api_key: 31415926535897932384}\n")
    assert found == "fleet.yaml:19: api.api_key: must be a valid string"


def test_a_secret_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "key"
    assert added(tmp_path, f"api: {{enabled: true, api_key_file: {missing}}}\n") == [
        "fleet.yaml:19: api.api_key_file: nowhere/key can't be read: No such file or directory; "
        "name a file that this user can read"
    ]
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert added(tmp_path, f"api: {{enabled: true, api_key_file: {binary}}}\n") == [
        "fleet.yaml:19: api.api_key_file: binary can't be read: it isn't text in UTF-8; name a file that this user can read"
    ]


def test_a_relative_secret_file_is_named_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, GOOD + "grpc: {api_key_file: key}\n")
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/key can't be read"):
        load(path, {})


def test_another_file_that_cannot_be_read_is_told_too(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    (found,) = changed(
        tmp_path, "dns_value: west.example.com.", f"dns_value: west.example.com.\n        ca_file: {missing}"
    )
    assert found.startswith("fleet.yaml:17: instances[0].sites[1].ca_file: ca.pem can't be read: No such file")
    (found,) = added(tmp_path, f"grpc: {{tls: {{cert_file: {written(tmp_path, '', 'c')}, key_file: {missing}}}}}\n")
    assert found.startswith("fleet.yaml:19: grpc.tls.key_file: ca.pem can't be read")


def test_a_secret_may_stand_in_the_file_in_a_file_of_its_own_or_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", KEY + "\n")
    own = written(tmp_path, KEY + "\n", "key")
    for given in (f"api_key: {KEY}", f"api_key_file: {own}", "api_key_env: OUR_KEY"):
        fleet = load(written(tmp_path, GOOD + f"api: {{enabled: true, {given}}}\n"), {})
        assert fleet.api.reveal("api_key") == KEY


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    assert added(tmp_path, f"api: {{enabled: true, api_key: {KEY}, api_key_env: OUR_KEY}}\n") == [
        "fleet.yaml:19: api: give one of api_key, api_key_env, not 2"
    ]


def test_a_variable_that_is_not_set_is_a_fault_where_it_runs_and_a_note_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "api: {enabled: true, api_key_env: NOBODY_SETS_THIS}\n")
    said = "fleet.yaml:19: api.api_key_env: the environment variable NOBODY_SETS_THIS isn't set here"
    assert faults(path) == [said]
    assert [note.replace(f"{tmp_path}/", "") for note in inspect(path, {})[1]] == [said]


def test_a_service_needs_only_its_own_secrets(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "api: {enabled: true, api_key_file: /nowhere/key}\n")
    assert load_for("collector", path).collector.vantage == "dc-east"
    with pytest.raises(ConfigurationError, match=r"api\.api_key_file"):
        load_for("gateway", path)


@pytest.mark.parametrize(
    "text",
    [
        "api: {enabled: true, api_key: hunter2}\n",
        "api: {enabled: true, api_key: [hunter2]}\n",
        "api: {enabled: true, api_key: *hunter2}\n",
        "api: {enabled: true, api_key: hunter2, api_key_env: X}\n",
        "grpc: {api_key: hunter2, host: 0.0.0.0, nonsense: 1}\n",
        "alerting: {receivers: [{name: a, slack: {webhook_url: 'hunter2', colour: red}}]}\n",
        "alerting: {receivers: [{name: a, pagerduty: {routing_key: [hunter2]}}]}\n",
        "log: {kafka: {bootstrap_servers: 'h:1', security: {password: hunter2, protocol: SASL}}}\n",
    ],
)
def test_no_fault_repeats_a_secret(tmp_path: Path, text: str) -> None:
    assert not any("hunter2" in line for line in added(tmp_path, text))


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@h:1", "redis://u:hunter2@h", "redis://user:hunter2", "redis://u:hunt/er2@h:1"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    found = changed(tmp_path, "redis://127.0.0.1:6379", url)
    assert found[0].startswith("fleet.yaml:12: instances[0].sites[0].url: must ")
    assert not any("hunt" in line for line in found)


def test_what_is_shown_masks_every_secret(tmp_path: Path) -> None:
    text = f"""\
api: {{enabled: true, api_key: {KEY}}}
alerting: {{receivers: [{{name: chat, slack: {{webhook_url: "https://hooks.example.com/{KEY}"}}}}]}}
"""
    fleet = load(written(tmp_path, GOOD + text), {})
    told = json.dumps(shown(fleet))
    assert KEY not in told and KEY not in repr(fleet)
    assert shown(fleet)["api"]["api_key"] == "**********"


def test_what_is_shown_masks_credentials_in_an_address(tmp_path: Path) -> None:
    route53 = '{hosted_zone_id: Z0001, endpoint_url: "https://user:hunter2@r53.example.com/x"}'
    fleet = load(written(tmp_path, GOOD.replace("{hosted_zone_id: Z0001}", route53)), {})
    assert shown(fleet)["dns"]["main"]["route53"]["endpoint_url"] == "https://***@r53.example.com/x"


# --- what others could reach --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "127.example.com", "localhost.example.com"])
def test_an_api_that_others_reach_needs_a_key(tmp_path: Path, host: str) -> None:
    assert added(tmp_path, f"api: {{enabled: true, host: '{host}'}}\n") == [
        f"fleet.yaml:19: api.api_key_file: is missing: the API on {host} needs a key"
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_an_api_on_this_machine_alone_needs_none(tmp_path: Path, host: str) -> None:
    load(written(tmp_path, GOOD + f"api: {{enabled: true, host: '{host}'}}\n"), {})


def test_grpc_that_others_reach_needs_a_key_or_certificates_of_clients(tmp_path: Path) -> None:
    said = (
        "fleet.yaml:19: grpc.host: 0.0.0.0 is reachable by others, and orders need no proof: "
        "give grpc.api_key_file, or grpc.tls with client_ca_file"
    )
    pem = written(tmp_path, "", "pem")
    tls = f"tls: {{cert_file: {pem}, key_file: {pem}"
    assert added(tmp_path, "grpc: {host: 0.0.0.0}\n") == [said]
    assert added(tmp_path, f"grpc: {{host: 0.0.0.0, {tls}}}}}\n") == [said]  # TLS alone proves the server only
    for right in (f"api_key: {KEY}", f"{tls}, client_ca_file: {pem}}}"):
        load(written(tmp_path, GOOD + f"grpc: {{host: 0.0.0.0, {right}}}\n"), {})


# --- the environment ----------------------------------------------------------------------------------------------


def overridden(tmp_path: Path, **variables: str) -> Fleet:
    return load(written(tmp_path, GOOD), {f"REDIS_AGENT__{name}": value for name, value in variables.items()})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    fleet = overridden(
        tmp_path,
        COLLECTOR__VANTAGE="dc-west",
        FAILOVER__QUORUM="3",
        API__ENABLED="true",
        LOG__EMBEDDED__PATH="/var/lib/log.db",
        GRPC__PORTS__COLLECTOR="6000",
        TELEMETRY__PROMETHEUS_PORT="null",
    )
    assert fleet.collector.vantage == "dc-west"
    assert (fleet.failover.quorum, fleet.api.enabled, fleet.grpc.port("collector")) == (3, True, 6000)
    assert fleet.log.embedded is not None and str(fleet.log.embedded.path) == "/var/lib/log.db"


def test_other_variables_are_none_of_ours(tmp_path: Path) -> None:
    variables = {"REDIS_AGENT_CONFIG": "x", "REDIS_AGENT_PARENT": "1", "PATH": "/bin", "redis_agent__api__port": "x"}
    assert load(written(tmp_path, GOOD), variables) == load(written(tmp_path, GOOD), {})


def test_an_overridden_section_may_be_empty_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "failover:\n")
    assert load(path, {"REDIS_AGENT__FAILOVER__QUORUM": "3"}).failover.quorum == 3


def test_a_secret_from_the_environment_is_text_and_replaces_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "api: {enabled: true, api_key_file: /nowhere/key}\n")
    digits = "31415926535897932384"
    assert load(path, {"REDIS_AGENT__API__API_KEY": digits}).api.reveal("api_key") == digits


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "COLLECTOR__VANTAGE",
            "DC!",
            "REDIS_AGENT__COLLECTOR__VANTAGE: collector.vantage: must be lower-case letters, digits and dashes (got 'DC!')",
        ),
        ("COLECTOR__VANTAGE", "a", "REDIS_AGENT__COLECTOR__VANTAGE: colector: unknown key; known here: alerting, api,"),
        ("COLLECTOR", "x", "REDIS_AGENT__COLLECTOR: collector: must be a section with vantage (got 'x')"),
        ("API__HOST", "[::", "REDIS_AGENT__API__HOST: its value isn't YAML; put it in quotes within the quotes"),
        (
            "INSTANCES__0__ID",
            "x",
            "REDIS_AGENT__INSTANCES__0__ID: instances isn't a section; only keys of sections can be overridden",
        ),
        ("", "x", "REDIS_AGENT__: names no key; write REDIS_AGENT__SECTION__KEY"),
        ("API____PORT", "1", "REDIS_AGENT__API____PORT: names no key; write REDIS_AGENT__SECTION__KEY"),
    ],
)
def test_a_fault_of_a_variable_names_the_variable(tmp_path: Path, name: str, value: str, said: str) -> None:
    (found,) = faults(written(tmp_path, GOOD), {f"REDIS_AGENT__{name}": value})
    assert found.startswith(said)
