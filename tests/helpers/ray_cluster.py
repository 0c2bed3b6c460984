"""A Ray cluster of several raylets on this machine, and a study on it; a script, since Ray is of a whole process.

    python tests/helpers/ray_cluster.py FOLDER FILE [--kill-node PHASE] [--jobs COUNT] [--serve]

Runs the study of a TOML file in a folder on a head without cores and two nodes of a core. With --kill-node, the node
where an agent or a probe of that phase runs is killed when it has reported twice, and another one is started. With
--jobs, as many tasks that do nothing instead. With --serve it is there for others until it is killed, starts a node
where one has died, and keeps in `cluster.json` where it is and which processes its nodes are.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("RAY_TMPDIR", "/tmp")  # sockets have short names
os.environ["RAY_DEDUP_LOGS"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
PATIENT = {**QUICK, "health_check_failure_threshold": 30}  # where a machine is so busy that nodes answer late


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("study", nargs="?")
    parser.add_argument("--kill-node", default="")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    os.chdir(given.folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path]))  # of raylets and their workers
    import ray
    from ray.cluster_utils import Cluster

    store = {"object_store_memory": 80 << 20, "memory": 8 << 30}
    health = PATIENT if given.serve else QUICK
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": health, **store})
    nodes = [cluster.add_node(num_cpus=1, **store) for _ in range(2)]
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        if given.serve:
            serve(cluster, nodes, store)
        elif given.jobs:
            jobs(given.jobs)
        else:
            study(given, cluster, nodes, store)
    finally:
        ray.shutdown()
        cluster.shutdown()


def serve(cluster, nodes, store):
    while True:
        for node in [node for node in nodes if raylet_of(node).poll() is not None]:
            nodes.remove(node)
            cluster.remove_node(node, allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1, **store))
        said = {"address": cluster.address, "raylets": [raylet_of(node).pid for node in nodes]}
        Path("cluster.new").write_text(json.dumps(said))
        Path("cluster.new").replace("cluster.json")
        time.sleep(0.2)


def raylet_of(node):
    return node.all_processes["raylet"][0].process


def jobs(count):
    from tasks import Job

    from mzprobe.execution.on_ray import OnRay

    tasks = [Job(f"{n} job", os.devnull) for n in range(count)]
    OnRay().run(tasks[:8])  # workers are started
    began = time.monotonic()
    OnRay().run(tasks)
    print(f"{count / (time.monotonic() - began):.0f} tasks/s")


def study(given, cluster, nodes, store):
    from tasks import done_at_once

    from mzprobe.execution.on_ray import OnRay
    from mzprobe.settings import load_study, study_runs

    reports = []

    def watched(report):
        reports.append(report)
        seen = sum(one.phase == given.kill_node for one in reports)
        if given.kill_node and seen == 2:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print("killed a node", flush=True)
            nodes.append(cluster.add_node(num_cpus=1, **store))

    settings, _ = load_study(given.study)
    runs = study_runs(given.study, settings)
    done_at_once(settings, runs, Path(), executor=OnRay(), on_report=watched, command=f"mzprobe study {given.study}")
    print("done", sorted({report.phase for report in reports}), flush=True)


if __name__ == "__main__":
    main()
