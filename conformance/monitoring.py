#!/usr/bin/env python3
"""A monitoring system with `consul_sd_configs` finds its targets through an agent, and follows them: VictoriaMetrics, if it is in PATH."""

import json
import os
import shutil
import subprocess
import sys

from harness import Scene, check, equal, eventually, http, lictor
from services import put

CONFIGURATION = """
scrape_configs:
  - job_name: found
    scrape_interval: 1s
    consul_sd_configs:
      - server: '{server}'
        services: [web, api]
    relabel_configs:
      - source_labels: [__meta_consul_tags]
        regex: .*,monitored,.*
        action: keep
      - source_labels: [__meta_consul_service]
        target_label: service
      - source_labels: [__meta_consul_node]
        target_label: node
      - source_labels: [__meta_consul_service_metadata_tier]
        target_label: tier
      - source_labels: [__meta_consul_health]
        target_label: health
"""


def targets(url):
    """The labels of all targets that are scraped, by address."""
    status, _, body = http("GET", f"{url}/api/v1/targets?state=active")
    equal(status, 200, "what the monitoring system says of its targets")
    return {one["labels"]["instance"]: one["labels"] for one in json.loads(body)["data"]["activeTargets"]}


def main():
    monitor = shutil.which("victoria-metrics")
    if monitor is None:
        print("monitoring: left out, since there is no victoria-metrics in PATH")
        return 0
    with Scene() as scene:
        agent = scene.dev(lictor(), 1)
        configuration = os.path.join(scene.dir, "scrape.yml")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(server=f"{agent.ip}:8500"))
        url = f"http://{scene.ip(2)}:8428"
        words = [f"-promscrape.config={configuration}", f"-storageDataPath={scene.dir}/metrics", f"-httpListenAddr={url[7:]}"]
        with open(os.path.join(scene.dir, "monitor.log"), "wb") as log:
            process = subprocess.Popen([monitor, *words, "-promscrape.consulSDCheckInterval=1s"], stdout=log, stderr=log)
        try:
            follow(agent, url)
        finally:
            process.kill()
            process.wait()
    print("monitoring: VictoriaMetrics finds services and follows them")
    return 0


def follow(agent, url):
    eventually("the monitoring system answers", lambda: targets(url) == {})
    web = {"Name": "web", "ID": "web-1", "Address": "10.1.2.3", "Port": 8080, "Tags": ["monitored"], "Meta": {"tier": "front"}}
    put(agent, "/v1/agent/service/register", web)
    put(agent, "/v1/agent/service/register", {"Name": "web", "ID": "web-2", "Address": "10.1.2.4", "Port": 8080})
    put(agent, "/v1/agent/service/register", {"Name": "api", "Port": 9090, "Tags": ["monitored", "x"], "Check": {"TTL": "10m"}})
    wanted = {"10.1.2.3:8080", f"{agent.ip}:9090"}
    eventually("it finds the services", lambda: set(targets(url)) == wanted)
    found = targets(url)
    labels = {key: found["10.1.2.3:8080"].get(key) for key in ("service", "node", "tier", "health")}
    equal(labels, {"service": "web", "node": agent.name, "tier": "front", "health": "passing"}, "the labels of a target")
    equal(found[f"{agent.ip}:9090"]["health"], "critical", "a service that has not said that it is well")
    put(agent, "/v1/agent/check/pass/service:api")
    eventually("it sees that it is well", lambda: targets(url)[f"{agent.ip}:9090"]["health"] == "passing")
    put(agent, "/v1/agent/service/deregister/web-1")
    eventually("it lets a service go", lambda: set(targets(url)) == {f"{agent.ip}:9090"})
    check(agent.is_running(), "the agent has ended")


if __name__ == "__main__":
    sys.exit(main())
