"""The local cluster lives in this process, listens on loopback only, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from distributed import SchedulerPlugin

from daskflow.clusters import dashboard_link, open_cluster
from daskflow.clusters.local import local_cluster
from daskflow.errors import ClusterError
from daskflow.task.certificate import run_security

# What Dask warns of while it comes and goes is not ours to answer for.
pytestmark = pytest.mark.filterwarnings("ignore")


def listeners() -> dict[int, str]:
    """Port and address of each listening socket of this process."""
    own = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            own.add(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            continue
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                address, _, port = fields[1].partition(":")
                found[int(port, 16)] = address
    return found


def wait_for_port(client) -> int:
    """The port for tasks: it opens beside the first of them."""
    end = threading.Event()
    for _ in range(500):
        tls = [
            each for each in client.cluster.scheduler.listeners if getattr(each, "prefix", "").startswith("t")
        ]
        if tls:
            return tls[0].bound_address[1]
        end.wait(0.01)
    raise AssertionError("no port was opened")


def test_it_has_the_slots_it_was_given_and_runs_tasks():
    with local_cluster(3) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["nthreads"] == 3
        assert client.submit(os.getpid).result() == os.getpid()


def test_without_a_number_it_has_a_slot_for_each_core():
    with local_cluster() as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["nthreads"] == len(os.sched_getaffinity(0))


def test_every_port_is_on_loopback_only():
    with local_cluster(1) as client:
        wait_for_port(client)
        addresses = set(listeners().values())

    assert addresses == {"0100007F"}


def test_the_port_for_tasks_speaks_tls_with_a_certificate_of_its_own():
    with local_cluster(1) as client:
        port = wait_for_port(client)
        pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
        with pytest.raises((OSError, ssl.SSLError)):
            plain = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
            plain.read()
    with local_cluster(1) as client:
        other = ssl.get_server_certificate(("127.0.0.1", wait_for_port(client)), timeout=10)

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert pem != other


def test_the_dashboard_answers_from_the_start_and_loads_its_pages_when_asked():
    code = """
import sys, urllib.request
from daskflow.clusters import dashboard_link
from daskflow.clusters.local import local_cluster
with local_cluster(1) as client:
    link = dashboard_link(client)
    health = urllib.request.urlopen(link.replace("status", "health"), timeout=30).read()
    before = "bokeh" in sys.modules
    for page in ("status", "graph", "status"):
        answer = urllib.request.urlopen(link.replace("status", page), timeout=60)
        body = answer.read().decode()
        print(page, answer.status, "bokeh" in body.lower(), len(body) > 1000)
print(health, before, link.startswith("http://127.0.0.1:"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "status 200 True True",
        "graph 200 True True",
        "status 200 True True",
        "b'ok' False True",
    ]


def test_it_leaves_neither_thread_nor_port():
    with local_cluster(1) as client:
        client.submit(int).result()
        link = dashboard_link(client)
    assert link
    assert listeners() == {}


def test_one_that_ends_while_its_certificate_is_made_opens_no_port(monkeypatch):
    closing = threading.Event()

    class MakeItNow(SchedulerPlugin):
        async def before_close(self):
            opening = [task for task in asyncio.all_tasks() if "_listen_to_tasks" in repr(task.get_coro())]
            closing.set()
            await asyncio.gather(*opening)

    def certificate_made_too_late():
        closing.wait(60)
        return run_security()

    monkeypatch.setattr("daskflow.clusters.local.run_security", certificate_made_too_late)
    with local_cluster(1) as client:
        scheduler = client.cluster.scheduler
        scheduler.add_plugin(MakeItNow())
        listen, opened = scheduler.listen, []
        monkeypatch.setattr(
            scheduler, "listen", lambda *args, **how: opened.append(args) or listen(*args, **how)
        )

    assert (opened, listeners()) == ([], {})


def test_an_unknown_cluster_is_told_with_those_there_are():
    with pytest.raises(ClusterError, match="'nope'.*local"):
        open_cluster("nope", None)


def test_scheduling_settings_do_not_outlive_it():
    import dask

    before = dask.config.get("distributed.scheduler.worker-saturation", None)
    with local_cluster(1):
        pass

    assert dask.config.get("distributed.scheduler.worker-saturation", None) == before
