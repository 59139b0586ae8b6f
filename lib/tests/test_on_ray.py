"""Runs on a Ray cluster of two nodes on this machine: the same as trained here, and whole or missing whatever dies."""

import contextlib
import dataclasses
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bcebook.execution import choose, node, on_ray
from bcebook.execution.on_ray import OnRay
from bcebook.runs import archive
from bcebook.runs.store import open_store
from bcebook.training import checkpoint
from bcebook.training.sessions import train_each

os.environ.update(on_ray.QUIET)  # before Ray is imported, which reads them
pytest.importorskip("ray", reason='LEFT OUT, runs on Ray: it is not installed (`pip install -e "./lib[ray]"`)')
LONG = {"epochs": 100, "train_size": None}  # some two seconds


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes with a processor each; the second may be replaced."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # two nodes that started apart share no token
    from ray.cluster_utils import Cluster

    soon = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}  # until a dead node is known as one
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
    try:
        started = Cluster(initialize_head=True, head_node_args=head)
        started.add_node(num_cpus=1)
    except Exception as error:  # Ray's own affair: what it needs of a machine, no document says
        os.environ.pop("RAY_AUTH_MODE")
        pytest.skip(f"LEFT OUT, runs on Ray: it does not start on this machine ({type(error).__name__}: {error})")
    yield started
    started.shutdown()
    os.environ.pop("RAY_AUTH_MODE")


@pytest.fixture
def ray_cpu(cluster, tmp_path, monkeypatch):
    """ray_cpu(configs, task, ...) trains on the cluster, each run by `task` where one is given; gives the problems. A
    task is a function within a function: it travels as it stands."""
    def run(configs, task=None, deadline=math.inf, **settings) -> list[str]:
        if task:
            monkeypatch.setattr(on_ray.node, "train", task)
        return OnRay(tmp_path, "cpu", address=cluster.address, **settings).run(configs, deadline)

    return run


@contextlib.contextmanager
def in_background(run, *arguments, **settings):
    """Call `run` in a thread; gives the list that its sentences will be in."""
    found: list = []
    thread = threading.Thread(target=lambda: found.extend(run(*arguments, **settings)))
    thread.start()
    yield found
    thread.join(300)
    assert not thread.is_alive()


