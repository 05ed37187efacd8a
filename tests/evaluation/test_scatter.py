import numpy as np
from matplotlib.text import Annotation

from evaluation import scatter
from tests.evaluation.runs import MODELS, add_run, summary_of


def test_the_plot_labels_every_point_and_no_label_covers_another(tmp_path):
    names = ("native", "max", "avg", "stochastic", "soft", "blur", "aps", "lp", "mixed", "subsample")
    draw = np.random.default_rng(0)
    for model in MODELS:
        for name in names:
            for seed in range(2):
                figures = {"accuracy": 0.9 + draw.normal(0, 0.004), "consistency": 0.93 + draw.normal(0, 0.004)}
                add_run(tmp_path, model=model, pooling=name, seed=seed, **figures)
    figure = scatter.draw(summary_of(tmp_path))
    figure.savefig(tmp_path / "plot.png")
    (axes,) = figure.axes
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert sorted(label.get_text() for label in labels) == sorted(names * 2)
    inside = axes.get_window_extent().padded(1)
    # Annotation's extent holds its line too: Text's own is the label alone.
    boxes = [super(Annotation, label).get_window_extent() for label in labels]
    for i, box in enumerate(boxes):
        assert inside.contains(box.x0, box.y0)
        assert inside.contains(box.x1, box.y1)
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_points_stay_apart_however_long_their_bars(tmp_path):
    for name, accuracy in (("max", 0.90), ("blur", 0.92)):
        for seed in range(2):
            add_run(tmp_path, pooling=name, seed=seed, accuracy=accuracy + seed / 50, consistency=accuracy)
    (axes,) = scatter.draw(summary_of(tmp_path)).axes
    low, high = axes.get_ylim()
    assert low < 0.91 < 0.93 < high
    assert high - low < 0.08  # the bars alone are 0.25 long
