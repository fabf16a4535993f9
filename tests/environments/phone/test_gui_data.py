import json
import logging
import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.utils.chat_template_utils import render_jinja_template
from trl.chat_template_utils import qwen3_vl_chat_template
from trl.data_utils import prepare_multimodal_messages

from trl_multiturn.environments.phone.actions import Action, parse_action
from trl_multiturn.environments.phone.layout import Box
from trl_multiturn.environments.phone.trajectory import GuiStep, GuiTrajectory
from trl_multiturn.image_history import OMITTED_IMAGE
from trl_multiturn.recipes.gui_data import (
    load_mobile_r1,
    resize_trajectory,
    save_mobile_r1,
    step_dataset,
    step_rows,
)

from .gui_case import SIZE, screenshot, trajectory


def rendered(messages):
    (text,), _ = render_jinja_template([messages], chat_template=qwen3_vl_chat_template)
    return text


def live_messages(case, upto, history_images):
    """The conversation of a live rollout, as TRL holds it: screenshots in the tool's messages."""

    def image(i):
        shown = i > upto - history_images
        return {"type": "image"} if shown else {"type": "text", "text": OMITTED_IMAGE}

    user = {"role": "user", "content": [{"type": "text", "text": case.instruction}, image(0)]}
    messages = [{"role": "system", "content": case.system}, user]
    for i, step in enumerate(case.trajectory[:upto]):
        call = {"type": "function", "function": step.call.to_call()}
        content = f"<think>{step.thought}</think>\n<action>{step.action}</action>"
        messages.append({"role": "assistant", "content": content, "tool_calls": [call]})
        messages.append({"role": "tool", "name": "mobile_use", "content": [image(i + 1)]})
    return messages


