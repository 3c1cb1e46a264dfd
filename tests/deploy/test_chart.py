"""What the chart makes, of default values and of all of them."""

import json
import re
import tarfile
import tomllib
from itertools import chain, product

import pytest
import yaml
from stepup_tests.deploy.decisions import DECISIONS, read_from_pipe
from stepup_tests.deploy.tools import CHART, FULL
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.places import ROOT

from stepup.settings import DatabaseSettings, Settings, load
from stepup.settings.web import WebSettings

# The first that the chart allows, and the newest that there are schemas of.
VERSIONS = ["1.30", "1.37"]
MONITORING = ROOT / "deploy" / "monitoring"
URLS = {
    "STEPUP_STORAGE__DATABASE_URL": "postgresql+asyncpg://stepup:secret@db/stepup?ssl=verify-full",
    "STEPUP_STORAGE__REDIS_URL": "rediss://:secret@valkey:6379/0",
}
WITHOUT_SCHEMA = {"PrometheusRule", "ServiceMonitor"}


@pytest.fixture(scope="module", params=[(), FULL], ids=["default", "full"])
def objects(tools, request):
    return tools.rendered(*request.param)


@pytest.fixture(scope="module")
def full(tools):
    return tools.rendered(*FULL)


def only(objects, kind, name="stepup"):
    [found] = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.fixture
def load_from(tmp_path, monkeypatch):
    """Loads the settings that the ConfigMap of a release holds."""

    def load_from(objects):
        for name, value in URLS.items():
            monkeypatch.setenv(name, value)
        file = tmp_path / "stepup.toml"
        file.write_text(only(objects, "ConfigMap")["data"]["stepup.toml"])
        return load(file)

    return load_from


def pods(objects):
    return [each["spec"]["template"]["spec"] for each in objects if each["kind"] in _WORKLOADS]


_WORKLOADS = {"Deployment", "Job"}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(tools, tmp_path, objects, version):
    known = [each for each in objects if each["kind"] not in WITHOUT_SCHEMA]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(known))
    arguments = ("--strict", "--kubernetes-version", version, file)
    validated = tools.run("kubernetes-validate", *arguments)
    assert validated.returncode == 0, validated.stdout + validated.stderr
    assert validated.stdout.count(" passed ") == len(known)


def test_an_object_that_kubernetes_would_refuse_is_found(tools, tmp_path, full):
    deployment = only(full, "Deployment")
    deployment = deployment | {"spec": deployment["spec"] | {"replica": 3}}
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump(deployment))
    arguments = ("--strict", "--kubernetes-version", VERSIONS[-1], tmp_path / "objects.yaml")
    assert tools.run("kubernetes-validate", *arguments).returncode


def test_all_values_make_all_objects(full):
    assert {each["kind"] for each in full} == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PrometheusRule",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    }


def test_alerts_and_dashboard_are_wanted_before_they_are_there(tools):
    rendered = tools.rendered()
    names = {(each["kind"], each["metadata"]["name"]) for each in rendered}
    assert not names & {("PrometheusRule", "stepup"), ("ConfigMap", "stepup-dashboard")}


def test_the_alerts_are_those_that_are_tested_and_lead_to_the_runbooks(full):
    text = (MONITORING / "alerts.yaml").read_text()
    expected = text.replace("docs/runbooks.md#", "https://wiki.example/stepup#")
    assert only(full, "PrometheusRule")["spec"] == yaml.safe_load(expected)


def test_the_dashboard_is_the_one_that_is_tested(full):
    dashboard = only(full, "ConfigMap", "stepup-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["stepup.json"]) == json.loads(
        (MONITORING / "dashboard.json").read_text()
    )


def test_alerts_find_a_release_by_any_name(tools):
    # The Prometheus Operator takes the Service's name for the job.
    rendered = tools.run("helm", "template", "eu-west", CHART, *FULL)
    services = [each for each in yaml.safe_load_all(rendered.stdout) if each["kind"] == "Service"]
    assert services
    jobs = set(re.findall(r'job=~"([^"]*)"', (MONITORING / "alerts.yaml").read_text()))
    for service, job in product(services, jobs):
        assert re.fullmatch(job, service["metadata"]["name"])


