"""Requests of compare.py about what runs on an agent; see corpus.py."""

import json
from urllib.parse import quote

SERVICE = "/v1/agent/service/register"
CHECK = "/v1/agent/check/register"
# Long enough that no check looks, and no deadline passes, while the comparison runs.
LATER = "24h"


def service(query="", **body):
    return ("PUT", SERVICE + query, json.dumps(body))


def check(**body):
    return ("PUT", CHECK, json.dumps(body))


def proxy(**said):
    """A proxy that says this, and the rest of what one must say."""
    return service(Name="pp", Kind="connect-proxy", Port=5, Proxy={"DestinationServiceName": "web", **said})


LABELS = {f"k{number}": "v" for number in range(65)}

REFUSED_SERVICES = [
    "",
    "{",
    "null",
    "{}",
    '{"Bogus":1}',
    '{"Name":5}',
    '{"name":"a","ID":5}',
    '{"Name":"x","Tags":"a"}',
    '{"Name":"x","Tags":[1]}',
    '{"Name":"x","Port":"80"}',
    '{"Name":"x","Port":1.5}',
    '{"Name":"x","Meta":{"a":1}}',
    '{"Name":"x","Meta":[]}',
    '{"Name":"x","Kind":1}',
    '{"Name":"x","EnableTagOverride":1}',
    '{"Name":"x","TaggedAddresses":{"lan":"1.2.3.4"}}',
    '{"Name":"x","TaggedAddresses":{"lan":{"Bogus":"1.2.3.4"}}}',
    '{"Name":"x","TaggedAddresses":[]}',
    '{"Name":"x","Weights":{}}',
    '{"Name":"x","Weights":{"Passing":-1}}',
    '{"Name":"x","Weights":{"Passing":1,"Warning":-1}}',
    '{"Name":"x","Weights":{"Passing":70000}}',
    '{"Name":"x","Weights":{"Passing":1,"Warning":70000}}',
    '{"Name":"x","Weights":{"Bogus":1}}',
    '{"Name":"x","Address":"0.0.0.0"}',
    '{"Name":"x","Address":"::"}',
    '{"Name":"x","Address":"[::]","Weights":{}}',
    '{"Address":"::"}',
    '{"Name":"x","Meta":{"":"x"}}',
    '{"Name":"x","Meta":{"a.b":"x"}}',
    '{"Name":"x","Meta":{"consul-foo":"x"}}',
    json.dumps({"Name": "x", "Meta": {"k" * 129: "x"}}),
    json.dumps({"Name": "x", "Meta": {"k": "v" * 513}}),
    json.dumps({"Name": "x", "Meta": LABELS}),
    '{"Name":"x","Meta":{"a.b":"x"},"Weights":{}}',
    '{"Name":"x","Meta":{"a.b":"x"},"Check":{"HTTP":"x"}}',
    '{"Name":"x","Check":{"Bogus":1}}',
    '{"Name":"x","Check":{"ID":"a"}}',
    '{"Name":"x","Check":{"Token":"a"}}',
    '{"Name":"x","Check":{"Script":"ls"}}',
    '{"Name":"x","Check":{"TTL":"abc"}}',
    '{"Name":"x","Check":{"TTL":"10"}}',
    '{"Name":"x","Check":{"Interval":"abc"}}',
    '{"Name":"x","Check":{"TTL":"-5s"}}',
    '{"Name":"x","Check":{"Status":"foo","TTL":"10s"}}',
    '{"Name":"x","Check":{"HTTP":"x","Status":"foo"}}',
    '{"Name":"x","Check":{"Status":"Passing","TTL":"10s"}}',
    '{"Name":"x","Checks":[{}]}',
    '{"Name":"x","Check":{"HTTP":"http://x"}}',
    '{"Name":"x","Check":{"HTTP":"http://x","TTL":"5s","Interval":"5s"}}',
    '{"Name":"x","Check":{"OutputMaxSize":-1,"TTL":"5s"}}',
    '{"Name":"x","Check":{"Args":["ls"],"Interval":"5s"}}',
    '{"Name":"x","Check":{"DockerContainerID":"a","Interval":"5s"}}',
    '{"Name":"x","Check":{"DockerContainerID":"a","Args":["ls"],"Interval":"5s"}}',
    '{"Name":"x","Check":{"Timeout":"5s"}}',
    '{"Name":"x","Check":{"AliasService":"web","TTL":"5s"}}',
    '{"Name":"x","Namespace":"a"}',
    '{"Name":"x","SocketPath":"a"}',
    '{"Name":"x","Datacenter":"a"}',
    '{"Name":"x","Kind":"connect-proxy"}',
    '{"Name":"x","Kind":"connect-proxy","Connect":{"Native":true}}',
    '{"Name":"x","Kind":"mesh-gateway"}',
    '{"Name":"x","Kind":"terminating-gateway","Port":1,"Proxy":{"DestinationServiceName":"w","Upstreams":[{}]}}',
    '{"Name":"x","Kind":"ingress-gateway","Port":4,"Proxy":{"DestinationServiceName":"a"}}',
    '{"Name":"x","Connect":{"SidecarService":{"ID":"a"}}}',
    '{"Name":"x","Connect":{"SidecarService":{"ID":"a","Connect":{"sidecar_service":{}}}}}',
    '{"Name":"x","Connect":{"SidecarService":{"Bogus":1}}}',
    '{"Name":"x","Connect":{"SidecarService":{"Meta":{"a.b":"c"}}}}',
    '{"Name":"x","Connect":{"SidecarService":{"Checks":[{}]}}}',
    '{"Name":"x","Proxy":{"Bogus":5}}',
]

