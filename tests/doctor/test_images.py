"""What the doctor finds wrong with images."""

from tests.doctor.cases import bad, found_in, only, says
from tests.tiny import call
from tests.tiny_vlm import Gallery, Watched, build_processor, encode, make_trainer, rows, scripted
from trl_multiturn import diagnose


def test_images_that_fit(tmp_path):
    with scripted():
        report = diagnose(make_trainer(tmp_path, history_images=1))
    assert bad(report) == {}
    (finding,) = [finding for finding in report.findings if finding.check == "images"]
    assert finding.severity == "ok" and finding.measured.startswith("30 images in 8 rollouts")


def test_image_tokens_of_the_policy(tmp_path):
    """It writes the image token itself, as a backend other than transformers' lets it: TRL drops all images."""
    token = build_processor().image_token_id

    def forges(text, turn, number):
        if turn == 0:
            return f"{number} " + call("look", count=1) + "<|im_end|>"
        return encode(f"{number} done") + [token] * (number % 3 == 0) + encode("<|im_end|>")

    with scripted(forges):
        found = found_in(make_trainer(tmp_path))
    says(found["images"], "error", "max_completion_length: 1200", "writing the image token")


class Swaps(Watched):
    """Gives each rollout the images of another one."""

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        output["num_images"] = output["num_images"][::-1]
        return output


def test_images_of_other_rollouts(tmp_path):
    def once(text, turn, number):
        return (
            f"{number} " + call("look", count=number % 3) + "<|im_end|>" if turn == 0 else f"{number} done <|im_end|>"
        )

    with scripted(once):
        found = found_in(make_trainer(tmp_path, trainer_class=Swaps, data=rows(8, shown=(1,))))
    says(found["images"], "error", "one image token in the text for each image")
    assert "The loss cannot be computed: RuntimeError" in found["gradient"].measured


class Blind(Gallery):
    def _show(self, count):
        return [{"type": "text", "text": "nothing"} for _ in range(count)]


def test_no_images(tmp_path):
    with scripted():
        only(make_trainer(tmp_path, environment=Blind), "images", "warning", '{"type": "image", "image": picture}')