def test_a_packaged_chart_has_alerts_and_dashboard_in_it(tools, tmp_path):
    packaged = tools.run("helm", "package", CHART, "--destination", tmp_path)
    assert packaged.returncode == 0, packaged.stderr
    [archive] = tmp_path.iterdir()
    with tarfile.open(archive) as chart:
        for name in ("alerts.yaml", "dashboard.json"):
            file = chart.extractfile(f"stepup/monitoring/{name}")
            assert file.read() == (MONITORING / name).read_bytes()


def test_a_server_would_start_with_the_configuration(objects, tmp_path):
    (tmp_path / "stepup.toml").write_text(only(objects, "ConfigMap")["data"]["stepup.toml"])
    checked = run([PROGRAMS / "stepup", "check-config", "--config", "stepup.toml"], tmp_path, URLS)
    assert checked.returncode == 0, checked.stderr
    # Its files are in the pod, and nothing else is warned of.
    assert checked.stderr.splitlines() == [
        (
            "stepup: warning: tls.certificate: /etc/stepup/tls/tls.crt: cannot be read: "
            "No such file or directory"
        )
    ]


def test_what_the_configuration_says_is_what_the_values_say(full, load_from):
    settings = load_from(full)
    wanted = yaml.safe_load((CHART / "ci" / "full.yaml").read_text())["config"]
    assert settings.server.drain_seconds == wanted["server"]["drain_seconds"]
    assert settings.verification.back_steps == wanted["verification"]["back_steps"]
    assert settings.callers[0].identities == tuple(wanted["callers"][0]["identities"])
    assert settings.callers[0].rate.burst == wanted["callers"][0]["rate"]["burst"]
    assert settings.catalogue.operations[0].title == wanted["catalogue"]["operations"][0]["title"]


def test_every_file_of_the_configuration_is_mounted(objects, load_from):
    settings = load_from(objects)
    spec = only(objects, "Deployment")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounted = {
        f"{mount['mountPath']}/{item['path']}"
        for mount in container["volumeMounts"]
        for item in _items(volumes[mount["name"]])
    }
    named = [settings.tls.certificate, settings.tls.key, settings.storage.keys_file]
    named += [settings.tls.client_ca] if settings.tls.client_ca else []
    for issuer in settings.token_issuers:
        named += [issuer.ca_file, issuer.bearer_token_file]
    assert {str(path) for path in named} <= mounted
    directories = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(settings.storage.data_dir) in directories


def _items(volume):
    """The files of a volume, by their paths in it."""
    if "projected" in volume:
        for source in volume["projected"]["sources"]:
            yield from source.get("configMap", {}).get("items", [])
            if "serviceAccountToken" in source:
                yield source["serviceAccountToken"]
    for kind in ("secret", "configMap"):
        yield from volume.get(kind, {}).get("items", [])


def test_every_pod_is_confined(objects):
    for pod in pods(objects):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod.get("initContainers", []) + pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_no_image_goes_by_a_name_that_moves(objects):
    for pod in pods(objects):
        for container in pod["containers"]:
            name, _, digest = container["image"].partition("@")
            assert digest or name.rpartition(":")[2] not in {"", "latest", name}


def test_a_pod_outlives_its_pause_and_its_calls(objects, load_from):
    spec = only(objects, "Deployment")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > pause + load_from(objects).server.drain_seconds


def test_probes_ask_what_the_server_answers(objects):
    [container] = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {
        kind: (
            container[f"{kind}Probe"]["httpGet"]["path"],
            ports[container[f"{kind}Probe"]["httpGet"]["port"]],
        )
        for kind in ("startup", "readiness", "liveness")
    }
    assert asked == {
        "startup": ("/live", 9465),
        "readiness": ("/ready", 9465),
        "liveness": ("/live", 9465),
    }