REFUSED_PROXIES = [
    proxy(Upstreams=[{}]),
    proxy(Upstreams=[{"DestinationName": "a"}]),
    proxy(Upstreams=[{"DestinationType": "foo"}]),
    proxy(Upstreams=[{"DestinationName": "a", "LocalBindPort": 1}, {"DestinationName": "b", "LocalBindPort": 1}]),
    proxy(Upstreams=[{"DestinationName": "a", "LocalBindPort": 1}, {"DestinationName": "a", "LocalBindPort": 2}]),
    proxy(Expose={"Paths": [{"Path": "x"}]}),
    proxy(Expose={"Paths": [{"ListenerPort": 5}, {"ListenerPort": 5}, {"Path": "/x", "Protocol": "HTTP"}]}),
    proxy(mesh_gateway={"mode": "local"}),
    service(Name="pp", Kind="connect-proxy", Connect={"Native": True, "SidecarService": {"ID": "x"}},
            Proxy={"DestinationServiceName": " ", "Upstreams": [{}], "Expose": {"Paths": [{}]}}),
    service(Name="mg", Kind="mesh-gateway", Port=5, Connect={"SidecarService": {"ID": "x"}}, Proxy={"Expose": {"Paths": [{}]}}),
]

REFUSED_CHECKS = [
    "",
    "{",
    "null",
    "{}",
    '{"Bogus":1}',
    '{"Name":5}',
    '{"CheckID":"a","Name":"a","TTL":"5s"}',
    '{"Name":"a"}',
    '{"Name":"a","Status":"foo"}',
    '{"Name":"a","Status":"maint","TTL":"5s"}',
    '{"Name":"a","TTL":"5s","ServiceID":"nope"}',
    '{"Name":"a","TTL":"5s","service_id":"nope"}',
    '{"Name":"a","HTTP":"http://x"}',
    '{"Name":"a","GRPC":"x:1"}',
    '{"Name":"a","Args":["ls"],"Interval":"5s"}',
    '{"Name":"a","ScriptArgs":["ls"],"Interval":"5s"}',
    '{"Name":"a","script_args":["ls"],"Interval":"5s"}',
    '{"Name":"a","Args":["ls"],"Interval":"5s","ServiceID":"nope"}',
    '{"Name":"a","Args":["ls"]}',
    '{"Name":"a","TTL":"5s","Interval":"5s"}',
    '{"Name":"a","AliasService":"x","TTL":"5s"}',
    '{"Name":"a","TCP":"x:1","AliasService":"x","Interval":"10s"}',
    '{"Name":"a","OutputMaxSize":-1,"TTL":"5s"}',
    '{"Name":"a","Notes":5}',
    '{"Name":"a","Node":"x","TTL":"5s"}',
    '{"Name":"a","Type":"ttl","TTL":"5s"}',
    '{"Name":"a","Definition":{},"TTL":"5s"}',
    '{"Name":"a","ProxyHTTP":"x","TTL":"5s"}',
    '{"Name":"a","Header":{"a":"b"},"TTL":"5s"}',
    '{"Name":"a","TTL":"5s","Timeout":"x"}',
    '{"Name":"a","TTL":"5s","deregister_critical_service_after":"x"}',
    '{"Name":"a","TTL":"5s","success_before_passing":1}',
    '{"Name":"a","docker_container_id":"x","Args":["x"],"Interval":"5s"}',
    '{"Name":"a","TTL":"1e10"}',
    '{"Name":"a","TTL":""}',
    '{"Name":"a","TTL":null}',
    '{"Name":"a","Interval":"","HTTP":"x"}',
    '{"Name":"","TTL":"5s","ID":"x"}',
]

