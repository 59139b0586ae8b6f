"""What `bcebook doctor` says of this machine."""

import sys
from collections.abc import Callable
from pathlib import Path

from bcebook.chapters import catalog


def tell(folder: Path, say: Callable[[str], None]) -> None:
    """A line for each: code, versions, devices, data sets, runs and free disk of a data folder, the book."""
    import shutil
    from importlib import metadata

    from bcebook.book.build import BOOK
    from bcebook.cores import cores
    from bcebook.runs.provenance import code_version, processor
    from bcebook.runs.specs import DATASETS, STREAMED
    from bcebook.runs.store import open_store
    from bcebook.training.datasets import archive, without_folders

    say(f"code          {code_version()}")
    say(f"Python        {sys.version.split()[0]}")
    for name in ("torch", "torchvision", "numpy", "pandas", "matplotlib", "jupyterlab", "jupytext", "papermill",
                 "sphinx", "myst-nb"):
        try:
            say(f"{name:13} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            say(f"{name:13} missing")
    say(f"CPU           {processor()}, {cores()} cores for this process")
    import torch

    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        say(f"CUDA {index}        {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        say("CUDA          none: the paper profile would take days on a CPU")
    for name, spec in DATASETS.items():
        path = archive(name, folder / "datasets")
        where = f"in {path}" if path.exists() else f"not here; `bcebook data {name}` fetches it"
        say(f"{name:13} {where if spec.torchvision else 'comes with a library'}")
    for name in STREAMED:
        say(f"{name:13} {without_folders(name, folder / 'datasets') or 'its folders are there'}")
    store = open_store(folder)
    for profile in catalog.PROFILES:
        configs = catalog.all_configs(profile)
        found = sum(store.has(config) for config in configs)
        say(f"runs          {found} of {len(configs)} of the profile {profile}")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    say(f"free disk     {shutil.disk_usage(existing).free / 2**30:.0f} GiB at {folder}")
    say(f"book          {'built' if (BOOK / '_build' / 'html' / 'index.html').exists() else 'not built yet'}")


def test_gpu(out: Path, say: Callable[[str], None]) -> int:
    """Test a CUDA GPU for two minutes, write the report of `selftest` to a file, and say a line a check; 1 if one did
    not pass. Raises ValueError where there is no GPU, or nowhere to write."""
    import json

    import torch

    if not torch.cuda.is_available():
        raise ValueError("--gpu tests a CUDA GPU, and PyTorch finds none here.")
    if not out.absolute().parent.is_dir() or out.is_dir():
        raise ValueError(f"{out} cannot be written; name a file in a folder that is there.")
    from bcebook.runs import atomic
    from bcebook.training import selftest

    bench = selftest.bench(torch.device("cuda"))
    report = selftest.run(bench, lambda report: atomic.write(out, json.dumps(report, indent=1, allow_nan=False)))
    for name, check in report["checks"].items():
        figures = ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                            for key, value in check["figures"].items())
        say(f"{check['status']:6} {name}: {check['why'] or figures}")
    say(f"written to {out}: please send this file home")
    return 1 if any(check["status"] != "pass" for check in report["checks"].values()) else 0
