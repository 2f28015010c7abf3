"""Requests of compare.py about prepared queries; see corpus.py. `{prepared:NAME}` stands for the id of the query of that name.

What a query finds comes in any order, so those that are carried out find one instance at most.
"""

import json

NOBODY = "00000000-0000-4000-8000-000000000000"
TEMPLATE = {"Type": "name_prefix_match"}


def register(**body):
    return ("PUT", "/v1/catalog/register", json.dumps(body))


def make(body):
    return ("POST", "/v1/query", body if isinstance(body, str) else json.dumps(body))


def named(name, service="pq-web", **more):
    """A query for a service; what is not of the service is given as `top`."""
    top = more.pop("top", {})
    return {"Name": name, "Service": {"Service": service, **more}, **top}


def template(name, service, pattern="", **more):
    return named(name, service, top={"Template": {**TEMPLATE, "Regexp": pattern}}, **more)


def change(name, body):
    return ("PUT", f"/v1/query/{{prepared:{name}}}", json.dumps(body))


def gets(*targets):
    return [("GET", f"/v1/query{target}") for target in targets]


SETTING = [
    register(Node="pq-1", Address="10.2.0.1", NodeMeta={"rack": "r1"}, Service={"Service": "pq-web", "Port": 1, "Tags": ["a", "B"], "Meta": {"v": "2"}}),
    register(Node="pq-2", Address="10.2.0.2", Service={"Service": "pq-web", "ID": "w2", "Port": 2},
             Check={"CheckID": "pq-down", "Name": "down", "ServiceID": "w2", "Status": "critical"}),
    register(Node="pq-3", Address="10.2.0.3", Service={"Service": "pq-slow", "Port": 3}, Check={"Name": "slow", "Status": "warning"}),
    register(Node="pq-4", Address="10.2.0.4", Service={"Service": "pq-mesh", "Port": 4, "Connect": {"Native": True}}),
]

REFUSED_BODIES = [
    "", "{", "[]", "{}", '{"Bogus":1}', '{"Service":{"Bogus":1}}', '{"Name":1}', '{"Service":1}', '{"Service":{"Service":1}}',
    '{"Service":{"Tags":1}}', '{"Service":{"Tags":[1]}}', '{"Service":{"NodeMeta":[1]}}', '{"Service":{"NodeMeta":{"a":1}}}',
    '{"Service":{"Failover":{"NearestN":"x"}}}', '{"Service":{"Failover":1}}', '{"Template":1}', '{"DNS":{"TTL":1}}', '{"DNS":1}',
    '{"Service":{"OnlyPassing":1}}', '{"CreateIndex":"a"}', '{"ID":"x"}', '{"Name":"pq-x"}',
]

REFUSED = [
    named("pq-x", top={"Token": "<hidden>"}),
    named("pq-x", Failover={"NearestN": -1}),
    named("pq-x", NodeMeta={"a b": "c"}),
    named("pq-x", NodeMeta={"": "c"}),
    named("pq-x", NodeMeta={"${name.full}": "c"}),
    named("pq-x", top={"DNS": {"TTL": "zz"}}),
    named("pq-x", top={"DNS": {"TTL": "5"}}),
    named("pq-x", top={"DNS": {"TTL": "-1ms"}}),
    named("pq-x", top={"Session": "zz"}),
    named("pq-x", top={"Session": NOBODY}),
    named("pq-x", top={"Session": "zzzzzzzz-0000-0000-0000-000000000000"}),
    named("pq-x", top={"Template": {"Type": "bogus"}}),
    *[template("pq-x", "pq-web", pattern) for pattern in ("(", "[", "*", ")", "\\", "a{1}(")],
    *[template("pq-x", text) for text in (
        "${bogus(", "${name.bogus}", "${name.full", "${}", "${match()}", "${match(1,2)}", '${match("a")}', "${match(name.full)}", "${nope(1)}",
        "${name.full}${", "${name. full}", "${name}", "${NAME.FULL}", "${match}", "${match(1}", "${true}", "${name.full name.full}",
        "${match(1))}", "${9999999999999999999999}", "${[}", "${a.b.c}",
    )],
    template("pq-x", "pq-web", Tags=["a", "${x}"]),
    template("pq-x", "pq-web", NodeMeta={"a": "${x}"}),
    template("pq-x", "pq-web", ServiceMeta={"a": "${y}"}),
    template("pq-x", "pq-web", Failover={"Datacenters": ["dc2", "${x}"]}),
    template("pq-x", "pq-web", IgnoreCheckIDs=["${x}"]),
    template("pq-x", "pq-web", Near="${x}", Tags=["${y}"]),
]

FULL = named(
    "pq-Full", Failover={"NearestN": 3, "Datacenters": ["dc2", "dc3"]}, OnlyPassing=True, IgnoreCheckIDs=["c"], Near="_agent",
    Tags=["a", "!y"], NodeMeta={"rack": "r1"}, ServiceMeta={"v": "2"},
    top={"Token": "tok", "DNS": {"TTL": "10s"}, "CreateIndex": 5, "Template": {"Regexp": "(", "RemoveEmptyTags": True}},
)
EMPTY = {"ID": "zz", "Name": "pq-full", "Service": {"Service": "pq-web", "Tags": [], "NodeMeta": {}, "IgnoreCheckIDs": [], "Failover": {"Datacenters": []}}}