ODD_PATHS = [
    ("GET", "/v1/agent/service/nope"),
    ("GET", "/v1/agent/service/"),
    ("GET", "/v1/agent/service/x/y"),
    ("GET", "/v1/agent/service/nope?wait=zz"),
    ("GET", "/v1/agent/service/nope?hash=abc&wait=1s"),
    ("GET", "/v1/agent/service/register"),
    ("GET", "/v1/agent/service/register/x"),
    ("GET", "/v1/agent/service"),
    ("GET", "/v1/agent/check"),
    ("GET", "/v1/agent/check/"),
    ("GET", "/v1/agent/check/pass/x"),
    ("GET", "/v1/agent/health/service"),
    ("GET", "/v1/agent/health/service/id"),
    ("PUT", "/v1/agent/service/x"),
    ("PUT", "/v1/agent/service/deregister/"),
    ("PUT", "/v1/agent/service/deregister/nope"),
    ("PUT", "/v1/agent/service/deregister"),
    ("PUT", "/v1/agent/check/deregister/"),
    ("PUT", "/v1/agent/check/deregister/nope"),
    ("POST", SERVICE, "{}"),
    *[("OPTIONS", f"/v1/agent/{path}") for path in (
        "services", "checks", "service/x", "service/register", "service/deregister/x", "service/maintenance/x", "maintenance",
        "check/register", "check/deregister/x", "check/pass/x", "check/update/x", "health/service/id/x", "reload", "token/x",
        "connect/authorize", "connect/ca/roots", "connect/ca/leaf/x",
    )],
    *[("PUT", f"{path}?ns=x", "{}") for path in (SERVICE, CHECK, "/v1/agent/service/deregister/x", "/v1/agent/check/pass/x")],
    ("GET", "/v1/agent/services?ns=x"),
    ("GET", "/v1/agent/checks?ns=x"),
    ("GET", "/v1/agent/health/service/name/x?ns=x"),
]

READS = [
    ("GET", "/v1/agent/services"),
    ("GET", "/v1/agent/services?pretty"),
    ("GET", "/v1/agent/services?dc=x&stale&consistent&index=zz"),
    ("GET", "/v1/agent/checks"),
    ("GET", "/v1/agent/services", None, {"Accept-Encoding": "gzip"}),
    *[("GET", f"/v1/agent/services?filter={quote(text)}") for text in (
        "Service == full", "b in Tags", "Meta.a == `1`", "Port == 99", "Weights.Passing == 3",
        "TaggedAddresses.lan.Port == 1", "EnableTagOverride == true and ID != f1", "Bogus == 1", "Service", "Kind == `connect-proxy`",
        "Address matches `^10`",
    )],
    *[("GET", f"/v1/agent/checks?filter={quote(text)}") for text in (
        "Status == warning", "ServiceID == ck", "Type == ttl and Name != b", "Name", "ServiceTags is empty", "Notes == n",
    )],
]

