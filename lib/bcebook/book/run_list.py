"""The page of runs: what stands behind each chapter, and every run on a line."""

from bcebook import names
from bcebook.book import findings
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.report import markdown


def page(found: dict) -> str:
    """Markdown: what each chapter's runs are and how long they took, in each profile."""
    lines = ["# Runs", "",
             "What stands behind each chapter: how many of its runs are there, of which networks and seeds, and how "
             "long they were trained, each on the device that its chapter names. Runs that chapters share are counted "
             "in each. `bcebook runs --profile PROFILE` lists them one by one.", ""]
    for profile in PROFILES:
        pages = [page for page in findings.of_profile(found, profile) if page.of]
        rows = [[f"[{rooms()[page.chapter].title}]({page.chapter})", f"{page.runs} of {page.of}",
                 markdown.listed(names.network(*each) for each in page.networks) or markdown.DASH,
                 ", ".join(map(str, page.seeds)) or markdown.DASH,
                 f"{markdown.number(page.seconds / 60, 1)} minutes of training"]
                for page in pages]
        if rows:
            heads = ["chapter", "runs", "networks", "seeds", "time"]
            lines += [f"## Profile {profile}", "", markdown.table(heads, rows), ""]
    return "\n".join([*lines, "## Every run", "", every_run(found)])


def every_run(found: dict) -> str:
    """Markdown: one line for each run, with the chapters that show it; the page's script filters and sorts it."""
    runs, where = {}, {}
    for profile in reversed(PROFILES):
        for page in findings.of_profile(found, profile):
            for run in page.listed:
                runs[run["key"]] = run | {"profile": profile}
                where.setdefault(run["key"], []).append(rooms()[page.chapter].short)
    if not runs:
        return "No run has been shown by a chapter yet."
    write = lambda value, how: markdown.DASH if value is None else how(value)  # noqa: E731
    rows = [[names.network(run["model"], run["dataset"]), names.of(run["loss"]), names.of(run["optimizer"]),
             names.of(run["augmentation"]), f"{run['start']:g}", str(run["seed"]),
             write(run["accuracy"], markdown.percent), write(run["uniform"], markdown.percent),
             write(run["nc1"], markdown.significant), f"{markdown.number(run['minutes'], 1)} min", run["profile"],
             ", ".join(where[run["key"]]), run["settings"], run["device"], run["code"], f"`{run['key']}`"]
            for run in runs.values()]
    heads = ["network and data", "loss", "optimizer", "augmentation", "bias mean", "seed", "$A$, %",
             r"$A_\text{Uni}$, %", "NC1", "time", "profile", "chapters", "settings", "device", "code", "key"]
    return "\n".join([":::{container} every-run", "", markdown.table(heads, rows), "", ":::", ""])
