"""The library behind the reproduction book of "BCE vs. CE in Deep Feature Learning" (ICML 2025).

One module, one idea. `theory`, `losses`, `metrics`, `stats`, `paper` and `plots` know nothing of training; `config`, `data`
and `models` describe a run; `train` and `store` make and keep it; `catalog`, `chapter`, `build` and `cli` make the book.
Importing this package imports nothing else, so that the command line starts at once.
"""

__version__ = "0.1.0"