# Each is registered, and then told.
REGISTERED = [
    {"Name": "bare"},
    {"Name": "full", "ID": "f1", "Tags": ["b", "a", "a"], "Address": "10.0.0.9", "Port": 99, "Meta": {"B": "2", "a": "1"},
     "TaggedAddresses": {"lan": {"Address": "1.1.1.1", "Port": 1}, "wan": {}}, "Weights": {"Passing": 3},
     "EnableTagOverride": True, "Token": "t"},
    {"name": "snake", "enable_tag_override": True, "tagged_addresses": {"x": {"Address": "a", "port": 1}}, "Kind": "typical"},
    {"Name": "six", "Address": "::1", "Port": 9},
    {"Name": "html", "Meta": {"a": "<&>\u2028"}},
    {"Name": "bad name!/\u00e9", "ID": "odd", "Tags": ["bad tag"]},
    {"Name": "native", "Connect": {"Native": True, "Bogus": 1}},
    {"Name": "unproxied", "Proxy": {"Config": {"a": 1}}, "Connect": {}},
    {"Name": "gateway", "Kind": "mesh-gateway", "Port": 5},
    {"Name": "inward", "Kind": "ingress-gateway"},
    {"Name": "pp", "Kind": "connect-proxy", "Port": 5, "Proxy": {"DestinationServiceName": "web"}},
    {"Name": "pp", "Kind": "connect-proxy", "Port": 5, "Proxy": {
        "destination_service_name": "web", "destination_service_id": "w1", "local_service_address": "9.9.9.9",
        "local_service_port": 80, "config": {"z": 2.5, "a": "x"},
        "upstreams": [
            {"destination_name": "u", "local_bind_port": 7},
            {"destination_type": "prepared_query", "destination_namespace": "default", "destination_name": "q", "datacenter": "dc9",
             "local_bind_address": "1.1.1.1", "local_bind_port": 8, "config": {"k": "v"}, "MeshGateway": {"mode": "local"}},
        ],
        "MeshGateway": {"mode": "remote"},
        "expose": {"checks": True, "paths": [{"listener_port": 1, "path": "/x", "local_path_port": 2, "protocol": "http"}]},
    }},
]

SIDECARS = [
    service(Name="web", ID="w1", Port=80, Tags=["a"], Meta={"k": "v"}, Address="10.0.0.1", Weights={"Passing": 5, "Warning": 2},
            EnableTagOverride=True, Connect={"SidecarService": {"Check": {"TTL": LATER}}}),
    ("GET", "/v1/agent/service/w1"),
    ("GET", "/v1/agent/service/w1-sidecar-proxy"),
    service(Name="db", Port=81, Connect={"sidecar_service": {
        "Name": "foo", "Port": 5000, "Tags": [], "Meta": {"z": "y"}, "Address": "1.2.3.4", "Check": {"TTL": LATER},
        "Proxy": {"Upstreams": [{"DestinationName": "web", "LocalBindPort": 9}], "local_service_address": "1.1.1.1"},
    }}),
    ("GET", "/v1/agent/service/db-sidecar-proxy"),
    ("GET", "/v1/agent/checks?filter=ServiceID==" + quote('"db-sidecar-proxy"')),
    service(Name="c", Connect={"SidecarService": {"Weights": {"Passing": 9, "Warning": 3}, "Check": {"TTL": LATER}}}),
    ("GET", "/v1/agent/service/c-sidecar-proxy"),
    service(Name="c"),
    ("GET", "/v1/agent/service/c-sidecar-proxy"),
    *[("PUT", f"/v1/agent/service/deregister/{name}") for name in ("c", "w1", "db")],
    ("GET", "/v1/agent/services?filter=ID+contains+sidecar"),
]