def wait_for(true, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def numbers(run) -> str:
    return repr((run.config, run.history, run.final, run.best, run.scores))


def as_here(configs: list, folder: Path) -> None:
    """The runs in the store of `folder` are bit for bit those of this process."""
    train_each(configs, open_store(folder / "here"), progress=False)
    for config in configs:
        assert numbers(open_store(folder).find(config)) == numbers(open_store(folder / "here").find(config))


def test_runs_are_those_of_this_machine_bit_for_bit_and_whatever_fails_is_one_sentence(cluster, ray_cpu, small, tmp_path):
    """A run that diverges, an answer that is damaged, one of another run, and a process that dies each time."""
    with pytest.raises(ValueError, match="the cluster has no GPU"):
        OnRay(tmp_path, "cuda", address=cluster.address).run([small()])
    whole, damaged, other, dies = (small(seed=seed) for seed in range(4))
    diverges, log, real = small(learning_rate=1e6), tmp_path / "log", node.train

    def spoiled(order, wanted, dataset):
        with open(log, "a") as file:
            file.write(f"{order.config}\n")
        seed = order.config["seed"]
        if seed == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        order = dataclasses.replace(order, config=order.config | {"seed": 9}) if seed == 2 else order
        answer = real(order, wanted, dataset)
        spoilt = answer.archive[:500] + b"x" + answer.archive[501:]
        return dataclasses.replace(answer, archive=spoilt) if seed == 1 else answer

    problems = ray_cpu([whole, damaged, other, dies, diverges], spoiled)
    store = open_store(tmp_path)
    said = {damaged: "what came back was refused", other: "it is another run", dies: "was lost 3 times",
            diverges: "rate 1e+06, 300 images: the loss became nan"}
    assert len(problems) == len(said)
    for config, sentence in said.items():
        found, = (problem for problem in problems if sentence in problem and problem.startswith(config.describe()))
        assert "\n" not in found and not store.has(config)
        with store.lock(config, wait=False):  # and the run is free again
            pass
    assert store.failure(diverges)["cause"] in "".join(problems)
    tries = [log.read_text().count(str(config.to_dict())) for config in (whole, damaged, other, dies, diverges)]
    assert tries == [1, 1, 1, 3, 1]
    assert not store.find(small(seed=9)) and not list(store.root.glob(".[ai]*"))  # nothing half taken in
    as_here([whole], tmp_path)


def test_a_node_that_is_killed_costs_nothing_but_time_and_a_new_one_is_used(cluster, ray_cpu, small, tmp_path):
    """SIGKILL for the second node's raylet in the middle of its run: the run goes on from its checkpoint elsewhere."""
    configs, real, kept = [small(seed=seed, **LONG) for seed in range(2)], node.train, tmp_path / "kept"

    def side_by_side(order, wanted, dataset):  # neither is over before the other has begun, and has been seen to
        from bcebook.training import loop, sessions  # noqa: F401 - takes seconds

        def slow(self, step=loop.Training.step):
            time.sleep(0.005)
            step(self)

        loop.Training.step = slow
        (tmp_path / f"begun-{order.config['seed']}").touch()
        while len(list(tmp_path.glob("begun-*"))) < 2:
            time.sleep(0.05)
        return real(order, wanted, dataset)

    with in_background(ray_cpu, configs, side_by_side, checkpoints=str(kept), every=0.1) as problems:
        wait_for(lambda: all(list((kept / config.key).glob(f"*{checkpoint.SUFFIX}")) for config in configs))
        lost = next(iter(cluster.worker_nodes))
        lost.all_processes["raylet"][0].process.send_signal(signal.SIGKILL)
        time.sleep(1)
        cluster.remove_node(lost, allow_graceful=False)
        cluster.add_node(num_cpus=1)
    assert problems == []
    runs = [open_store(tmp_path).find(config) for config in configs]
    resumed = [run.config for run in runs if run.environment["resumed"]]
    assert resumed and all(run.environment["resumed"] <= 1 for run in runs)  # the lost one went on
    as_here(resumed, tmp_path)
    assert not list(kept.glob(f"*/*{checkpoint.SUFFIX}"))  # of a run that is done, none is kept


def test_a_driver_that_is_killed_leaves_whole_runs_and_the_next_one_trains_the_rest(cluster, small, tmp_path):
    configs = [small(seed=0), *(small(seed=seed, **LONG) for seed in (1, 2))]
    program = """
import sys, pathlib
from bcebook.execution.on_ray import OnRay
from bcebook.runs.config import RunConfig
OnRay(pathlib.Path(sys.argv[1]), 'cpu', address=sys.argv[2]).run([RunConfig.from_dict(c) for c in eval(sys.argv[3])])
"""
    arguments = [tmp_path, cluster.address, repr([config.to_dict() for config in configs])]
    driver = subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL)
    store = open_store(tmp_path)
    wait_for(lambda: store.has(configs[0]))
    driver.kill()
    driver.wait()
    states = [store.state(config) for config in configs]
    assert states[0] == "trained" and states[1] in ("trained", "missing") and states[2] == "missing"
    assert train_each(configs, store, progress=False) == []  # whatever trains them: nothing is held any more
    assert all(store.find(config) for config in configs)


def test_what_another_process_here_trains_comes_last_and_a_deadline_leaves_a_checkpoint(ray_cpu, small, tmp_path):
    store, configs = open_store(tmp_path), [small(seed=seed) for seed in range(2)]
    with contextlib.ExitStack() as held:
        held.enter_context(store.lock(configs[0]))
        with in_background(ray_cpu, configs) as problems:
            wait_for(lambda: store.has(configs[1]))
            assert not store.has(configs[0])
            held.close()
        assert problems == [] and store.has(configs[0])
    long, real, until = small(epochs=100_000, train_size=None), node.train, time.time() + 600

    def stops(order, wanted, dataset):
        import bcebook.training.sessions  # noqa: F401 - takes seconds, which are none of training

        assert abs(order.until - until) < 60
        return real(dataclasses.replace(order, until=time.time() + 1), wanted, dataset)

    kept = tmp_path / "kept"
    assert ray_cpu([long], stops, time.monotonic() + 600, checkpoints=str(kept)) == []
    assert store.state(long) == "missing" and list((kept / long.key).glob(f"*{checkpoint.SUFFIX}"))


