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
def two():
    """A cluster of two nodes with a processor each; the second may be replaced."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # two nodes that started apart share no token
    from ray.cluster_utils import Cluster

    soon = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}  # until a dead node is known as one
    try:
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": soon})
        started.add_node(num_cpus=1)
    except Exception as error:  # Ray's own affair: what it needs of a machine, no document says
        os.environ.pop("RAY_AUTH_MODE")
        pytest.skip(f"LEFT OUT, runs on Ray: it does not start on this machine ({type(error).__name__}: {error})")
    yield started
    started.shutdown()
    os.environ.pop("RAY_AUTH_MODE")


@contextlib.contextmanager
def in_background(executor: OnRay, configs: list, deadline: float = math.inf):
    """The executor at work in a thread; gives the list that its sentences will be in."""
    found: list = []
    thread = threading.Thread(target=lambda: found.extend(executor.run(configs, deadline)))
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


@pytest.fixture
def here(tmp_path):
    """Trains configurations in this process; gives their numbers."""
    def train(configs: list) -> list[str]:
        train_each(configs, open_store(tmp_path / "here"), progress=False)
        return [numbers(open_store(tmp_path / "here").find(config)) for config in configs]

    return train


def test_runs_are_those_of_this_machine_bit_for_bit_and_a_failure_is_told_once(two, small, here, tmp_path, monkeypatch):
    """Each is tried once, one whose answer is damaged or another's once more."""
    with pytest.raises(ValueError, match="the cluster has no GPU"):
        OnRay(tmp_path, "cuda", address=two.address).run([small()])
    configs, diverges = [small(seed=seed) for seed in range(3)], small(learning_rate=1e6)
    log, real = tmp_path / "log", node.train

    def spoiled(order, wanted, dataset):  # a function within a function: it travels as it stands here
        times = log.read_text().count(str(order.config)) if log.exists() else 0
        with open(log, "a") as file:
            file.write(f"{order.config}\n")
        seed = order.config["seed"]
        if seed == 2 and not times:  # another run than the one asked for
            order = dataclasses.replace(order, config=order.config | {"seed": 9})
        answer = real(order, wanted, dataset)
        if seed == 1 and not times:
            return dataclasses.replace(answer, archive=answer.archive[:500] + b"x" + answer.archive[501:])
        return answer

    monkeypatch.setattr(on_ray.node, "train", spoiled)
    problems = OnRay(tmp_path, "auto", address=two.address).run([*configs, diverges])
    assert len(problems) == 1 and "rate 1e+06, 300 images: the loss became nan" in problems[0]
    store = open_store(tmp_path)
    assert store.failure(diverges)["cause"] in problems[0]
    runs = [store.find(config) for config in configs]
    assert [numbers(run) for run in runs] == here(configs)
    tries = [log.read_text().count(str(config.to_dict())) for config in [*configs, diverges]]
    assert tries == [1, 2, 2, 1]
    assert not store.find(small(seed=9)) and not list(store.root.glob(".[ai]*"))  # nothing half taken in


def test_a_node_that_is_killed_costs_nothing_but_time_and_a_new_one_is_used(two, small, here, tmp_path, monkeypatch):
    """SIGKILL for the second node's raylet in the middle of its run: the run goes on from its checkpoint elsewhere."""
    configs, real = [small(seed=seed, **LONG) for seed in range(2)], node.train

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

    monkeypatch.setattr(on_ray.node, "train", side_by_side)
    executor = OnRay(tmp_path, "cpu", address=two.address, checkpoints=str(tmp_path / "kept"), every=0.1)
    with in_background(executor, configs) as problems:
        wait_for(lambda: all(list((tmp_path / "kept" / config.key).glob(f"*{checkpoint.SUFFIX}")) for config in configs))
        lost = next(iter(two.worker_nodes))
        lost.all_processes["raylet"][0].process.send_signal(signal.SIGKILL)
        time.sleep(1)
        two.remove_node(lost, allow_graceful=False)
        two.add_node(num_cpus=1)
    assert problems == []
    runs = [open_store(tmp_path).find(config) for config in configs]
    resumed = [run for run in runs if run.environment["resumed"]]
    assert resumed and all(run.environment["resumed"] == 1 for run in resumed)  # the lost one went on
    assert [numbers(run) for run in resumed] == here([run.config for run in resumed])
    assert not list((tmp_path / "kept").glob(f"*/*{checkpoint.SUFFIX}"))  # of a run that is done, none is kept


