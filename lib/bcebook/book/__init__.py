"""Notebooks opened and executed, pages rendered."""


def open(name: str, profile: str = "quick", device: str = "auto", data_dir=None, seeds=None):
    """The chapter `name`, open in its notebook: a `chapter.OpenChapter`, whose missing runs are trained now."""
    from bcebook.book.chapter import OpenChapter

    return OpenChapter(name, profile, device, data_dir, seeds)
