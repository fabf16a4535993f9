import os
import subprocess
import sys

import pytest

from trl_multiturn.evaluation import metric_path
from trl_multiturn.rewards import exact_match, f1


evaluate = pytest.importorskip("evaluate")

PREDICTIONS = ["Barack Obama", "the well-known cat", "nothing"]
REFERENCES = [["Barack Hussein Obama", "B. Obama"], ["well known cat"], ["x", "y"]]


@pytest.fixture(params=[("answer_f1", f1), ("answer_exact_match", exact_match)], ids=lambda param: param[0])
def metric(request, tmp_path):
    name, score = request.param
    return name, score, evaluate.load(metric_path(name), cache_dir=str(tmp_path))


@pytest.mark.parametrize("normalization", ["squad", "igpo"])
def test_the_mean_of_the_scores(metric, normalization):
    name, score, module = metric
    expected = sum(score(p, r, normalization) for p, r in zip(PREDICTIONS, REFERENCES, strict=True)) / 3
    result = module.compute(predictions=PREDICTIONS, references=REFERENCES, normalization=normalization)
    assert result == {name: pytest.approx(expected)}


def test_batches_one_reference_and_missing_predictions(metric):
    name, _, module = metric
    module.add_batch(predictions=["Paris", None], references=["paris", "Rome"])
    module.add(prediction="x", reference="x<|answer_split|>y")
    assert module.compute() == {name: pytest.approx(2 / 3)}


def test_rows_without_references_are_refused(metric):
    with pytest.raises(ValueError, match="no accepted answer"):
        metric[2].compute(predictions=["x", "y"], references=[["x"], []])


def test_unknown_metric():
    with pytest.raises(ValueError, match="'bleu'.*answer_exact_match, answer_f1"):
        metric_path("bleu")


def test_loads_without_a_network_in_a_fresh_home(tmp_path):
    """Another process, an empty cache, and no way out."""
    code = (
        "import socket, evaluate\n"
        "def refuse(*args, **kwargs): raise AssertionError('the network was used')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from trl_multiturn.evaluation import metric_path\n"
        "metric = evaluate.load(metric_path('answer_f1'))\n"
        "assert metric.compute(predictions=['a b'], references=[['a b']]) == {'answer_f1': 1.0}\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
