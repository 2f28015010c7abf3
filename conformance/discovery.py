"""Requests of compare.py about nodes, services and checks; see corpus.py."""

import json
from urllib.parse import quote

NODE = {
    "ID": "5d2f6a1e-6f0c-4d8e-9f55-1f2a3b4c5d6e", "Node": "cat-1", "Address": "10.1.0.1",
    "TaggedAddresses": {"lan": "10.1.0.1", "wan": "192.0.2.1"}, "NodeMeta": {"rack": "r1", "odd": "<&>"},
}


def register(**body):
    return ("PUT", "/v1/catalog/register", json.dumps(body))


def deregister(**body):
    return ("PUT", "/v1/catalog/deregister", json.dumps(body))


# Both servers are nodes of their own catalogs, and describe themselves differently: lists are asked for what the requests made.
OURS = "filter=Node+matches+`^cat-`"

READS = [
    f"/v1/catalog/nodes?{OURS}",
    "/v1/catalog/nodes?node-meta=rack:r1",
    "/v1/catalog/nodes?node-meta=rack:r1&node-meta=odd:none",
    "/v1/catalog/nodes?node-meta=rack",
    f"/v1/catalog/nodes?near=nobody&{OURS}",
    "/v1/catalog/services?node-meta=odd:%3C%26%3E%20",
    "/v1/catalog/services?node-meta=rack:r9",
    "/v1/catalog/service/web",
    "/v1/catalog/service/WEB",
    "/v1/catalog/service/web?tag=A",
    "/v1/catalog/service/web?tag=a&tag=b",
    "/v1/catalog/service/web?tag=",
    "/v1/catalog/service/web?tag=none",
    "/v1/catalog/service/web?node-meta=rack:r1",
    "/v1/catalog/service/web?consistent",
    "/v1/catalog/service/web?stale",
    "/v1/catalog/service/web?pretty",
    "/v1/catalog/service/none",
    "/v1/catalog/connect/web",
    "/v1/catalog/connect/native",
    "/v1/catalog/connect/none",
    "/v1/catalog/node/cat-1",
    "/v1/catalog/node/CAT-2",
    "/v1/catalog/node-services/cat-1",
    "/v1/catalog/node-services/cat-2",
    "/v1/health/node/cat-1",
    "/v1/health/node/cat-2",
    "/v1/health/node/none",
    "/v1/health/checks/web",
    "/v1/health/checks/web?node-meta=rack:r1",
    "/v1/health/checks/none",
    f"/v1/health/state/any?{OURS}",
    f"/v1/health/state/passing?{OURS}",
    f"/v1/health/state/warning?{OURS}",
    f"/v1/health/state/critical?{OURS}",
    f"/v1/health/state/critical?node-meta=rack:r1&{OURS}",
    "/v1/health/state/ANY",
    "/v1/health/service/web",
    "/v1/health/service/web?passing",
    "/v1/health/service/web?passing=false",
    "/v1/health/service/web?passing=T",
    "/v1/health/service/web?tag=a",
    "/v1/health/service/web?tag=a&passing&node-meta=rack:r1",
    "/v1/health/service/web?stale&max_stale=10s",
    "/v1/health/connect/web",
    "/v1/health/connect/native?passing",
    "/v1/health/service/none",
]

REFUSED_READS = [
    "/v1/catalog/service/",
    "/v1/catalog/connect/",
    "/v1/catalog/node/",
    "/v1/catalog/node-services/",
    "/v1/catalog/gateway-services/",
    "/v1/health/node/",
    "/v1/health/checks/",
    "/v1/health/state/",
    "/v1/health/service/",
    "/v1/health/connect/",
    "/v1/health/ingress/",
    "/v1/health/service/web?passing=maybe",
    "/v1/health/service/web?ns=x",
    "/v1/catalog/services?ns=x",
    "/v1/catalog/node/cat-1?ns=x",
    "/v1/health/service/web?dc=mars",
    "/v1/catalog/nodes?dc=mars",
    "/v1/health/service/web?stale&consistent",
    "/v1/health/service/web?index=zz",
    "/v1/health/state/any?wait=zz",
    "/v1/health/service",
    "/v1/catalog/service",
    "/v1/health/none",
    "/v1/catalog/nodes/",
]