def test_a_driver_that_is_killed_leaves_whole_runs_and_the_next_one_trains_the_rest(two, small, tmp_path):
    configs = [small(seed=0), *(small(seed=seed, **LONG) for seed in (1, 2))]
    program = ("import sys, pathlib; from bcebook.execution.on_ray import OnRay; from bcebook.runs.config import RunConfig\n"
               "OnRay(pathlib.Path(sys.argv[1]), 'cpu', address=sys.argv[2]).run([RunConfig.from_dict(c) for c in eval(sys.argv[3])])")
    asked = repr([config.to_dict() for config in configs])
    driver = subprocess.Popen([sys.executable, "-c", program, tmp_path, two.address, asked], stderr=subprocess.DEVNULL)
    store = open_store(tmp_path)
    wait_for(lambda: store.has(configs[0]))
    driver.kill()
    driver.wait()
    states = [store.state(config) for config in configs]
    assert states[0] == "trained" and states[1] in ("trained", "missing") and states[2] == "missing"
    assert train_each(configs, store, progress=False) == []  # whatever trains them: nothing is held any more
    assert all(store.find(config) for config in configs)


def test_what_another_process_here_trains_comes_last_and_is_waited_for(two, small, tmp_path, monkeypatch):
    """And when its time is over, a run leaves a checkpoint where it was told to, and is no failure."""
    store, configs = open_store(tmp_path), [small(seed=seed) for seed in range(2)]
    with contextlib.ExitStack() as held:
        held.enter_context(store.lock(configs[0]))
        with in_background(OnRay(tmp_path, "cpu", address=two.address), configs) as problems:
            wait_for(lambda: store.has(configs[1]))
            assert not store.has(configs[0])
            held.close()
        assert problems == [] and store.has(configs[0])
    long, real, until = small(epochs=100_000, train_size=None), node.train, time.time() + 600

    def stops(order, wanted, dataset):
        import bcebook.training.sessions  # noqa: F401 - takes seconds, which are none of training

        assert abs(order.until - until) < 60
        return real(dataclasses.replace(order, until=time.time() + 1), wanted, dataset)

    monkeypatch.setattr(on_ray.node, "train", stops)
    executor = OnRay(tmp_path, "cpu", address=two.address, checkpoints=str(tmp_path / "kept"))
    assert executor.run([long], time.monotonic() + 600) == [] and store.state(long) == "missing"
    assert list((tmp_path / "kept" / long.key).glob(f"*{checkpoint.SUFFIX}"))


def test_a_node_with_another_torch_or_other_code_is_refused_by_name(two, small, tmp_path, monkeypatch):
    fake = tmp_path / "other" / "torch-9.9.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n")
    other = two.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(fake.parent)})
    try:
        configs = [small(seed=seed) for seed in range(3)]
        problems = OnRay(tmp_path, "cpu", address=two.address).run(configs)
        assert len(problems) == 1 and "has torch 9.9 where" in problems[0] and "refused" in problems[0]
        assert all(open_store(tmp_path).has(config) for config in configs)  # on the others
    finally:
        two.remove_node(other)
    monkeypatch.setattr(on_ray.node, "expected", lambda real=node.expected(): real | {"this library, by its digest,": "0" * 64})
    more = [small(seed=seed) for seed in range(5, 8)]
    problems = OnRay(tmp_path, "cpu", address=two.address).run(more)
    assert len(problems) >= 3 and all("by its digest, " in problem for problem in problems[:-1])
    assert "no machine of the cluster is left" in problems[-1] and not any(map(open_store(tmp_path).has, more))


