"""Requests of compare.py about sessions, locks, and transactions on all objects; see corpus.py. `{session:NAME}` stands for the id of the session of that name.

Ids are drawn at random, so lists are asked for while there is one session at most.
"""

import base64
import json

NOBODY = "00000000-0000-4000-8000-000000000000"
NODE = "ses-1"


def create(body, query=""):
    return ("PUT", f"/v1/session/create{query}", body if isinstance(body, str) else json.dumps(body))


def on_node(name, **more):
    return create({"Name": name, "Node": NODE, "NodeChecks": [], "LockDelay": "0s", **more})


def destroy(name):
    return ("PUT", f"/v1/session/destroy/{{session:{name}}}")


def gets(*targets):
    return [("GET", f"/v1/{target}") for target in targets]


def put(key, value, query=""):
    return ("PUT", f"/v1/kv/{key}{query}", value)


def txn(*ops):
    return ("PUT", "/v1/txn", json.dumps(list(ops)))


def kv(verb, key="ses/t", value=None, **more):
    body = {"Verb": verb, "Key": key, **more}
    if value is not None:
        body["Value"] = base64.b64encode(value.encode()).decode()
    return {"KV": body}


SETTING = [
    ("PUT", "/v1/catalog/register", json.dumps({"Node": NODE, "Address": "10.3.0.1", "Check": {"CheckID": "up", "Name": "up", "Status": "passing"}})),
    ("PUT", "/v1/catalog/register", json.dumps({"Node": NODE, "Address": "10.3.0.1", "Check": {"CheckID": "down", "Name": "down", "Status": "critical"}})),
    ("PUT", "/v1/catalog/register", json.dumps({"Node": "ses-2", "Address": "10.3.0.2", "Check": {"CheckID": "up", "Name": "up", "Status": "passing"}})),
]

REFUSED = [
    create(body)
    for body in (
        "{", "[]", "1", '"x"', '{"TTL":1}', '{"TTL":"x"}', '{"TTL":"9s"}', '{"TTL":"25h"}', '{"TTL":"-1s"}', '{"TTL":"0s","Node":"none"}',
        '{"LockDelay":"x"}', '{"LockDelay":true}', '{"Behavior":"x"}', '{"Behavior":1}', '{"Node":"none"}', '{"Node":1}', '{"Name":1}',
        '{"Checks":1}', '{"Checks":[1]}', '{"NodeChecks":1}', '{"ServiceChecks":["a"]}',
        json.dumps({"Node": NODE, "Checks": ["none"]}), json.dumps({"Node": NODE, "Checks": ["down"]}), json.dumps({"Node": NODE, "NodeChecks": ["down"]}),
        json.dumps({"Node": NODE, "Checks": ["up", "none"]}), json.dumps({"Node": NODE, "ServiceChecks": [{"ID": "none"}]}), json.dumps({"Node": NODE}),
    )
]

NOT_THERE = [
    *gets("session/list", f"session/info/{NOBODY}", "session/info/x", "session/info/", f"session/node/{NODE}", "session/node/none", "session/node/"),
    *gets("session/list?dc=mars", f"session/info/{NOBODY}?stale", f"session/info/{NOBODY}?consistent&stale", "session/list?pretty"),
    ("PUT", f"/v1/session/destroy/{NOBODY}"), ("PUT", "/v1/session/destroy/x"), ("PUT", "/v1/session/destroy/"),
    ("PUT", f"/v1/session/renew/{NOBODY}"), ("PUT", "/v1/session/renew/x"), ("PUT", "/v1/session/renew/"),
    ("GET", f"/v1/session/destroy/{NOBODY}"), ("GET", "/v1/session/create"), ("GET", f"/v1/session/renew/{NOBODY}"), ("PUT", "/v1/session/list"),
    ("OPTIONS", "/v1/session/create"), ("OPTIONS", "/v1/session/info/x"), ("DELETE", f"/v1/session/destroy/{NOBODY}"),
]

ONE = "{session:one}"

LIFE = [
    on_node("one", TTL="60s", Behavior="delete", LockDelay="5s", NodeChecks=["up"]),
    *gets("session/list", f"session/info/{ONE}", f"session/node/{NODE}", f"session/node/{NODE.upper()}", "session/node/ses-2", f"session/info/{ONE}?pretty"),
    ("PUT", f"/v1/session/renew/{ONE}"),
    put("ses/lock", "held", f"?acquire={ONE}"), *gets("kv/ses/lock"),
    put("ses/lock", "again", f"?acquire={ONE}&flags=7"), *gets("kv/ses/lock"),
    put("ses/lock", "other", f"?acquire={NOBODY}"), put("ses/lock", "other", "?acquire=x"), put("ses/lock", "other", "?acquire="),
    put("ses/lock", "by nobody"), *gets("kv/ses/lock", "kv/ses/?keys", "kv/ses/?recurse"),
    put("ses/lock", "free", f"?release={NOBODY}"), put("ses/lock", "free", "?release=x"), put("ses/none", "free", f"?release={ONE}"),
    put("ses/lock", "free", f"?release={ONE}"), *gets("kv/ses/lock"), put("ses/lock", "free", f"?release={ONE}"),
    put("ses/lock", "x", f"?acquire={ONE}&release={ONE}"), put("ses/lock", "x", f"?acquire={ONE}&cas=0"),
    put("ses/lock", "mine", f"?acquire={ONE}"),
    destroy("one"), *gets("kv/ses/lock", "session/list", f"session/node/{NODE}"),
    put("ses/lock", "plain"), *gets("kv/ses/lock"),
    on_node("numbers", LockDelay=15), *gets("session/list"), destroy("numbers"),
    on_node("long", LockDelay="2m"), *gets("session/list"), destroy("long"),
    on_node("small", LockDelay=5000000000, TTL="10s"), *gets("session/list"), destroy("small"),
    on_node("listed", NodeChecks=["up"], ServiceChecks=[]), *gets("session/list"), destroy("listed"),
    create('{"Name":"odd","Node":"ses-1","NodeChecks":[],"Bogus":1,"ID":"x","CreateIndex":7}'), *gets("session/list"), destroy("odd"),
    create({"name": "case", "node": NODE, "nodechecks": [], "lockdelay": "1s", "behavior": "release", "ttl": "30s"}), *gets("session/list"), destroy("case"),
]