def test_no_pod_is_taken_away_before_another_serves(objects):
    assert only(objects, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_only_who_is_named_may_come_and_only_the_stores_may_be_gone_to(tools):
    spec = only(tools.rendered(), "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [(rule["from"], rule["ports"][0]["port"]) for rule in spec["ingress"]] == [
        ([{"podSelector": {"matchLabels": {"stepup-client": "true"}}}], "grpc"),
        (
            [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "metrics",
        ),
    ]
    assert sorted({port["port"] for rule in spec["egress"] for port in rule["ports"]}) == [
        53,
        5432,
        6379,
    ]


def test_nobody_may_come_where_nobody_is_named(tools):
    nobody = ("--set", "networkPolicy.callers=null", "--set", "networkPolicy.prometheus=null")
    spec = only(tools.rendered(*nobody), "NetworkPolicy")["spec"]
    assert "Ingress" in spec["policyTypes"]
    assert "ingress" not in spec


def test_the_schema_is_migrated_before_anything_else_is_there(objects):
    job = only(objects, "Job", "stepup-migration")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == ["migrate"]
    # Of the release itself nothing exists yet.
    assert "serviceAccountName" not in pod
    names = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    used = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    assert not names & used


def secrets_of(pod):
    """The Secrets whose values are in the environment of a pod's containers."""
    named = [each.get("valueFrom", {}) for each in pod["containers"][0]["env"]]
    return {each["secretKeyRef"]["name"] for each in named if "secretKeyRef" in each}


def test_s14_servers_do_not_have_the_role_that_migrates(objects):
    server = only(objects, "Deployment")["spec"]["template"]["spec"]
    job = only(objects, "Job", "stepup-migration")["spec"]["template"]["spec"]
    assert {"stepup-database", "stepup-redis"} <= secrets_of(server)
    assert "stepup-database-migrate" not in secrets_of(server)
    assert secrets_of(job) == {"stepup-database-migrate"}
    environment = job["containers"][0]["env"]
    assert {"name": "STEPUP_GRANT_TO", "value": "stepup_serve"} in environment


def named_url(pod):
    """The variables of the database, and their Secrets."""
    wanted = {"STEPUP_STORAGE__DATABASE_URL", "PGPASSWORD"}
    named = {each["name"]: each for each in pod["containers"][0]["env"]}
    return {
        name: each.get("value") or each["valueFrom"]["secretKeyRef"]
        for name, each in named.items()
        if name in wanted
    }


def test_the_database_is_a_url_in_a_secret_or_parts_with_a_password_in_one(tools, full):
    deployment = only(tools.rendered(), "Deployment")["spec"]["template"]["spec"]
    assert named_url(deployment) == {
        "STEPUP_STORAGE__DATABASE_URL": {"name": "stepup-database", "key": "url"}
    }
    server = only(full, "Deployment")["spec"]["template"]["spec"]
    job = only(full, "Job", "stepup-migration")["spec"]["template"]["spec"]
    url = "postgresql+asyncpg://{}@postgres.example:5433/mfa?ssl=verify-full"
    for pod, user, secret in (
        (server, "mfa_serve", "stepup-database"),
        (job, "mfa_migrate", "stepup-database-migrate"),
    ):
        assert named_url(pod) == {
            "STEPUP_STORAGE__DATABASE_URL": url.format(user),
            "PGPASSWORD": {"name": secret, "key": "password"},
        }


def test_operators_add_variables_and_volumes_to_each_pod(full):
    deployment = only(full, "Deployment")["spec"]["template"]["spec"]
    job = only(full, "Job", "stepup-migration")["spec"]["template"]["spec"]
    for pod, variable, volume in (
        (deployment, "VAULT_TOKEN", "vault-ca"),
        (job, "PGAPPNAME", "client"),
    ):
        [container] = pod["containers"]
        assert variable in {each["name"] for each in container["env"]}
        assert volume in {each["name"] for each in container["volumeMounts"]}
        assert volume in {each["name"] for each in pod["volumes"]}


def test_openshift_assigns_user_and_groups(tools):
    names = ("runAsUser", "runAsGroup", "fsGroup")
    assigned = ",".join(f"podSecurityContext.{name}=null" for name in names)
    default, openshift = tools.rendered(), tools.rendered("--set", assigned)
    for before, after in zip(pods(default), pods(openshift), strict=True):
        assert [before["securityContext"][name] for name in names] == [10001] * 3
        assert not set(names) & set(after["securityContext"])
        assert after["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    ("value", "name", "label"),
    [
        ("nameOverride=stepup-auth", "eu-stepup-auth", "stepup-auth"),
        ("fullnameOverride=my-stepup", "my-stepup", "stepup"),
    ],
)
def test_operators_name_the_objects(tools, value, name, label):
    done = tools.run("helm", "template", "eu", CHART, "--set", value)
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert {each["metadata"]["name"].removeprefix(name) for each in objects} == {
        "",
        "-migration",
        "-pods",
    }
    selected = only(objects, "Service", name)["spec"]["selector"]
    pod = only(objects, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
    assert selected["app.kubernetes.io/name"] == label
    assert selected.items() <= pod.items()


def sections(values, *above):
    """The paths of all sections of the values."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield ".".join((*above, name))
            yield from sections(value, *above, name)


def test_a_section_that_is_null_is_nothing_or_an_error_that_names_it(tools):
    refused = set()
    for path in sections(yaml.safe_load((CHART / "values.yaml").read_text())):
        done = tools.run("helm", "template", "stepup", CHART, "--set", f"{path}=null")
        if done.returncode:
            assert f"missing property '{path.rpartition('.')[2]}'" in done.stderr, path
            refused.add(path)
    assert {"image", "config", "tls.clientCa", "redis.ca", "autoscaling", "resources"} <= refused
    assert "config.server" not in refused


def configured_decisions(objects):
    return tomllib.loads(only(objects, "ConfigMap")["data"]["stepup.toml"])["log"]["decisions"]


def test_s13_the_sidecar_has_decisions_in_a_log_of_its_own(full, tmp_path):
    pod = only(full, "Deployment")["spec"]["template"]["spec"]
    [sidecar] = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert read_from_pipe(sidecar["command"], configured_decisions(full), tmp_path) == DECISIONS
    mount = {"name": "decisions", "mountPath": "/var/log/stepup"}
    assert mount in sidecar["volumeMounts"]
    assert mount in pod["containers"][0]["volumeMounts"]


def test_s13_each_pod_writes_a_file_of_its_own_on_a_volume(tools):
    volume = "decisionLog.volume.persistentVolumeClaim.claimName=decisions"
    objects = tools.rendered("--set", f"decisionLog.to=volume,{volume}")
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    claim = {"name": "decisions", "persistentVolumeClaim": {"claimName": "decisions"}}
    assert claim in pod["volumes"]
    [server] = pod["containers"]
    assert {"name": "decisions", "mountPath": "/var/log/stepup"} in server["volumeMounts"]
    names = [each["name"] for each in server["env"]]
    assert names.index("POD_NAME") < names.index("STEPUP_LOG__DECISIONS")
    file = {"name": "STEPUP_LOG__DECISIONS", "value": "/var/log/stepup/$(POD_NAME).jsonl"}
    assert file in server["env"]


def test_decisions_are_on_standard_output_by_default(tools):
    objects = tools.rendered()
    assert configured_decisions(objects) == "-"
    assert "initContainers" not in only(objects, "Deployment")["spec"]["template"]["spec"]


def test_a_changed_configuration_changes_the_pods(tools):
    def annotation(*arguments):
        template = only(tools.rendered(*arguments), "Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/config"]

    assert annotation() != annotation("--set", "config.log.level=debug")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("replica=2", "replica"),
        ("config.server.listen=0.0.0.0:1", "listen"),
        ("config.storage.redis_url=redis://r", "storage"),
        ("config.log.decisions=x", "decisions"),
        ("image.tag=latest", "tag"),
        ("decisionLog.to=volume", "name a volume source"),
        ("decisionLog.to=file", "decisionLog"),
        ("tls.clientCa.enabled=false", "callers must have credentials"),
        ("config.storage.data_dir=/data", "data_dir"),
        ("extraEnv[0].name=STEPUP_SERVER__LISTEN", "extraEnv: STEPUP_SERVER__LISTEN"),
        ("migration.extraEnv[0].name=stepup_grant_to", "extraEnv: stepup_grant_to"),
        ("autoscaling.enabled=true,resources.requests.cpu=null", "resources.requests.cpu"),
        ("autoscaling.enabled=true,resources.requests=null", "resources.requests.cpu"),
        (
            "autoscaling.enabled=true,decisionLog.to=sidecar,decisionLog.resources.requests.cpu=0",
            "decisionLog.resources.requests.cpu",
        ),
        ("database.host=db,database.port=6432", "networkPolicy.database.port: 5432"),
        ("database.host=db/other", "host"),
        ("prometheusRule.enabled=true,fullnameOverride=mfa", "fullnameOverride"),
    ],
)
def test_values_that_make_no_sense_are_refused(tools, value, word):
    assert word in tools.refusal("--set", value)


def test_the_values_know_every_setting_that_is_not_the_charts():
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    config = schema["properties"]["config"]["properties"]
    charts = {"metrics", "probes", "tls"}
    assert set(config) == set(Settings.model_fields) - charts
    of_section = {
        name: set(Settings.model_fields[name].annotation.model_fields)
        for name in ("server", "identity", "verification", "retention", "log", "catalogue")
    }
    storage = config["storage"]["properties"]
    assert set(storage) == {"database"}
    assert set(storage["database"]["properties"]) == set(DatabaseSettings.model_fields)
    # One process per pod.
    charts_own = {
        "server": {
            "listen",
            "insecure",
            "insecure_anyone_on_the_network_is_trusted",
            "socket_group_may_connect",
            "workers",
        },
        "log": {"format", "decisions"},
    }
    for name, fields in of_section.items():
        assert set(config[name]["properties"]) == fields - charts_own.get(name, set())


def test_no_value_is_unused():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    assert not [name for name in chain(values) if f".Values.{name}" not in templates]


def test_s20_the_web_process_has_no_store_and_no_key_of_the_servers(full):
    [pod] = [each for each in pods(full) if each["containers"][0]["name"] == "web"]
    secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert secrets == {"web-client", "web-tls"}
    assert "env" not in pod["containers"][0]
    policy = only(full, "NetworkPolicy", "stepup-web")["spec"]
    [names, servers] = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    [peer] = servers["to"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"
    assert servers["ports"] == [{"port": 50051, "protocol": "TCP"}]
    browsers = policy["ingress"][0]
    assert browsers["from"] == [{"ipBlock": {"cidr": "10.8.0.0/16"}}]


def test_the_web_process_would_start_with_its_configuration(full):
    text = only(full, "ConfigMap", "stepup-web")["data"]["web.toml"]
    settings = WebSettings(**tomllib.loads(text))
    assert (settings.core.target, settings.core.token_file.name) == ("stepup.mesh:50051", "token")
    server = tomllib.loads(only(full, "ConfigMap")["data"]["stepup.toml"])
    assert server["portal"]["public_url"] == settings.public_url == "https://mfa.example"


def test_the_web_process_is_there_only_if_it_is_wanted(tools):
    assert not [each for each in tools.rendered() if each["metadata"]["name"].endswith("-web")]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("web.config.trusted_proxies={10.0.0.0/8}", "web.config.public_url"),
        ("web.config.public_url=https://mfa.example", "browsers need TLS"),
    ],
)
def test_the_web_process_needs_an_origin_and_tls(tools, value, problem):
    assert problem in tools.refusal("--set", "web.enabled=true", "--set", value)
