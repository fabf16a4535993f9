"""`evaluate` module: word F1 of answers, the same function that the reward uses."""

import datasets
import evaluate

from trl_multiturn.rewards.answers import f1


_DESCRIPTION = "Word F1 between each prediction and the closest of its accepted answers, averaged."

_INPUTS = """
Args:
    predictions (`list[str]`):
        Answers, without tags. `None` where there is none: it scores 0.
    references (`list[list[str]]` or `list[str]`):
        Accepted answers of each prediction.
    normalization (`str`, *optional*, defaults to `"squad"`):
        `"squad"` or `"igpo"`.

Returns:
    `dict`: `answer_f1`, the mean over the predictions, between 0 and 1.

Examples:

    >>> metric = evaluate.load(trl_multiturn.evaluation.metric_path("answer_f1"))
    >>> metric.compute(predictions=["Barack Obama", "Paris"], references=[["Barack Hussein Obama"], ["Paris"]])
    {'answer_f1': 0.9}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class AnswerF1(evaluate.Metric):
    """Word F1 between each prediction and the closest of its accepted answers, averaged."""

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
            f1(prediction or "", list(answers) if not isinstance(answers, str) else answers, normalization)
            for prediction, answers in zip(predictions, references, strict=True)
        ]
        return {"answer_f1": sum(scores) / len(scores)}
