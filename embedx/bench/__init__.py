"""Bench: which model, layer, pooling and head to take, measured so that it can be believed.

A run fills a folder, later runs extend it, and everything shown is made from what is in it alone::

    results.csv    one row per fit (`table`)                 predictions/, maps/    what figures need (`evidence`)
    about.json     commands, versions, protocols (`evidence`)
    report.html    the report, with figures/*.png (`report`)

    plan           options or a file -> what to run      cases        data + model -> vectors and their split
    setups         heads as text                         fits         one setup -> results
    runner         all of a plan, in processes           keepsakes    what of it a report needs
    significance   intervals, paired tests           figures       layer and few-shot curves, and their style
    leaderboard    results -> boards, ranks, marks   diagnostics   confusion, reliability, classes
    verdict        what a board says, fairly         maps          vectors -> two dimensions, and their picture
    listing        boards -> text of four kinds      page          the HTML around the report

and how fast a machine is with a model::

    speed          runs over a sample -> its pace    sample        part of a source, or made noise
    pace           the figures of it                 trials        other ways, tried out
    advice         a pace -> what would help         sheet         all of it as text
"""

from embedx.bench.config import Plan, make_plan, read_plan
from embedx.bench.runner import Progress, run
from embedx.bench.speed.measure import measure_speed
from embedx.bench.speed.text import Speed

__all__ = ["Plan", "Progress", "Speed", "make_plan", "measure_speed", "read_plan", "run"]