def write(folder, *records):
    (folder / "images").mkdir(exist_ok=True)
    screenshot(7).save(folder / "images" / "a.png")
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (folder / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def record(step=None, **changes):
    """A record with the fields that the published data's card lists."""
    call = {"name": "mobile_use", "arguments": {"action": "click", "coordinate": [100, 200]}}
    first = {
        "image": "a.png",
        "thought": "首页。",
        "subtask": "点击搜索。",
        "action": json.dumps(call),
        "response": "<think>...",
    }
    values = {"app_name": "闲鱼", "trajectory_length": 1, "instruction": "搜索", "system": "你是助手"}
    values |= {"image_width": 392, "image_height": 784, "trajectory": [first | (step or {})]}
    return values | changes


@pytest.mark.parametrize("history_images", [1, 2, 9])
def test_rows_are_rendered_like_a_live_rollout(history_images):
    case = trajectory()
    for row in step_rows([case], history_images):
        prompt = prepare_multimodal_messages(row["prompt"], images=row["images"])
        assert rendered(prompt) == rendered(live_messages(case, row["step"], history_images))


def test_rows_of_a_trajectory():
    case = trajectory()
    rows = list(step_rows([case, case]))
    assert [(row["trajectory"], row["step"]) for row in rows] == [(t, s) for t in (0, 1) for s in (0, 2, 3, 4)]
    assert [row["correction"] for row in rows[:4]] == [False, True, False, False]
    for row in rows:
        assert row["images"] == [case.trajectory[row["step"]].image]
        (reply,) = row["completion"]
        parsed = parse_action(reply, tuple(row["image_size"]), row["coordinate_space"])
        assert parsed.action == case.trajectory[row["step"]].call
    assert json.loads(rows[2]["ground_truth"]) == {"action": "click", "box": [0, 112, 392, 168]}
    assert rows[2]["prompt"][0] == {"role": "system", "content": [{"type": "text", "text": "You operate a phone."}]}
    # The mistake is history: the model sees what it corrects.
    assert "Tap Meeting." in rows[2]["prompt"][4]["content"][0]["text"]


@given(st.integers(1, 6), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_as_many_images_as_places_for_them(steps, history_images):
    case = trajectory()
    case = replace(case, trajectory=[replace(case.trajectory[3], image=screenshot(i)) for i in range(steps)])
    for i, row in enumerate(step_rows([case], history_images)):
        parts = [part for message in row["prompt"] for part in message["content"]]
        places = [
            part.get("text", "image")
            for part in parts
            if part in ({"type": "image"}, {"type": "text", "text": OMITTED_IMAGE})
        ]
        shown = min(history_images, i + 1)
        assert places == [OMITTED_IMAGE] * (i + 1 - shown) + ["image"] * shown
        assert [image.getpixel((0, 0))[0] for image in row["images"]] == list(range(i + 1 - shown, i + 1))


def test_norm1000_and_no_system_prompt():
    row = list(step_rows([trajectory(system="")], coordinate_space="norm1000"))[2]
    assert row["prompt"][0]["role"] == "user"
    text = row["completion"][0]["content"][0]["text"]
    assert '"coordinate": [501, 179]' in text and row["coordinate_space"] == "norm1000"
    assert parse_action(text, SIZE, "norm1000").action.coordinate == (196, 140)
    assert "[501, 107]" in row["prompt"][3]["content"][0]["text"]


def test_rows_that_cannot_be_made():
    case = trajectory()
    with pytest.raises(ValueError, match="history_images must be at least 1"):
        list(step_rows([case], 0))
    case.trajectory[3] = replace(case.trajectory[3], box=None)
    with pytest.raises(ValueError, match="Trajectory 0, step 3: a click needs the box"):
        list(step_rows([case]))
    case.trajectory[0] = replace(case.trajectory[0], image=None)
    with pytest.raises(ValueError, match="Trajectory 0, step 0: a step has no screenshot"):
        list(step_rows([case]))


def test_dataset_of_rows(tmp_path):
    save_mobile_r1([trajectory()], tmp_path)
    for trajectories in ([trajectory()], load_mobile_r1(tmp_path)):
        dataset = step_dataset(trajectories, history_images=2)
        assert len(dataset) == 4
        row = dataset[2]
        assert [image.getpixel((0, 0)) for image in row["images"]] == [(2, 4, 253), (3, 6, 252)]
        prompt = prepare_multimodal_messages(row["prompt"], images=row["images"])
        assert rendered(prompt) == rendered(live_messages(trajectory(), 3, 2))
        assert row["app"] == "Notes" and row["split"] == "train" and row["image_size"] == [392, 784]


def test_what_is_saved_is_loaded_again(tmp_path):
    case = trajectory()
    assert save_mobile_r1([case, case], tmp_path) == 2
    loaded = load_mobile_r1(tmp_path)
    assert len(loaded) == 2
    for saved, read in zip(case.trajectory, loaded[1].trajectory, strict=True):
        assert replace(read, image=None) == replace(saved, image=None)
        assert read.open_image().tobytes() == saved.image.tobytes()
    assert replace(loaded[0], trajectory=[]) == replace(case, trajectory=[])
    fields = set(json.loads((tmp_path / "data.jsonl").read_text(encoding="utf-8").splitlines()[0]))
    assert fields >= {"app_name", "trajectory_length", "instruction", "system", "image_width", "image_height"}
    with pytest.raises(FileExistsError):
        save_mobile_r1([case], tmp_path)


def test_nothing_half_written_looks_complete(tmp_path):
    bad = replace(trajectory(), image_width=400)
    with pytest.raises(ValueError, match=r"trajectory 1, step 0: the screenshot is \(392, 784\), not \(400, 784\)"):
        save_mobile_r1([trajectory(), bad], tmp_path)
    with pytest.raises(FileNotFoundError):
        load_mobile_r1(tmp_path)


def test_the_published_form(tmp_path):
    folder = write(tmp_path, record(), record({"image": "images/a.png"}, extra=[1], system=""))
    first, second = load_mobile_r1(folder)
    assert (first.app_name, first.instruction, first.trajectory[0].action) == ("闲鱼", "搜索", "点击搜索。")
    assert first.trajectory[0].call == Action("click", (100, 200)) and first.trajectory[0].box is None
    assert second.trajectory[0].open_image().size == SIZE
    (marked, _) = load_mobile_r1(folder, point_margin=0.06)
    assert marked.trajectory[0].box == Box(76, 176, 124, 224)
    assert [row["ground_truth"] for row in step_rows([marked])] == ['{"action": "click", "box": [76, 176, 124, 224]}']


@pytest.mark.parametrize(
    "bad, expected",
    [
        ({"app_name": "x"}, "trajectory_length: Field required"),
        (record(trajectory_length=2), "trajectory_length is 2, but there are 1 steps"),
        (record(trajectory=[], trajectory_length=0), "trajectory: List should have at least 1"),
        (record(image_width="392"), "image_width: Input should be a valid integer"),
        (record(image_width=-1), "image_width: Input should be greater"),
        (record(image_height=800), r"trajectory.0: image 'a.png' is \(392, 784\), not \(392, 800\)"),
        (record({"action": {"name": "mobile_use"}}), "trajectory.0.action: Input should be a valid string"),
        (record({"action": "{"}), "trajectory.0: The call is no JSON"),
        (record({"action": '{"name": "mobile_use", "arguments": {"action": "Tap"}}'}), 'got "Tap"'),
        (record({"thought": "</think>"}), "a part of a reply"),
        (record({"subtask": ""}), "a part of a reply"),
        (record({"box": [0, 0, 10]}), "trajectory.0.box.3: Field required"),
        (record({"box": [0, 0, 400, 10]}), "is none on a screen"),
        (record({"box": [9, 0, 4, 10]}), "is none on a screen"),
        (record({"image": "missing.png"}), "FileNotFoundError"),
        (record({"image": "../data.jsonl"}), "is not a file of images/"),
        (record({"image": "images/../../secret.png"}), "is not a file of images/"),
        (record({"image": "/etc/passwd"}), "is not a file of images/"),
        (record({"image": "link.png"}), "is not a file of images/"),
        (record({"image": "a\0.png"}), "is not a file of images/"),
        (record({"image": ""}), "is not a file of images/"),
        (record({"image": "text.png"}), "UnidentifiedImageError"),
        (record({"image": "images"}), "IsADirectoryError"),
    ],
)
def test_bad_records(tmp_path, bad, expected, caplog):
    folder = write(tmp_path, record(), bad)
    Image.new("RGB", SIZE).save(tmp_path / "secret.png")
    os.symlink(tmp_path / "secret.png", folder / "images" / "link.png")
    (folder / "images" / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=rf"data.jsonl, line 2: .*{expected}"):
        load_mobile_r1(folder)
    with caplog.at_level(logging.WARNING):
        assert len(load_mobile_r1(folder, skip_bad=True)) == 1
    assert "Left out 1 of 2 trajectories: 1 for" in caplog.text


@given(st.integers(0, 391), st.integers(0, 783), st.integers(1, 900), st.integers(1, 900))
@settings(max_examples=200, deadline=None)
def test_a_resized_point_stays_in_its_box(x, y, width, height):
    box = Box(x, y, min(x + 40, 392), min(y + 40, 784))
    step = GuiStep(None, "a", "b", Action("click", (x, y)), box)
    case = resize_trajectory(GuiTrajectory("a", "b", "", *SIZE, [step]), (width, height))
    (moved,) = case.trajectory
    assert moved.box.contains(*moved.call.coordinate)
    assert 0 <= moved.call.coordinate[0] < width and 0 <= moved.call.coordinate[1] < height


def test_resized_images():
    case = resize_trajectory(trajectory(), (98, 196))
    assert {step.image.size for step in case.trajectory} == {(98, 196)}
    assert (case.image_width, case.image_height) == (98, 196)
    assert len(list(step_rows([case]))) == 4
