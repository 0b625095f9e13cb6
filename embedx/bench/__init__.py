"""Benchmarks: which model, layer, pooling and head is best for a task, and how fast a machine runs a model.

A run of the probe benchmark fills a folder. Later runs add to it, and every table and figure is made from its files::

    results.csv    one row per fit                        predictions/, maps/    data for figures
    about.json     commands, versions, protocols          report.html            the report, with figures/*.png

    config         options or a TOML file -> Plan         head_spec      heads as text: "PCA(128)+knn(k=3)"
    runner         Plan -> results, in processes          protocols      names for shots and seeds
    cases          data set + model -> vectors, split     fits           one setup -> results
    results        results.csv                            artifacts      the other files of the folder
    leaderboard    results -> boards with ranks           significance   intervals and paired tests
    keep_best      files for the best setups only         report/        text, figures and the HTML page

The speed benchmark is in `speed/`: measure (runs the pipeline over a sample), result, roofline (the limit of the
device), trials (other options), advice, text.
"""

from embedx.bench.config import Plan, make_plan, read_plan
from embedx.bench.runner import BenchProgress, run
from embedx.bench.speed.measure import measure_speed
from embedx.bench.speed.text import Speed

__all__ = ["BenchProgress", "Plan", "Speed", "make_plan", "measure_speed", "read_plan", "run"]
