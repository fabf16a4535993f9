"""`evaluate` module: exact match of answers, the same function that the reward uses."""

import datasets
import evaluate

from trl_multiturn.rewards.answers import exact_match


_DESCRIPTION = "Share of predictions that equal one of their accepted answers after normalisation."

_INPUTS = """
Args:
    predictions (`list[str]`):
        Answers, without tags. `None` where there is none: it scores 0.
    references (`list[list[str]]` or `list[str]`):
        Accepted answers of each prediction.
    normalization (`str`, *optional*, defaults to `"squad"`):
        `"squad"` or `"igpo"`.

Returns:
    `dict`: `answer_exact_match`, the mean over the predictions, between 0 and 1.

Examples:

    >>> metric = evaluate.load(trl_multiturn.evaluation.metric_path("answer_exact_match"))
    >>> metric.compute(predictions=["Barack Obama", "Paris"], references=[["Barack Hussein Obama"], ["Paris"]])
    {'answer_exact_match': 0.5}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class AnswerExactMatch(evaluate.Metric):
    """Share of predictions that equal one of their accepted answers after normalisation."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": text, "references": datasets.List(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
        )

    def _compute(self, predictions, references, normalization="squad"):
        scores = [
            exact_match(prediction or "", list(answers) if not isinstance(answers, str) else answers, normalization)
            for prediction, answers in zip(predictions, references, strict=True)
        ]
        return {"answer_exact_match": sum(scores) / len(scores)}