CHANGES = [
    *gets("", "?stale", "/", "/zz", f"/{NOBODY}", f"/{NOBODY}?consistent", "?index=zz", "?dc=mars", "?ns=x"),
    make(FULL),
    *gets("", "/{prepared:pq-Full}", "/{prepared:pq-Full}?stale", "/{prepared:pq-Full}?pretty"),
    make(named("PQ-FULL")),
    make(template("pq-full", "x")),
    change("pq-Full", EMPTY),
    *gets("/{prepared:pq-full}", "/{prepared:pq-full}?index=1&wait=1s"),
    change("pq-full", {}),
    ("PUT", "/v1/query/{prepared:pq-full}", ""),
    ("PUT", "/v1/query/{prepared:pq-full}", "{"),
    ("PUT", f"/v1/query/{NOBODY}", "{}"),
    ("PUT", f"/v1/query/{NOBODY}", json.dumps(named("pq-y"))),
    *[(method, f"/v1/query/{path}", "{}") for method in ("PUT", "DELETE") for path in ("zz", "")],
    ("DELETE", f"/v1/query/{NOBODY}"),
    ("DELETE", "/v1/query/{prepared:pq-full}"),
    *gets("", "/pq-full/execute"),
    ("POST", "/v1/query/x", "{}"),
    ("PUT", "/v1/query", "{}"),
    ("DELETE", "/v1/query"),
    ("PUT", "/v1/query/x/execute", "{}"),
    ("DELETE", "/v1/query/x/explain"),
    *[("OPTIONS", f"/v1/query{path}") for path in ("", "/x/execute")],
]

EXECUTIONS = [
    make(named("pq-1", top={"DNS": {"TTL": "7s"}})),
    make(named("pq-2", IgnoreCheckIDs=["pq-down"], Tags=["!A"])),
    make(named("pq-3", "PQ-SLOW")),
    make(named("pq-4", "pq-slow", OnlyPassing=True)),
    make(named("pq-5", Tags=["b", "A"], NodeMeta={"rack": "r1"}, ServiceMeta={"v": "2"})),
    make(named("pq-6", Tags=["a", "!b"])),
    make(named("pq-7", NodeMeta={"rack": "R1"})),
    make(named("pq-8", "pq-mesh", Connect=True)),
    make(named("pq-9", "pq-none", Failover={"NearestN": 2, "Datacenters": ["mars"]})),
    make(named("pq/a b")),
    *gets(*[f"/pq-{number}/execute" for number in range(1, 10)]),
    *gets(
        "/PQ-1/execute", "/{prepared:pq-1}/execute", "/pq/a%20b/execute", "/pq-1/execute?stale", "/pq-1/execute?consistent", "/pq-1/execute?pretty",
        "/pq-1/execute?limit=1", "/pq-1/execute?limit=-1", "/pq-1/execute?limit=", "/pq-1/execute?limit=zz", "/pq-1/execute?limit=zz&index=zz",
        "/pq-1/execute?connect=true", "/pq-1/execute?connect=zz", "/pq-1/execute?connect", "/pq-8/execute?connect=1", "/pq-1/execute?near=nobody",
        "/pq-1/execute?near=_ip", "/pq-1/execute?near=_agent", "/pq-1/execute?passing", "/pq-1/execute?dc=dc1", "/pq-1/execute?dc=mars",
        "/pq-1/execute?ns=x", "/pq-1/execute?index=zz", "/pq-1/execute?index=1&wait=5s", "/pq-1/execute?stale&consistent", "/none/execute",
        "/execute", "//execute", f"/{NOBODY}/execute", "/pq-1/explain", "/PQ-3/explain?stale", "/pq-1/explain?limit=zz", "/none/explain",
        "/pq-1/explain?dc=mars", "/pq-1/explain/", "/pq-1/execute/",
    ),
]

TEMPLATES = [
    make(template("pqt-", "${name.full}|${name.prefix}|${name.suffix}|${agent.segment}")),
    make(template("PQT-web-", "${match(0)}|${match(1)}|${match(2)}|${match(-1)}", "^pqt-web-(.)")),
    make({**template("pqe-", "${name.suffix}", Tags=["${match(1)}", "a", " "]), "Template": {**TEMPLATE, "RemoveEmptyTags": True}}),
    make(template("pqq-", '${"x${name.full}"}$${name.full}${ name.suffix }${1}}', Near="${name.suffix}", IgnoreCheckIDs=["${name.full}"])),
    make(named("pqt-web-db", "pq-web")),
    make(template("", "${name.full}|${name.prefix}|")),
    make(template("", "x")),
    *gets(
        "/pqt-x/explain", "/PQT-x/explain", "/pqt-/explain", "/pqt-web-x1/explain", "/PQT-WEB-x1/explain", "/pqt-web-db/explain", "/pqe-pq-web/explain",
        "/Pqe-pq-web/explain", "/pqe-pq-web/execute", "/pqq-a/explain", "/anything/explain", "/explain", "/x%7Cy/explain", f"/{NOBODY}/explain",
        "/{prepared:pqt-}/explain", "/{prepared:pqt-}/execute", "/{prepared:pqt-}",
    ),
]

CLEANING = [
    *[("DELETE", f"/v1/query/{{prepared:{name}}}") for name in (
        *[f"pq-{number}" for number in range(1, 10)], "pq/a b", "pqt-", "PQT-web-", "pqe-", "pqq-", "pqt-web-db", "",
    )],
    *gets("", "/anything/explain"),
    *[("PUT", "/v1/catalog/deregister", json.dumps({"Node": f"pq-{number}"})) for number in range(1, 5)],
]

PREPARED = [
    *SETTING, *[make(body) for body in (*REFUSED_BODIES, *REFUSED)], *CHANGES, *EXECUTIONS, *TEMPLATES, *CLEANING,
]