CHECKS = [
    check(name="b", ID="bb", ttl=LATER, NOTES="n", Token="t"),
    check(Name="warns", TTL=86_400_000_000_000, Status="warning"),
    check(Name="spelled", TTL=LATER, deregister_critical_service_after="1m", tls_skip_verify=True, docker_container_id="x",
          Shell="sh", Header=None, Args=[], GRPCUseTLS=True, SuccessBeforePassing=-1),
    service(Name="ck", Check={"TTL": LATER}, Checks=[
        {"TTL": LATER, "CheckID": "mine", "Name": "nm", "Notes": "no", "Status": "passing", "ServiceID": "x"},
        {"TTL": LATER, "Status": "warning"},
    ]),
    ("GET", "/v1/agent/checks"),
    service("?replace-existing-checks=1", Name="ck", Check={"TTL": LATER}),
    ("GET", "/v1/agent/checks?filter=ServiceID==ck"),
    service("?replace-existing-checks", Name="ck", Check={"TTL": LATER}),
    ("GET", "/v1/agent/checks?filter=ServiceID==ck"),
    service(Name="ck", Check={}),
    service(Name="ck", Check={"TTL": "0s"}),
    service("?replace-existing-checks=true", Name="ck"),
    ("GET", "/v1/agent/checks?filter=ServiceID==ck"),
    service(Name="ck", Check={"TTL": LATER, "Status": "passing"}),
    ("PUT", "/v1/agent/check/pass/bb?note=hello+%3C"),
    ("PUT", "/v1/agent/check/warn/bb"),
    ("GET", "/v1/agent/checks?filter=CheckID==bb"),
    ("PUT", "/v1/agent/check/fail/bb?note="),
    ("GET", "/v1/agent/checks?filter=CheckID==bb"),
    *[("PUT", "/v1/agent/check/update/bb", body) for body in (
        "", "{", "null", "{}", "[]", '{"Status":"foo"}', '{"Status":"passing","Output":"o"}', '{"Status":"passing","Bogus":"o"}',
        '{"Status":5}', '{"status":"warning","output":"x"}',
    )],
    ("GET", "/v1/agent/checks?filter=CheckID==bb"),
    ("PUT", "/v1/agent/check/update/nope", '{"Status":"passing"}'),
    ("PUT", "/v1/agent/check/update/", '{"Status":"passing"}'),
    *[("PUT", f"/v1/agent/check/{how}/nope") for how in ("pass", "warn", "fail")],
    ("PUT", "/v1/agent/check/pass/"),
    ("PUT", "/v1/agent/check/pass/c%2Fd"),
    # Registered again it keeps what it was told.
    check(Name="b", ID="bb", TTL=LATER, Status="passing"),
    ("GET", "/v1/agent/checks?filter=CheckID==bb"),
    *READS,
    *[("PUT", f"/v1/agent/check/deregister/{name}") for name in ("bb", "warns", "spelled")],
    ("GET", "/v1/agent/checks"),
]

HEALTH = [
    *[("GET", f"/v1/agent/health/service/{path}{query}") for path in ("id/ck", "name/ck", "id/bare", "id/", "name/", "name/nope")
      for query in ("", "?format=text", "?format=bogus")],
    ("GET", "/v1/agent/health/service/id/ck", None, {"Accept": "text/plain"}),
    ("GET", "/v1/agent/health/service/id/nope"),
    ("PUT", "/v1/agent/check/warn/service:ck?note=hm"),
    ("GET", "/v1/agent/health/service/id/ck"),
    ("GET", "/v1/agent/health/service/name/ck?format=text"),
    ("PUT", "/v1/agent/check/fail/service:ck"),
    ("GET", "/v1/agent/health/service/name/ck"),
    ("GET", "/v1/agent/health/service/id/ck?format=text"),
    ("PUT", "/v1/agent/service/deregister/ck"),
]

MAINTENANCE = [
    *[("PUT", f"/v1/agent/{path}") for path in (
        "service/maintenance/", "service/maintenance/?enable=true", "service/maintenance/nope?enable=true",
        "service/maintenance/bare", "service/maintenance/bare?enable", "service/maintenance/bare?enable=maybe",
        "service/maintenance/bare?enable=T&reason=because", "service/maintenance/bare?enable=true&reason=other",
    )],
    ("GET", "/v1/agent/checks"),
    ("GET", "/v1/agent/health/service/id/bare"),
    ("GET", "/v1/agent/health/service/name/bare?format=text"),
    ("PUT", "/v1/agent/service/maintenance/bare?enable=f"),
    *[("PUT", f"/v1/agent/{path}") for path in (
        "maintenance", "maintenance?enable", "maintenance?enable=maybe", "maintenance?enable=TRUE", "maintenance?enable=1&reason=x",
    )],
    ("GET", "/v1/agent/checks"),
    ("PUT", "/v1/agent/maintenance?enable=0"),
    ("PUT", "/v1/agent/maintenance?enable=false"),
    ("GET", "/v1/agent/checks"),
    ("PUT", "/v1/agent/reload"),
    ("GET", "/v1/agent/services?filter=ID==bare"),
]

