"""report: one HTML page that stands alone (plots inline as SVG): accuracy, learning curves, confusion, timeline.

In: the results of `evaluate`, the timing of `prepare`. Out: report.html, and a copy at --copy-to when given.
"""

import argparse
import html
import io
import json
import os
import pathlib
from datetime import datetime

import task

timing = task.Timing()

import matplotlib  # noqa: E402

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--copy-to", default="")
args = parser.parse_args()

results = json.loads(task.input_path("results").read_text())
prepared = json.loads(task.input_path("timing").read_text())
runs = results["runs"]
best = next(run for run in runs if run["index"] == results["best"])
rates = sorted({run["lr"] for run in runs})
seeds = sorted({run["seed"] for run in runs})
colours = {rate: plt.get_cmap("viridis")(i / max(1, len(rates) - 0.4)) for i, rate in enumerate(rates)}
plt.rcParams.update(
    {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
     "font.family": "sans-serif", "figure.facecolor": "none", "axes.facecolor": "none"}
)


def svg(figure):
    """The figure as an SVG element without the XML prologue."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def accuracy_plot():
    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    width = 0.8 / len(seeds)
    for position, seed in enumerate(seeds):
        of_seed = {run["lr"]: 100 * run["accuracy"] for run in runs if run["seed"] == seed}
        x = [i + (position - (len(seeds) - 1) / 2) * width for i in range(len(rates))]
        bars = axes.bar(x, [of_seed.get(rate, 0) for rate in rates], width * 0.9,
                        color=[colours[rate] for rate in rates])
        axes.bar_label(bars, [str(seed)] * len(rates), fontsize=7, padding=1)
    lowest = min(run["accuracy"] for run in runs)
    axes.set_ylim(max(0, 100 * lowest - 2), 100)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_xlabel("learning rate (a bar for each seed)")
    axes.set_ylabel("validation accuracy, %")
    return svg(figure)


def curve_plot():
    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    for run in runs:
        first_of_rate = run["seed"] == seeds[0]
        axes.plot([e["epoch"] for e in run["epochs"]], [100 * e["accuracy"] for e in run["epochs"]],
                  color=colours[run["lr"]], linewidth=1, alpha=0.85,
                  label=f"{run['lr']:g}" if first_of_rate else None)
    final = min(run["accuracy"] for run in runs)
    axes.set_ylim(max(0, 100 * final - 6), 100.3)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy, %")
    axes.legend(title="learning rate", frameon=False, fontsize=8, loc="lower right")
    return svg(figure)


def confusion_plot():
    figure, axes = plt.subplots(figsize=(4.0, 3.4))
    matrix = best["confusion"]
    axes.imshow(matrix, cmap="Blues", vmin=0)
    for row in range(10):
        for column in range(10):
            count = matrix[row][column]
            if count:
                axes.text(column, row, count, ha="center", va="center", fontsize=7,
                          color="white" if row == column else "black")
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xlabel("predicted")
    axes.set_ylabel("digit")
    return svg(figure)


def seconds(row, key, origin):
    return (datetime.fromisoformat(row[key]) - origin).total_seconds()


def timeline_plot(rows):
    """One bar for each task as the task itself measured it, coloured by worker: what ran where, and beside what."""
    origin = min(datetime.fromisoformat(row["started"]) for row in rows)
    rows = sorted(rows, key=lambda row: row["started"])
    workers = sorted({row["worker"] for row in rows})
    palette = {worker: plt.get_cmap("tab10")(i % 10) for i, worker in enumerate(workers)}
    figure, axes = plt.subplots(figsize=(10.6, 0.6 + 0.27 * len(rows)))
    for line, row in enumerate(rows):
        begin, end = seconds(row, "started", origin), seconds(row, "ended", origin)
        axes.barh(line, max(end - begin, 0.02), left=begin, height=0.7, color=palette[row["worker"]])
        axes.text(end + 0.05, line, f"{end - begin:.1f} s", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [label(row) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first task started")
    axes.legend(handles=[plt.Rectangle((0, 0), 1, 1, color=palette[w], label=w) for w in workers],
                title="worker", frameon=False, fontsize=8, loc="upper right")
    return svg(figure)


def label(row):
    index = f"[{row['index']}]" if row["index"] != "" else ""
    return f"{row['task']}{index}#{row['attempt']}"


def result_rows():
    for run in sorted(runs, key=lambda run: -run["accuracy"]):
        mark = ' class="best"' if run["index"] == best["index"] else ""
        when = run["timing"]
        took = seconds(when, "ended", datetime.fromisoformat(when["started"]))
        yield (f"<tr{mark}><td>{html.escape(label(when))}<td>{run['seed']}<td>{run['lr']:g}"
               f"<td>{100 * run['accuracy']:.2f} %<td>{run['epochs'][-1]['loss']:.4f}"
               f"<td>{took:.1f} s<td>{html.escape(when['worker'])}")


retried = sum(run["timing"]["attempt"] > 1 for run in runs)
attempts_note = f"{retried} of the {len(runs)} needed more than one attempt." if retried else "Each took one attempt."
accuracy, curves, confusion = accuracy_plot(), curve_plot(), confusion_plot()
timeline = timeline_plot([prepared, *(run["timing"] for run in runs), results["timing"], timing.finish()])
job = html.escape(os.environ.get("MUSTER_JOB_ID", "by hand"))
page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>digits: job {job}</title>
<style>
 body {{ font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; max-width: 1080px; margin: 2rem auto; padding: 0 1rem }}
 h1 {{ font-size: 1.6rem; margin-bottom: .2rem }}  h2 {{ font-size: 1.1rem; margin: 2rem 0 .3rem }}
 .lead {{ color: #55606e; margin-top: 0 }}  .row {{ display: flex; flex-wrap: wrap; gap: 1.5rem }}
 figure {{ margin: 0; flex: 1 1 360px }}  figcaption {{ color: #55606e; font-size: .85rem }}  svg {{ max-width: 100%; height: auto }}
 table {{ border-collapse: collapse; width: 100% }}  td, th {{ text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #e3e7ec }}
 .best td {{ font-weight: 600; background: #f1f8f4 }}
</style>
<h1>Handwritten digits: {100 * best['accuracy']:.2f} % right</h1>
<p class="lead">Job {job}: {len(runs)} networks trained ({len(seeds)} seeds × {len(rates)} learning rates,
{len(best['epochs'])} epochs each), validated on {results['validated']} digits that none of them saw.
The best is index {best['index']}: seed {best['seed']}, learning rate {best['lr']:g}.
{attempts_note}</p>
<h2>Accuracy</h2>
<div class="row">
<figure>{accuracy}<figcaption>By learning rate and seed; the number on a bar is the seed.</figcaption></figure>
<figure>{curves}<figcaption>After each epoch.</figcaption></figure>
</div>
<h2>Timeline</h2>
<figure>{timeline}<figcaption>Each bar is the attempt that counted, by the times it wrote itself.</figcaption></figure>
<h2>All results</h2>
<div class="row">
<figure style="flex-grow: 2"><table><tr><th>attempt<th>seed<th>rate<th>accuracy<th>loss<th>time<th>worker
{chr(10).join(result_rows())}</table></figure>
<figure>{confusion}<figcaption>Where the best one errs.</figcaption></figure>
</div>
</html>
"""
task.output_path("report.html").write_text(page, encoding="utf-8")
print(f"wrote the report: {len(page) // 1024} KiB, best accuracy {best['accuracy']:.4f}")
if args.copy_to:
    target = pathlib.Path(args.copy_to)
    part = target.with_name(f".{target.name}.part")
    part.write_text(page, encoding="utf-8")
    part.replace(target)
    print(f"copied to {target}")