def test_a_node_with_another_torch_or_other_code_is_refused_by_name(cluster, ray_cpu, small, tmp_path, monkeypatch):
    fake = tmp_path / "other" / "torch-9.9.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n")
    other = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(fake.parent)})
    configs = [small(seed=seed) for seed in range(3)]
    try:
        problem, = ray_cpu(configs)
    finally:
        cluster.remove_node(other)
    assert "has torch 9.9 where" in problem and "refused" in problem
    assert all(open_store(tmp_path).has(config) for config in configs)  # on the others
    theirs = node.expected() | {"this library, by its digest,": "0" * 64}
    monkeypatch.setattr(on_ray.node, "expected", lambda: theirs)
    more = [small(seed=seed) for seed in range(5, 8)]
    *refused, last = ray_cpu(more)
    assert len(refused) >= 2 and all("by its digest, " in problem for problem in refused)
    assert "no machine of the cluster is left" in last and not any(map(open_store(tmp_path).has, more))


def test_images_that_do_not_fit_into_the_object_store_are_a_sentence(ray_cpu, small, tmp_path, monkeypatch):
    import ray

    def full(value):
        raise ray.exceptions.ObjectStoreFullError("no room")

    monkeypatch.setattr(ray, "put", full)
    problem, = ray_cpu([small()])
    assert "could not be handed out (" in problem and "no room" in problem
    with open_store(tmp_path).lock(small(), wait=False):  # and the run is free again
        pass


def test_a_cluster_of_ones_own_obeys_nobody_else(tmp_path):
    """In a process of its own, which the others' settings do not reach: as `--on ray` starts it."""
    program = """
import os, subprocess, sys
from bcebook.execution import on_ray
with on_ray._joined(""):
    import ray
    address = ray.get_runtime_context().gcs_address
    other = "import ray, sys; ray.init(address=sys.argv[1], logging_level=50)"
    stranger = os.environ | {"RAY_AUTH_TOKEN": "0" * 64, "RAY_NUM_REDIS_GET_RETRIES": "1"}
    code = subprocess.run([sys.executable, "-c", other, address], env=stranger, capture_output=True).returncode
    print("refused" if code else "let in")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", program], env=environment | {"HOME": str(tmp_path)},
                          capture_output=True, text=True)
    assert done.stdout.split() == ["refused"], done.stderr
    assert not list(tmp_path.iterdir())  # no token left in a file


def test_what_is_asked_for_wrongly_is_one_sentence_and_ray_is_not_imported_unless_asked_for(small, tmp_path, monkeypatch):
    assert choose.elsewhere("") is None
    assert choose.elsewhere("ray:h:1", "s3://b/c") == choose.Elsewhere("h:1", "s3://b/c")
    for on in ("slurm", "ray:", "Ray"):
        with pytest.raises(ValueError, match="write ray .*, ray:auto .* or ray:HOST:PORT"):
            choose.elsewhere(on)
    with pytest.raises(ValueError, match="--checkpoints is for runs on a cluster"):
        choose.elsewhere("", "somewhere")
    for address in ("127.0.0.1:1", "nonsense", "h:x"):
        with pytest.raises(ValueError, match=f"no Ray cluster answers at {address}"):
            OnRay(tmp_path, address=address).run([small()])
    with monkeypatch.context() as no_loopback, pytest.raises(ValueError, match="Ray, which needs 127.0.0.1, did not start"):
        no_loopback.setattr(on_ray.socket, "create_server", lambda address: os.stat("/nonexistent"))  # an OSError
        OnRay(tmp_path).run([small()])
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Ray is not installed here"):
        OnRay(tmp_path).run([small()])
    program = "import sys, bcebook.cli, bcebook.execution.choose, bcebook.execution.on_ray; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_an_answer_of_other_code_is_refused(small, tmp_path):
    """A run that this engine has not trained is whole, and still not taken for one that it has."""
    train_each([small()], open_store(tmp_path / "theirs"), progress=False)
    ours, run = open_store(tmp_path / "ours"), open_store(tmp_path / "theirs").find(small())
    for name, value in (("engine", "0" * 16), ("code", "0123456789")):
        foreign = open_store(tmp_path / name)
        foreign.save(dataclasses.replace(run, environment=run.environment | {name: value}))
        archive.write(foreign, [small().key], tmp_path / "run.zip")
        with pytest.raises(archive.ArchiveError, match="trained by other code"):
            on_ray.receive(ours, small(), (tmp_path / "run.zip").read_bytes())
        assert not ours.has(small())