# Endpoint, and filters on it.
FILTERS = {
    "/v1/catalog/nodes": [
        "Node == `cat-1`",
        "Node matches `^cat-` and Meta.rack == r1",
        "Node matches `^cat-` and not (Meta.rack == r1)",
        "rack in Meta and Node contains cat",
        "Meta is empty and Node matches `^cat-`",
        "TaggedAddresses.wan == \"192.0.2.1\"",
        "Datacenter == dc1 and Address matches `^10`",
        "Node",
        "Node == ",
        "Node == 10.0.0.1",
        "Node == cat-1",
        "(Node == a",
        "Node is empty",
        "Bogus == a",
        "CreateIndex == 1",
        "Meta.a.b == c",
        "Node matches `(`",
        "Meta[os] == a",
        "Node == \"abc",
        "Node == a AND Node == b",
        "a in 5",
        "not(Node == a)",
    ],
    "/v1/catalog/service/web": [
        "ServicePort == 8080",
        "ServicePort == `0x1F90`",
        "ServicePort == abc",
        "ServiceTags contains a",
        "A in ServiceTags",
        "ServiceMeta.version == 2",
        "ServiceWeights.Passing == 10",
        "ServiceEnableTagOverride == true",
        "ServiceEnableTagOverride == maybe",
        "ServiceTaggedAddresses.lan.Port == 81",
        "ServiceTaggedAddresses.lan.Address != x",
        "ServiceTaggedAddresses is empty",
        "ServiceKind == ``",
        "NodeMeta.rack == r1 and Node != x",
        "ServiceConnect.Native == false",
        "ServiceProxy.Upstreams is empty",
        "ServiceProxy.MeshGateway.Mode == ``",
    ],
    "/v1/catalog/connect/web": [
        "ServiceProxy.DestinationServiceName == web",
        "ServiceProxy.Upstreams.DestinationName == db",
        "ServiceProxy.Upstreams.LocalBindPort == 99",
        "ServiceProxy.Expose.Paths.Path == `/x`",
        "ServiceProxy.Expose.Checks == true",
        "ServiceProxy.LocalServicePort == 80",
        "ServiceProxy.Config is empty",
    ],
    "/v1/catalog/node/cat-1": ["Port == 8080", "Service == none", "ServicePort == 1", "Tags is not empty"],
    "/v1/catalog/node-services/cat-1": ["Port == 8080", "Service == none"],
    "/v1/health/node/cat-1": [
        "Status == passing",
        "CheckID == alive or Type == http",
        "Definition is empty",
        "ServiceTags contains a",
    ],
    "/v1/health/checks/web": ["Status != passing", "Output contains down"],
    "/v1/health/service/web": [
        "Checks.Status == passing",
        "Checks.Status != passing",
        "not Checks.Status == critical",
        "Checks is empty",
        "Checks.ServiceTags contains a",
        "Node.Meta.rack == r1 and Service.Port == 8080",
        "Service.Meta.version is empty",
        "Service.TaggedAddresses contains lan",
        "Node == a",
        "Checks == a",
    ],
}

REFUSED_REGISTRATIONS = [
    "",
    "{",
    "{}",
    '{"Node":"cat-1"}',
    '{"Node":"cat-1","Address":"a","ID":"x"}',
    '{"Node":"cat-1","Address":"a","Bogus":1}',
    '{"Node":"cat-1","Address":"a","Datacenter":"mars"}',
    '{"Node":"cat-1","Address":"a","Service":{}}',
    '{"Node":"cat-1","Address":"a","Service":{"ID":"x"}}',
    '{"Node":"cat-1","Address":"a","Service":{"Service":"x","Bogus":1}}',
    '{"Node":"cat-1","Address":"a","Check":{}}',
    '{"Node":"cat-1","Address":"a","Check":{"Name":"c","ServiceID":"none"}}',
    '{"Node":"cat-1","Address":"a","Check":{"Name":"c","Node":"other"}}',
    '{"Node":"cat-1","Address":"a","Check":{"Name":"c","Definition":{"Interval":"10"}}}',
    '{"Node":"cat-1","Address":"a","Check":{"Name":"c","Definition":{"Interval":"zz"}}}',
]

# A node in other letters is the same node; Consul takes it for a new one, and drops what runs on it.
RESPELLED = register(**{**NODE, "Node": "CAT-1", "Address": "10.1.0.9"})