ENDS = [
    on_node("checked", NodeChecks=["up"]), put("ses/checked", "x", "?acquire={session:checked}"),
    ("PUT", "/v1/catalog/register", json.dumps({"Node": NODE, "Address": "10.3.0.1", "Check": {"CheckID": "up", "Name": "up", "Status": "warning"}})),
    *gets("session/list"),
    ("PUT", "/v1/catalog/register", json.dumps({"Node": NODE, "Address": "10.3.0.1", "Check": {"CheckID": "up", "Name": "up", "Status": "critical"}})),
    *gets("session/list", "kv/ses/checked"),
    on_node("noded", Behavior="delete"), put("ses/noded", "x", "?acquire={session:noded}"), *gets("kv/ses/noded"),
    ("PUT", "/v1/catalog/deregister", json.dumps({"Node": NODE})), *gets("session/list", "kv/ses/noded"),
    *SETTING[:1],
]

ABOUT = "{session:txn}"

TRANSACTIONS = [
    on_node("txn"),
    txn(kv("set", value="a")), txn(kv("get")), txn(kv("lock", value="b", Session=ABOUT)), txn(kv("get")),
    txn(kv("lock", value="c", Session=NOBODY)), txn(kv("lock", value="c", Session="x")), txn(kv("lock", value="c")),
    txn(kv("check-session", Session=ABOUT)), txn(kv("check-session", Session=NOBODY)), txn(kv("check-session", "ses/none", Session=ABOUT)),
    txn(kv("unlock", value="d", Session=NOBODY)), txn(kv("unlock", value="d", Session=ABOUT)), txn(kv("unlock", value="d", Session=ABOUT)), txn(kv("get")),
    txn(kv("check-not-exists")), txn(kv("check-not-exists", "ses/none")), txn(kv("get", "ses/none")), txn(kv("get-tree", "ses/t")),
    txn(kv("delete"), kv("get")), txn(kv("set", value="1"), kv("set", "ses/u", value="2"), kv("get-tree", "ses/")),
    txn({"Node": {"Verb": "get", "Node": {"Node": "ses-2"}}}), txn({"Node": {"Verb": "get", "Node": {"Node": "none"}}}),
    txn({"Node": {"Verb": "set", "Node": {"Node": "ses-3", "Address": "10.3.0.3", "Meta": {"a": "b"}}}}), *gets("catalog/node/ses-3"),
    txn({"Node": {"Verb": "cas", "Node": {"Node": "ses-3", "Address": "10.3.0.4", "ModifyIndex": 1}}}),
    txn({"Service": {"Verb": "set", "Node": "ses-3", "Service": {"Service": "ses-web", "Port": 80, "Tags": ["a"]}}}), *gets("catalog/service/ses-web"),
    txn({"Service": {"Verb": "get", "Node": "ses-3", "Service": {"ID": "ses-web", "Service": "ses-web"}}}),
    txn({"Service": {"Verb": "get", "Node": "ses-3", "Service": {"ID": "none", "Service": "none"}}}),
    txn({"Check": {"Verb": "set", "Check": {"Node": "ses-3", "CheckID": "c", "Name": "c", "Status": "passing", "ServiceID": "ses-web"}}}), *gets("health/node/ses-3"),
    txn({"Check": {"Verb": "get", "Check": {"Node": "ses-3", "CheckID": "c"}}}), txn({"Check": {"Verb": "get", "Check": {"Node": "ses-3", "CheckID": "none"}}}),
    txn({"Check": {"Verb": "delete", "Check": {"Node": "ses-3", "CheckID": "c"}}}), *gets("health/node/ses-3"),
    txn({"Service": {"Verb": "delete", "Node": "ses-3", "Service": {"ID": "ses-web", "Service": "ses-web"}}}), *gets("catalog/service/ses-web"),
    txn({"Node": {"Verb": "delete", "Node": {"Node": "ses-3"}}}), *gets("catalog/node/ses-3"),
    txn(kv("set", "ses/rolled", value="x"), {"Node": {"Verb": "get", "Node": {"Node": "none"}}}), *gets("kv/ses/rolled"),
    ("PUT", "/v1/txn?stale", txn(kv("get"))[2]), ("PUT", "/v1/txn?consistent", txn(kv("get"))[2]),
    destroy("txn"), ("DELETE", "/v1/kv/ses/?recurse"),
    ("PUT", "/v1/catalog/deregister", json.dumps({"Node": NODE})), ("PUT", "/v1/catalog/deregister", json.dumps({"Node": "ses-2"})),
]

# One of those above is taken.
ODD = [*gets("session/list"), ("PUT", "/v1/session/destroy/{session:}"), *gets("session/list")]

SESSIONS = [*SETTING, *REFUSED, *ODD, *NOT_THERE, *LIFE, *ENDS, *TRANSACTIONS]