WAITS = [
    ("GET", "/v1/agent/service/bare?wait=zz"),
    ("GET", "/v1/agent/service/bare?hash=&wait=1s"),
    ("GET", "/v1/agent/service/bare?hash=other&wait=5s"),
    ("GET", "/v1/agent/service/bare?hash={hash:bare}&wait=100ms"),
    ("GET", "/v1/agent/service/bare?index=5"),
    ("GET", "/v1/agent/service/bare?ns=x"),
    ("GET", "/v1/agent/service/bare?pretty"),
]

NO_ID = "5d2f6a1e-6f0c-4d8e-9f55-1f2a3b4c5d6e"
AUTHORIZE = "/v1/agent/connect/authorize"
CALLER = "spiffe://a.consul/ns/default/dc/dc1/svc/web"

NO_MESH = [
    ("GET", "/v1/agent/connect/ca/roots"),
    ("GET", "/v1/agent/connect/ca/roots?stale&consistent"),
    ("GET", "/v1/agent/connect/ca/leaf/web"),
    ("GET", "/v1/agent/connect/ca/leaf/web?wait=zz"),
    ("GET", "/v1/connect/ca/roots"),
    ("GET", "/v1/connect/ca/roots?pem=true"),
    ("GET", "/v1/connect/ca/configuration"),
    ("PUT", "/v1/connect/ca/configuration"),
    ("PUT", "/v1/connect/ca/configuration", '{"Provider":"consul","Config":{}}'),
    ("GET", "/v1/discovery-chain/"),
    ("GET", "/v1/discovery-chain/web"),
    ("GET", "/v1/discovery-chain/web?ns=x"),
    ("POST", "/v1/discovery-chain/web", "{}"),
    ("POST", "/v1/discovery-chain/web", "{"),
    *[("POST", AUTHORIZE, body) for body in (
        "", "{}", '{"Bogus":1}', '{"Target":"web"}', '{"Target":"web","ClientCertURI":"x"}', "[]", '{"Target":5}',
        json.dumps({"Target": "web", "ClientCertURI": CALLER, "ClientCertSerial": "1"}),
    )],
    *[("GET", f"/v1/connect/intentions{path}") for path in (
        "", "?filter=SourceName==a", "?filter=Bogus==a", "?stale&consistent", "?dc=mars", "/match", "/match?by=source",
        "/match?by=x&name=y", "/match?by=source&name=x", "/match?by=destination&name=x&name=y", "/check", "/check?source=a",
        "/check?source=a&destination=b", "/check?source=a&destination=b&source-type=x", "/x", "/exact", f"/{NO_ID}",
    )],
    ("POST", "/v1/connect/intentions"),
    ("POST", "/v1/connect/intentions", "{}"),
    ("PUT", "/v1/connect/intentions/x", ""),
    ("PUT", "/v1/connect/intentions/x", "{}"),
    ("PUT", f"/v1/connect/intentions/{NO_ID}", '{"SourceName":"a","DestinationName":"b","Action":"allow"}'),
    ("DELETE", "/v1/connect/intentions/x"),
    ("DELETE", f"/v1/connect/intentions/{NO_ID}"),
    ("OPTIONS", "/v1/connect/intentions"),
    ("OPTIONS", "/v1/config/x"),
    *[("GET", f"/v1/config{path}") for path in (
        "", "/", "/service-defaults", "/proxy-defaults", "/service-router/x", "/service-defaults/", "/service-defaults/a/b", "/bogus",
        "/bogus/x", "/mesh", "/service-defaults?index=zz", "/service-defaults?stale&consistent", "/service-defaults?dc=mars",
        "/service-defaults?ns=x",
    )],
    *[("PUT", "/v1/config", body) for body in ("", "{", "{}", "[]", '{"Kind":5}', '{"Kind":"x"}', '{"kind":"bogus","name":"x"}')],
    *[("DELETE", f"/v1/config{path}") for path in ("/", "/service-defaults", "/service-defaults/x", "/bogus", "/bogus/x")],
]