DISCOVERY = [
    *[("PUT", "/v1/catalog/register", body) for body in REFUSED_REGISTRATIONS],
    *[("PUT", "/v1/catalog/deregister", body) for body in ("", "{}", '{"Node":"a","Bogus":1}', '{"Node":"a","Datacenter":"mars"}')],
    deregister(Node="none"),
    deregister(Node="none", ServiceID="none"),
    deregister(Node="none", CheckID="none"),
    register(**NODE),
    register(
        Node="cat-1", SkipNodeUpdate=True,
        Service={
            "ID": "web-1", "Service": "web", "Tags": ["a", "B"], "Address": "10.9.9.9", "Port": 8080, "Meta": {"version": "2"},
            "Weights": {"Passing": 10, "Warning": 2}, "EnableTagOverride": True,
            "TaggedAddresses": {"lan": {"Address": "10.9.9.1", "Port": 81}},
        },
        Checks=[
            {"Name": "alive", "Status": "passing"},
            {
                "CheckID": "web-http", "Name": "HTTP", "Status": "passing", "ServiceID": "web-1", "Notes": "n", "Output": "ok",
                "Definition": {
                    "HTTP": "http://x", "Method": "POST", "Header": {"A": ["b", "c"]}, "Body": "bb", "TLSSkipVerify": True,
                    "Interval": "90s", "Timeout": 5000000000, "DeregisterCriticalServiceAfter": "1h",
                },
            },
        ],
    ),
    register(node="cat-2", address="host.example", service={"service": "web", "tags": None, "weights": {"Passing": -1}},
             check={"name": "down", "serviceid": "web", "output": "it is down"}),
    register(Node="cat-2", SkipNodeUpdate=True, Check={"Name": "slow", "Status": "warning"}),
    register(
        Node="cat-3", Address="10.1.0.3",
        Service={
            "Service": "web-proxy", "Kind": "connect-proxy", "Port": 1,
            "Proxy": {
                "DestinationServiceName": "web", "DestinationServiceID": "w1", "LocalServiceAddress": "127.0.0.1",
                "LocalServicePort": 80, "Config": {"b": 1, "a": "x"},
                "Upstreams": [{"DestinationName": "db", "LocalBindPort": 99, "Config": {"z": 1}}],
                "MeshGateway": {"Mode": "local"},
                "Expose": {"Checks": True, "Paths": [{"Path": "/x", "ListenerPort": 1, "LocalPathPort": 2, "Protocol": "http"}]},
            },
        },
    ),
    register(Node="cat-3", SkipNodeUpdate=True, Service={"Service": "native", "Connect": {"Native": True}}),
    *[("GET", target) for target in READS],
    *[("GET", target) for target in REFUSED_READS],
    *[("GET", f"{endpoint}?filter={quote(text)}") for endpoint, texts in FILTERS.items() for text in texts],
    # The same again, other letters, a new id, a new name.
    register(**NODE),
    RESPELLED,
    ("GET", "/v1/catalog/node/cat-1?filter=Port+==+1"),
    deregister(Node="cat-1", ServiceID="web-1"),
    register(**{**NODE, "Node": "cat-9"}),
    ("GET", "/v1/catalog/node/cat-9"),
    ("GET", "/v1/catalog/service/web"),
    register(
        Node="cat-2", SkipNodeUpdate=True, Address="ignored",
        Check={"CheckID": "DOWN", "Name": "down", "Status": "passing", "ServiceID": "web"},
    ),
    ("GET", "/v1/health/service/web"),
    deregister(Node="cat-2", CheckID="slow"),
    ("GET", "/v1/health/node/cat-2"),
    deregister(Node="CAT-2", ServiceID="web"),
    ("GET", "/v1/health/node/cat-2"),
    ("GET", "/v1/catalog/service/web"),
    *[deregister(Node=node) for node in ("cat-1", "cat-2", "cat-3", "cat-9", "cat-9")],
    ("GET", f"/v1/catalog/nodes?{OURS}"),
    *[("POST", f"/v1/catalog/{path}", "{}") for path in ("register", "nodes")],
    *[("PUT", f"/v1/health/{path}", "{}") for path in ("service/web", "state/any")],
]