def test_a_task_whose_process_dies_each_time_is_given_up_after_three_tries(two, small, tmp_path, monkeypatch):
    log, real = tmp_path / "log", node.train

    def dies(order, wanted, dataset):
        if order.config["seed"] == 0:
            with open(log, "a") as file:
                file.write("a")
            os.kill(os.getpid(), signal.SIGKILL)
        return real(order, wanted, dataset)

    monkeypatch.setattr(on_ray.node, "train", dies)
    configs = [small(seed=seed) for seed in range(3)]
    problems = OnRay(tmp_path, "cpu", address=two.address).run(configs)
    assert len(problems) == 1 and configs[0].describe() in problems[0] and "was lost 3 times" in problems[0]
    assert log.read_text() == "aaa" and [open_store(tmp_path).has(config) for config in configs] == [False, True, True]
    with open_store(tmp_path).lock(configs[0], wait=False):  # and the run is free again
        pass


def test_images_that_do_not_fit_into_the_object_store_are_a_sentence(two, small, tmp_path, monkeypatch):
    import ray

    def full(value):
        raise ray.exceptions.ObjectStoreFullError("no room")

    monkeypatch.setattr(ray, "put", full)
    problems = OnRay(tmp_path, "cpu", address=two.address).run([small()])
    assert len(problems) == 1 and "object store cannot hold its images" in problems[0]
    with open_store(tmp_path).lock(small(), wait=False):  # and the run is free again
        pass


def test_a_cluster_of_ones_own_obeys_nobody_else(two, tmp_path):
    """In a process of its own, which the others' settings do not reach: as `--on ray` starts it."""
    program = """
import os, subprocess, sys
from bcebook.execution import on_ray
with on_ray._joined(""):
    import ray
    address = ray.get_runtime_context().gcs_address
    other = "import ray, sys; ray.init(address=sys.argv[1], logging_level=50)"
    code = subprocess.run([sys.executable, "-c", other, address], env=os.environ | {"RAY_AUTH_TOKEN": "0" * 64, "RAY_NUM_REDIS_GET_RETRIES": "1"},
                          capture_output=True).returncode
    print("refused" if code else "let in")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", program], env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout.split() == ["refused"], done.stderr
    assert not list(tmp_path.iterdir())  # no token left in a file


def test_what_is_asked_for_wrongly_is_one_sentence(small, tmp_path, monkeypatch):
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
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Ray is not installed here"):
        OnRay(tmp_path).run([small()])


def test_ray_is_not_imported_unless_it_is_asked_for():
    program = ("import sys, bcebook.cli, bcebook.execution.choose, bcebook.execution.on_ray\n"
               "sys.exit('ray' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_an_answer_of_other_code_is_refused(small, tmp_path):
    """A run that this engine has not trained is whole, and still not taken for one that it has."""
    train_each([small()], open_store(tmp_path / "theirs"), progress=False)
    theirs, ours = open_store(tmp_path / "theirs"), open_store(tmp_path / "ours")
    run = theirs.find(small())
    for name, value in (("engine", "0" * 16), ("code", "0123456789")):
        foreign = open_store(tmp_path / name)
        foreign.save(dataclasses.replace(run, environment=run.environment | {name: value}))
        archive.write(foreign, [small().key], tmp_path / "run.zip")
        with pytest.raises(archive.ArchiveError, match="trained by other code"):
            on_ray.receive(ours, small(), (tmp_path / "run.zip").read_bytes())
        assert not ours.has(small())
    archive.write(theirs, [small().key], tmp_path / "run.zip")
    on_ray.receive(ours, small(), (tmp_path / "run.zip").read_bytes())
    assert numbers(ours.find(small())) == numbers(run)