NO_LISTS = [
    ("PUT", "/v1/agent/token/default", '{"Token":"x"}'),
    ("PUT", "/v1/agent/token/"),
    ("GET", "/v1/agent/token/x"),
    ("PUT", "/v1/agent/token"),
    ("POST", "/v1/internal/acl/authorize", "[]"),
    *[(method, f"/v1/acl/{path}", "{}" if method in ("PUT", "POST") else None) for path in (
        "bootstrap", "login", "replication", "policies", "policy", "policy/x", "policy/name/x", "roles", "role/x", "role/name/x",
        "binding-rules", "binding-rule/x", "auth-methods", "auth-method/x", "rules/translate", "rules/translate/x", "tokens", "token",
        "token/self", "token/x", "create", "destroy/x", "info/x", "clone/x", "list", "templated-policies",
    ) for method in ("GET", "PUT", "POST", "DELETE")],
    *[("OPTIONS", f"/v1/acl/{path}") for path in ("policy", "policy/", "token/self", "rules/translate")],
]

# What differs on purpose.
PORT = service(Name="x", Port=70_000)
TWICE = service(Name="twice", Checks=[{"CheckID": "a", "TTL": LATER}, {"CheckID": "a", "TTL": LATER}])
NULL_CHECK = service(Name="x", Checks=[None])
TRUE_TTL = check(Name="true", TTL=True)
LATER_CHECKS = [
    check(Name="udp", UDP="127.0.0.1:1", Interval=LATER),
    check(Name="ping", H2PING="127.0.0.1:1", Interval=LATER),
    check(Name="slowly", TTL=LATER, FailuresBeforeWarning=1, FailuresBeforeCritical=2),
]
OTHER_LETTERS = ("GET", "/v1/agent/service/BARE")
LONG_TAG = service(Name="long", Tags=["t" * 600])
NOT_THERE = ("GET", "/v1/agent/health/service/id/nope?format=text")
UNKNOWN_SELECTOR = ("GET", "/v1/agent/checks?filter=Bogus==1")
ENTRY = ("PUT", "/v1/config", '{"Kind":"service-defaults","Name":"web"}')
NO_JSON = ("PUT", SERVICE, "garbage")

PURPOSE = [
    PORT, TWICE, NULL_CHECK, TRUE_TTL, *LATER_CHECKS, OTHER_LETTERS, LONG_TAG, NOT_THERE, check(Name="one", TTL=LATER), UNKNOWN_SELECTOR,
    NO_JSON, ENTRY,
]

LOCAL = {
    "what cannot run here": [
        *[("PUT", SERVICE, body) for body in REFUSED_SERVICES],
        *REFUSED_PROXIES,
        *[("PUT", CHECK, body) for body in REFUSED_CHECKS],
        *ODD_PATHS,
        ("GET", "/v1/agent/services"),
        ("GET", "/v1/agent/checks"),
    ],
    "what runs here": [
        *[request for body in REGISTERED for request in (
            ("PUT", SERVICE, json.dumps(body)),
            ("GET", f"/v1/agent/service/{body.get('ID') or body.get('Name') or body['name']}"),
        )],
        *SIDECARS,
        *WAITS,
    ],
    "how well it is": [*CHECKS, *HEALTH, *MAINTENANCE],
    "no mesh": NO_MESH,
    "no access control lists": NO_LISTS,
    "what runs here, on purpose otherwise": PURPOSE,
    "nothing runs here any more": [
        *[("PUT", f"/v1/agent/service/deregister/{name}") for name in (
            "bare", "f1", "snake", "six", "html", "odd", "native", "unproxied", "gateway", "inward", "pp",
        )],
        ("GET", "/v1/agent/services?filter=ID!=twice+and+ID!=x+and+ID!=long"),
    ],
}
